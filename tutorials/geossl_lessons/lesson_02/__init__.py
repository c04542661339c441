"""Code of lesson 02."""

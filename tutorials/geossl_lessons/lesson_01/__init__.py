"""Code of lesson 01."""

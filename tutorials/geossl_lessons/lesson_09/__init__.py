"""Code of lesson 09."""

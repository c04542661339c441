"""Code of lesson 03."""

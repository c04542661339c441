"""Code of lesson 00."""

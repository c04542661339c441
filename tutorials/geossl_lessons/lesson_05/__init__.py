"""Code of lesson 05."""

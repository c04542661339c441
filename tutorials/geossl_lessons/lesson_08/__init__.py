"""Code of lesson 08."""

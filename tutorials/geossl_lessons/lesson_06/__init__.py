"""Code of lesson 06."""

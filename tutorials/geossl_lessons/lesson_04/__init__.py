"""Code of lesson 04."""

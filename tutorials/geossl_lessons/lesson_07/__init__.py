"""Code of lesson 07."""

"""Copies of the lessons, timed runs, the site and the workshop bundle."""

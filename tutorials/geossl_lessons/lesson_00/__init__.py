"""Helpers of lesson 00."""

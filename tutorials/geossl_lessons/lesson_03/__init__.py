"""Helpers of lesson 03."""

"""Helpers of lesson 01."""

"""Helpers of lesson 02."""

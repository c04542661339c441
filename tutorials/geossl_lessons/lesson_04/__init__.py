"""Helpers of lesson 04."""

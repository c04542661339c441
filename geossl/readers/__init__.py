"""Readers: the scene table of a folder first, the pixels of a row only when the chip store asks."""

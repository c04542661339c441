"""The command line."""

from geossl.cli.main import main

__all__ = ["main"]

"""The command line; `geossl.cli.main.main` runs it."""

__all__: list[str] = []

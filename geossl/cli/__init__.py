"""The command line: `geossl.cli.main` runs it."""

"""Run the command line: ``python -m geossl``."""

from geossl.cli.main import main

main()

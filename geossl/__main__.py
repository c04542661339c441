"""``python -m geossl``."""

from geossl.cli.main import main

main()

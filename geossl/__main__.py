"""``python -m geossl``."""

from geossl.cli import main

main()

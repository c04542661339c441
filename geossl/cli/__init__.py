"""The commands of the command line, one frozen dataclass each; `geossl.cli` runs them."""

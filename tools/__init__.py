"""Tools of this repository, which are not in the wheel."""

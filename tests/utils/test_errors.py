"""Errors are worded for the one who called, and stay of their kind."""

import pytest

from geossl.models.state_dicts import CheckpointError
from geossl.utils.errors import rename_argument


def test_an_argument_is_renamed_and_the_kind_of_the_error_stays():
    with pytest.raises(CheckpointError, match=r"^`encoder` of name\.pth must be 3\.$"):
        with rename_argument("name", "encoder"):
            raise CheckpointError("`name` of name.pth must be 3.")
    with pytest.raises(UnicodeDecodeError), rename_argument("name", "encoder"):
        b"\xff".decode("utf-8")
    with rename_argument("name", "encoder"):
        pass

import time

import pytest

from geossl.utils.patterns import compile_pattern


def test_matches_are_those_of_the_standard_library():
    pattern = compile_pattern("location", r"(?<!\d)(\d{2})_(\w+)$")
    match = pattern.search("a_12_north")
    assert pattern.groups == 2 and match.group(0, 1, 2) == ("12_north", "12", "north")
    assert pattern.search("x") is None and compile_pattern("location", ".").search("\n")


@pytest.mark.parametrize(
    "pattern", ["(", "[", "*a", "(?P<a>x)(?P<a>y", "(?:" * 3000 + "a" + ")" * 3000]
)
def test_what_is_no_regular_expression_is_refused(pattern):
    with pytest.raises(ValueError, match="`location` must be a regular expression, got "):
        compile_pattern("location", pattern)


def test_a_search_that_takes_for_ever_is_stopped():
    start = time.process_time()
    with pytest.raises(ValueError, match="`location` must match a name within 1 s.*repeat inside"):
        compile_pattern("location", r"^(\w|\w\w)+$").search("a" * 70 + "!")
    assert time.process_time() - start < 10

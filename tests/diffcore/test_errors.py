"""What a card lacks is named in one line."""

from __future__ import annotations

import pytest

from diffcore.errors import ConfigError, reading


@pytest.mark.parametrize(
    ("value", "named"),
    [({}, "'width'"), ({"width": None}, "NoneType"), ({"width": "wide"}, "'wide'"), (7, "int")],
)
def test_a_value_that_is_not_what_was_expected_is_named(value: object, named: str) -> None:
    with pytest.raises(ConfigError, match=f"not a size: .*{named}"), reading("a size"):
        int(value["width"])  # type: ignore[index]


def test_what_can_be_read_is_read_and_other_faults_stay_as_they_are() -> None:
    with reading("a size"):
        found = int({"width": "3"}["width"])
    assert found == 3
    with pytest.raises(ZeroDivisionError), reading("a size"):
        _ = 1 / (found - 3)

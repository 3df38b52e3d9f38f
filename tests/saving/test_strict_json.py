"""JSON with bounds."""

import pytest

from recurrax.saving import Limits, LoadError
from recurrax.saving.strict_json import parse


def test_a_value_comes_back():
    assert parse(b'{"a": [1, 2.5, null, true, "x"]}', "It") == {"a": [1, 2.5, None, True, "x"]}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ('{"a": 1e999}', "1e999 is not finite"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"a": ', "not valid JSON"),
        ("", "not valid JSON"),
        ("\ud800", "not valid JSON"),
        ("[" * 201 + "]" * 201, "json_depth=200"),
        ("[" * 100_000, "not valid JSON"),
        ("[" * 100_000 + "]" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_plain_data_is_refused(text, complaint):
    with pytest.raises(LoadError, match=complaint):
        parse(text, "It")


def test_more_than_the_limits_is_refused_before_it_is_parsed():
    with pytest.raises(LoadError, match="json_bytes=10"):
        parse(b"[" * 11, "It", Limits(json_bytes=10))
    with pytest.raises(LoadError, match="json_values=10"):
        parse(b"[[],[],[],[],[],[]]", "It", Limits(json_values=10))

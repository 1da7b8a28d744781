"""How deep JSON is nested, told from its bytes."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.json_depth import PIECE, deeper_than, may_be_deeper

TRICKY = st.sampled_from(["", "[", "{", "]}", '"', "\\", '\\"', '"[', "\\[", "\n", "é"])
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | TRICKY, lambda inner: st.lists(inner) | st.dictionaries(TRICKY, inner)
)


def depth(value: Any) -> int:
    """Levels of arrays and objects."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(value=VALUES, most=st.integers(1, 6), indented=st.booleans())
def test_the_depth_is_that_of_the_document(value: Any, most: int, indented: bool) -> None:
    document = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indented else 0)

    assert deeper_than(document, most) == (depth(value) > most)


@given(value=VALUES, most=st.integers(1, 6))
def test_a_rough_look_never_overlooks_a_deep_line(value: Any, most: int) -> None:
    line = orjson.dumps(value)

    assert may_be_deeper(b"1\n" + line + b"\n2", most) or not deeper_than(line, most)


@pytest.mark.parametrize("before", [0, 1, PIECE - 1, PIECE, PIECE + 1])
def test_a_deep_value_is_found_wherever_it_is(before: int) -> None:
    flat = b"[" + b"[]," * before

    assert not deeper_than(flat + b"[" * 9 + b"]" * 10, 10)
    assert deeper_than(flat + b"[" * 10 + b"]" * 11, 10)

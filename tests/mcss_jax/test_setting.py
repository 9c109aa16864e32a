"""What a setting may be: bounds, kinds and choices told apart, and in words that a user can act on."""

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcss_jax.setting import Bounds, problem

numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(numbers, st.integers(-3, 3), st.integers(-3, 3))
def test_bounds_are_those_of_arithmetic(value: float, low: int, high: int) -> None:
    finite = math.isfinite(value)
    assert Bounds(at_least=low).allow(value) == (finite and value >= low)
    assert Bounds(above=low).allow(value) == (finite and value > low)
    assert Bounds(above=low, at_most=high).allow(value) == (finite and low < value <= high)
    assert Bounds(at_least=low, at_most=high).allow(value) == (finite and low <= value <= high)


@pytest.mark.parametrize(
    ("bounds", "whole", "words"),
    [
        (Bounds(at_least=1), True, "at least 1"),
        (Bounds(at_least=0), False, "a finite number of at least 0"),
        (Bounds(above=0), False, "a finite number above 0"),
        (Bounds(at_least=0, at_most=1), False, "a number from 0 to 1"),
        (Bounds(above=0, at_most=2, reason="it is so"), False, "a number in (0, 2]: it is so"),
    ],
)
def test_bounds_in_words(bounds: Bounds, whole: bool, words: str) -> None:
    assert bounds.words(whole) == words


def test_kinds_are_told_apart() -> None:
    assert problem(1, float) is None and problem(1.5, float) is None and problem(True, bool) is None
    assert problem(True, float) and problem(1.5, int) and problem(1, bool) and problem("1", int)
    assert problem(18, Literal[18, 34]) is None
    for other in (19, True, "18", 18.0):
        assert problem(other, Literal[18, 34]) == "one of 18, 34"

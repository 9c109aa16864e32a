"""The tests' own reading of messages: facts in any words and order, and never a part of a number or name."""

import pytest

from mcss_jax.errors import UserError
from tests.refusals import refused, says


def test_facts_stand_in_any_order() -> None:
    says("a/b.mp4: camera 4 has 24 frames; use --every=2", "--every=2", "24", "camera 4", "a/b.mp4")


@pytest.mark.parametrize("fact", ["4", "frame", "every", "b.mp"])
def test_a_part_of_a_word_is_no_fact(fact: str) -> None:
    with pytest.raises(AssertionError, match="lacks"):
        says("a/b.mp4: 24 frames; use --everyone", fact)


def test_the_kind_of_error_counts() -> None:
    with refused("24"):
        raise UserError("there are 24")
    with pytest.raises(ValueError, match="24"), refused("24"):
        raise ValueError("there are 24")
    with refused("24", kind=OSError) as raised:
        raise OSError("there are 24")
    assert str(raised.value) == "there are 24"

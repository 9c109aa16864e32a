"""What a refusal must say, by its facts: the file, the number, the remedy; the words around them are free."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcss_jax.errors import UserError


def says(message: str, *facts: str) -> None:
    """Fails unless `message` holds each of `facts` as whole words, in any order: "4" is not in "24 instants"."""
    absent = [fact for fact in facts if not re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", message)]
    assert not absent, f"the message lacks {absent}: {message}"


@contextmanager
def refused(*facts: str, kind: type[Exception] = UserError) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """What runs inside raises `kind`, and the message states every one of `facts`."""
    with pytest.raises(kind) as raised:
        yield raised
    says(str(raised.value), *facts)

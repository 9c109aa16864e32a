"""What a Beam runner raises for a take that fails: our sentence, where there is one in it."""

import pytest

from launch.preparation import beam_staging
from mcss_jax.errors import UserError

TRACEBACK = """Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1501, in process
mcss_jax.errors.UserError: a.mp4: the file is empty (0 bytes); a video was expected. [while running 'Map(cut)']
"""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("a.mp4: is empty [while running 'Map(cut)']"), "a.mp4: is empty"),
        (RuntimeError(TRACEBACK), "a.mp4: the file is empty (0 bytes); a video was expected."),
        (RuntimeError("UserError: a\nb"), "a"),
        (RuntimeError("KeyError: 'a' [while running 'Map(cut)']"), ""),
        (RuntimeError("no UserError: at all"), ""),
    ],
)
def test_sentences_are_found(error: Exception, message: str) -> None:
    assert beam_staging.user_error_text(error) == message

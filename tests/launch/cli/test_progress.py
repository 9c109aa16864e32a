import io
import re

import pytest

from launch.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_loop_is_unchanged(stream):
    assert list(progress.bar(range(5), "count", stream=stream())) == [0, 1, 2, 3, 4]


def test_a_terminal_gets_one_line_that_is_redrawn():
    stream = Terminal()
    with progress.bar(3, "train", "step", stream=stream) as shown:
        shown.update(3)
    text = stream.getvalue()
    assert "\r" in text and text.count("\n") == 1
    assert "train: 100%" in text and "3/3" in text


def test_a_log_file_gets_plain_lines_with_rate_and_remaining_time():
    stream = io.StringIO()
    for _ in progress.bar(iter(range(4)), "render", "image", total=4, stream=stream, interval=0):
        pass
    text = stream.getvalue()
    assert text.isprintable() or set(re.findall(r"[^\x20-\x7e]", text)) == {"\n"}
    lines = text.splitlines()
    assert 2 <= len(lines) <= 6 and all(line.startswith("render:") for line in lines)
    assert re.search(r"100%\|#+\| 4/4 \[\d\d:\d\d<\d\d:\d\d, .* image/s\]", lines[-1])


def test_a_long_interval_gives_the_first_and_the_last_line_only():
    stream = io.StringIO()
    for _ in progress.bar(range(1000), "quick", stream=stream):
        pass
    assert len(stream.getvalue().splitlines()) == 2


def test_a_resumed_run_starts_where_it_was():
    stream = io.StringIO()
    with progress.bar(10, "train", initial=5, stream=stream):
        pass
    assert " 5/10 [" in stream.getvalue()


def test_a_line_goes_above_the_bar(capsys):
    terminal = Terminal()
    with progress.bar(2, "train", stream=terminal):
        progress.say("step 1")
    assert capsys.readouterr().out == "step 1\n"

"""The progress of an edit, on a terminal and in a file, by a clock that the test sets."""

import io

import pytest

from neural_photo_editor.api.stream import Progress
from neural_photo_editor.cli.progress_line import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_that_changes_and_goes_away() -> None:
    terminal, times = Terminal(), iter([10.0, 12.0, 12.5])
    line = ProgressLine(terminal, clock=lambda: next(times))
    for step in (1, 5, 6):
        line.show(Progress(step, 406))
    line.close()
    line.close()
    shown = terminal.getvalue().split("\r")
    assert "\n" not in terminal.getvalue()
    assert shown == [
        "",
        "npe: step 1 of 406\x1b[K",
        "npe: step 5 of 406, 2.0 a second, 3 min 20 s left\x1b[K",
        "npe: step 6 of 406, 2.0 a second, 3 min 20 s left\x1b[K",
        "\x1b[K",
    ]


def test_elsewhere_it_is_a_line_for_every_tenth() -> None:
    file, times = io.StringIO(), iter(range(1000))
    line = ProgressLine(file, clock=lambda: float(next(times)))
    for step in range(1, 201):
        line.show(Progress(step, 200))
    line.close()
    lines = file.getvalue().splitlines()
    assert lines[0] == "npe: step 20 of 200, 1.0 a second, 3 min 0 s left"
    assert lines[-1] == "npe: step 200 of 200, 1.0 a second, 0 s left"
    assert len(lines) == 10


@pytest.mark.parametrize("steps", [(4, 4), (4, 3)])
def test_a_step_that_comes_again_has_no_rate(steps: tuple[int, int]) -> None:
    terminal = Terminal()
    times = iter([1.0, 2.0])
    line = ProgressLine(terminal, clock=lambda: next(times))
    for step in steps:
        line.show(Progress(step, 4))
    assert f"\rnpe: step {steps[1]} of 4\x1b[K" in terminal.getvalue()

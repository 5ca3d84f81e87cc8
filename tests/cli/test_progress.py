from __future__ import annotations

import json
import time

import pytest

from byre.cli import progress as module
from byre.cli.output import Output
from byre.cli.progress import Progress, bar_line, start_progress


class Terminal:
    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        raise OSError


def test_no_terminal_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress("reading", 100) as bar:
        bar.started -= 10
        bar._next_draw = 0
        bar.advance(50)
    assert capsys.readouterr().err == ""


def test_json_lines_end_with_a_finished_one(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.configure(progress="json")
    with out.progress("reading", 100) as bar:
        bar.advance(60)
        bar.advance(40)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["schema"] for line in lines} == {"byre/progress/1"}
    assert lines[-1]["done"] == lines[-1]["total"] == 100 and lines[-1]["finished"] is True
    assert not any(line["finished"] for line in lines[:-1])


def test_a_job_cut_short_is_not_called_finished(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.configure(progress="json")
    with pytest.raises(KeyboardInterrupt), out.progress("reading", 100):
        raise KeyboardInterrupt
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["finished"] is False


def test_a_bar_waits_a_second_then_draws_and_leaves_the_line_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    bar = start_progress("converting", 1000, mode="auto")
    clock[0] = 100.9
    bar.advance(400)
    assert terminal.text == ""
    clock[0] = 101.1
    bar.advance(100)
    assert "converting" in terminal.text and " 50%" in terminal.text
    bar.close()
    assert terminal.text.endswith("\r\x1b[K")


def test_a_dumb_terminal_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert type(start_progress("x", 1, mode="auto")) is Progress


@pytest.mark.parametrize("width", [10, 20, 39, 60, 79, 200])
@pytest.mark.parametrize("total", [None, 1 << 30])
def test_a_bar_never_wraps(width: int, total: int | None) -> None:
    progress = Progress("converting disk", total)
    progress.done = 300 << 20
    assert len(bar_line(progress, 2.0, width)) <= width


def test_a_terminal_without_unicode_gets_plain_signs() -> None:
    progress = Progress("reading", 100)
    progress.done = 50
    bar_line(progress, 1.0, 79, unicode=False).encode("ascii")


def test_long_times_are_told_in_minutes_and_hours() -> None:
    progress = Progress("reading", 1 << 40)
    progress.done = 1 << 30
    assert "17 min left" in bar_line(progress, 1.0, 100)
    assert "2 h 51 min left" in bar_line(progress, 10.0, 100)


def test_steps_have_a_number_and_no_speed() -> None:
    progress = Progress("audit: system", 8, "steps")
    progress.done = 3
    line = bar_line(progress, 4.0, 79)
    assert "3 of 8  4 s" in line
    assert "/s" not in line
    assert len(bar_line(progress, 4.0, 20)) <= 20


def test_a_long_step_is_drawn_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody calls advance meanwhile: the bar would otherwise stand still, or never appear."""
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    drawn: list[int] = []

    class Drawing(Progress):
        def draw(self, now: float) -> None:
            drawn.append(self.done)

    bar = Drawing("audit", 8, "steps")
    bar.started = bar._next_draw = 0.0
    monkeypatch.setattr(module, "REDRAW_SECONDS", 0.01)
    with module.ticking(bar):
        bar.done = 5
        until = time.monotonic() + 60
        while drawn.count(5) < 3 and time.monotonic() < until:
            time.sleep(0.01)
    assert drawn.count(5) >= 3
    assert drawn[-1] == 5


def test_things_whose_number_isnt_known_are_counted_and_have_no_speed() -> None:
    progress = Progress("changing", None, "names")
    assert bar_line(progress, 3.0, 79) == "changing  3 s"
    progress.done = 6528
    assert bar_line(progress, 3.0, 79) == "changing  6528 names  3 s"
    assert bar_line(progress, 3.0, 10) == "changing  "

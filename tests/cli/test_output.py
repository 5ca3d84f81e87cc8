from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from byre.cli.crash import describe_crash, redact
from byre.cli.layout import facts, table
from byre.cli.output import Output, printable
from byre.cli.terminal import TerminalPrinter
from byre.errors import MissingError


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    sizes: tuple[int, ...]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcode 猫", "plain Ünïcode 猫"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("two\nlines\tand\r", "two\\x0alines\\x09and\\x0d"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("c1 \x9b", "c1 \\x9b"),
    ],
)
def test_a_guests_text_cannot_drive_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_json_knows_dataclasses_numpy_paths_and_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    payload = {"fact": Fact("a", (1, 2)), "n": np.int64(5), "path": Path("x"), "raw": b"\x01\xff", "none": None}
    Output(json=True).result("info", payload, lambda console: pytest.fail("text under --json"))
    assert json.loads(capsys.readouterr().out) == {
        "schema": "byre/info/1",
        "fact": {"name": "a", "sizes": [1, 2]},
        "n": 5,
        "path": "x",
        "raw": "01ff",
        "none": None,
    }


def test_json_refuses_what_has_no_form() -> None:
    with pytest.raises(TypeError):
        Output(json=True).json_line({"x": object()})


def test_lines_stay_away_under_json_and_notices_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=True)
    out.line("a result")
    out.notice("left behind: 2 snapshots")
    told = capsys.readouterr()
    assert told.out == "" and told.err == "byre: left behind: 2 snapshots\n"


def test_errors_go_to_stderr_and_with_json_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    error = MissingError("no such file", path="x")
    Output().error(error)
    Output(json=True).error(error)
    told = capsys.readouterr()
    assert told.err == "byre: x: no such file.\n" and json.loads(told.out)["error"] == "missing"


def test_a_table_loses_nothing_however_narrow_the_terminal() -> None:
    buffer = io.StringIO()
    console = TerminalPrinter(buffer, width=20)
    table(console, ("ID", "NAME"), [("1", "a very long name of a snapshot"), ("10", "猫\x1b")], right=("ID",))
    lines = buffer.getvalue().splitlines()
    assert lines == ["  ID  NAME", "   1  a very long name of a snapshot", "  10  猫\\x1b"]


def test_facts_stand_under_each_other() -> None:
    buffer = io.StringIO()
    facts(TerminalPrinter(buffer, width=80), [("a", "1"), ("longer", "[bold]2")])
    assert buffer.getvalue() == "  a       1\n  longer  [bold]2\n"


def test_what_is_reported_holds_no_tokens() -> None:
    assert redact("'https://me:pw@host/a.qcow2?sig=abc'") == "'https://host/a.qcow2?..."
    assert redact("xp.qcow2@clean /a/b?c") == "xp.qcow2@clean /a/b?c"


def test_a_crash_names_our_innermost_line() -> None:
    from byre.units import parse_size

    try:
        parse_size(None)  # type: ignore[arg-type]
    except AttributeError as error:
        crash = describe_crash(error, ["create", "x"])
    assert "byre/units.py:" in crash.what and "in parse_size" in crash.what

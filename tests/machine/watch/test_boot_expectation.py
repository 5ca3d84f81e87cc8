"""What --expect takes, and what meets it."""

from __future__ import annotations

import pytest

from byre.errors import UsageError
from byre.machine.watch.expectation import ANY_PROOF, parse_expectation
from byre.machine.watch.observation import Observation, Stop, Verdict


def verdict(kind: str, code: int | None = None) -> Verdict:
    return Verdict(kind, "kernel", "", stop=Stop(code, ()) if code is not None else None)


def test_without_an_expectation_a_desktop_or_a_prompt_passes_and_nothing_else() -> None:
    assert ANY_PROOF.met_by(verdict("desktop"))
    assert ANY_PROOF.met_by(verdict("prompt"))
    for kind in (
        "logon",
        "stop",
        "panic",
        "message",
        "reset-loop",
        "off",
        "hang",
        "no-sign-of-life",
        "timeout",
        "text",
    ):
        assert not ANY_PROOF.met_by(verdict(kind))


@pytest.mark.parametrize("words", ["stop:0x7b", "stop:7B", "STOP:0x0000007B"])
def test_a_stop_by_its_code(words: str) -> None:
    expected = parse_expectation(words)
    assert expected.met_by(verdict("stop", 0x7B))
    assert not expected.met_by(verdict("stop", 0xA5))
    assert not expected.met_by(verdict("desktop"))


def test_any_stop() -> None:
    assert parse_expectation("stop").met_by(verdict("stop", 0xA5))


def test_a_text_is_met_by_having_been_seen_on_screen_or_serial_line() -> None:
    expected = parse_expectation("text:ntldr IS")
    assert expected.seen_in(Observation(0, lines=("", "NTLDR is missing "))) == "NTLDR is missing"
    assert expected.seen_in(Observation(0, serial=("NTLDR is missing",))) == "NTLDR is missing"
    assert expected.seen_in(Observation(0, lines=None)) is None
    assert expected.met_by(verdict("text"))
    assert not expected.met_by(verdict("prompt"))


@pytest.mark.parametrize("words", ["", "stop:", "stop:xyz", "text:", "desktop:1", "success", "timeout"])
def test_what_can_never_be_expected_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        parse_expectation(words)

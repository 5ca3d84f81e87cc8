"""What a boot test is expected to come to: ``--expect``. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from byre.errors import UsageError
from byre.machine.watch.observation import VERDICTS, Observation, Verdict

HELP = "desktop, logon, prompt, stop, stop:0x7b, panic, message, reset-loop, off, hang or text:TEXT"
_KINDS = tuple(kind for kind in VERDICTS if kind not in ("text", "timeout", "no-sign-of-life"))


@dataclass(frozen=True, slots=True)
class Expectation:
    """``kinds`` are the verdicts that meet it; ``code`` narrows a STOP, ``text`` is to be seen at any time."""

    kinds: tuple[str, ...]
    code: int | None = None
    text: str | None = None
    words: str = ""

    def met_by(self, verdict: Verdict) -> bool:
        """Whether the verdict is what was expected. A text is met by nothing but having been seen."""
        if verdict.kind not in self.kinds:
            return False
        return self.code is None or (verdict.stop is not None and verdict.stop.code == self.code)

    def seen_in(self, observation: Observation) -> str | None:
        """The line that holds the expected text."""
        if self.text is None:
            return None
        wanted = self.text.casefold()
        for line in (*(observation.lines or ()), *observation.serial):
            if wanted in line.casefold():
                return line.strip()
        return None


ANY_PROOF = Expectation(("desktop", "prompt"), words="desktop or prompt")
"""Without --expect: a machine that a person could use at once."""


def parse_expectation(words: str) -> Expectation:
    """The value of --expect. UsageError names what it may be."""
    kind, colon, value = words.partition(":")
    kind = kind.strip().lower()
    if kind == "text" and value:
        return Expectation(("text",), text=value, words=words)
    if kind == "stop" and colon:
        try:
            return Expectation(("stop",), code=int(value, 16), words=words)
        except ValueError as error:
            raise UsageError(f"{value!r} is no STOP code", hint="Write it as stop:0x7b.") from error
    if kind in _KINDS and not colon:
        return Expectation((kind,), words=kind)
    raise UsageError(f"--expect can't be {words!r}", expected=HELP)

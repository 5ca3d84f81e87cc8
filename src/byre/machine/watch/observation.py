"""What is seen of a machine at one moment, and what a boot test says in the end. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from byre.machine.watch.picture import Picture
from byre.machine.watch.processes import Process

STAGES = ("nothing", "firmware", "loader", "kernel", "logon", "desktop")
"""How far a boot got, in order. ``desktop`` stands for a prompt too; reaching a stage is no proof that it works."""
VERDICTS = {
    "desktop": "a desktop",
    "logon": "a logon screen",
    "prompt": "a prompt",
    "stop": "a STOP (blue screen)",
    "panic": "a kernel panic",
    "message": "a message with which it stopped",
    "reset-loop": "it resets again and again",
    "off": "it switched itself off",
    "hang": "it hangs",
    "no-sign-of-life": "no sign of life",
    "timeout": "nothing that proves an end before the time was up",
    "text": "the text that was expected",
}
"""Every verdict, and what it says."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A STOP with what could be learnt about it. ``source``: ``memory`` (KiBugCheckData) or ``screen``."""

    code: int
    parameters: tuple[int, ...]
    driver: str | None = None
    text: str | None = None
    source: str = "memory"


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One look at the machine, ``seconds`` after it was switched on.

    ``lines`` is the screen as text: None where it is a picture. ``serial`` holds the last lines of the serial port,
    ``serial_bytes`` how much came in all. ``started``: a kernel in memory is live. ``dead``: every processor is
    halted for good. ``reset``: the guest asked for a reset and is frozen in that moment; ``ended``: ``off`` or
    ``panicked``.
    """

    seconds: float
    picture: Picture | None = None
    lines: tuple[str, ...] | None = None
    serial: tuple[str, ...] = ()
    serial_bytes: int = 0
    started: bool = False
    stop: Stop | None = None
    processes: tuple[Process, ...] = ()
    dead: bool = False
    reset: bool = False
    ended: str | None = None
    notes: tuple[str, ...] = ()
    """What QEMU itself has to say."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the timeline."""

    seconds: float
    stage: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a boot came to. ``kind`` is a key of VERDICTS; ``sentence`` says it whole; ``proof`` what it rests on;
    ``text`` a message or prompt as it stands on the screen; ``degraded``: a desktop in plain VGA."""

    kind: str
    stage: str
    sentence: str
    proof: tuple[str, ...] = ()
    stop: Stop | None = None
    text: str | None = None
    degraded: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class BootResult:
    """A boot test from end to end. ``accelerator`` is the one of the run that counts; ``screen`` the last text of the
    screen, ``serial`` the last of the serial port."""

    image: str
    machine: str
    target: str | None
    accelerator: str
    seconds: float
    expected: str
    met: bool
    verdict: Verdict
    steps: tuple[Step, ...]
    screenshot: bytes | None = None
    screen: tuple[str, ...] = ()
    serial: tuple[str, ...] = ()
    notices: tuple[str, ...] = field(default=())

"""What QEMU's events mean for a boot test. The monitor here says what a real one said; real ones: test_boot.py."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest

from builders.nt_memory import NtMemory, Spec
from builders.opened import kept_open
from byre.errors import StorageError
from byre.machine.qemu.qmp import Event
from byre.machine.watch.probe import Probe
from byre.machine.watch.ram import Ram

UNPAGED = "CPU#0\nEIP=0000fff0 EFL=00000002 HLT=0\nCR0=60000010 CR2=0 CR3=00000000 CR4=00000000"


class Monitor:
    """A machine whose screen is off, with events to tell."""

    def __init__(self, *events: Event, registers: str = UNPAGED) -> None:
        self.waiting = deque(events)
        self.registers = registers
        self.commands: list[str] = []
        self.status = "running"

    def execute(self, command: str, **arguments: Any) -> Any:
        self.commands.append(command)
        if command == "query-status":
            return {"status": self.status}
        if command == "screendump":
            raise StorageError("there is no picture")
        return "aGVsbG8NCmxvZ2luOiA=" if command == "ringbuf-read" else None

    def human(self, line: str) -> str:
        return self.registers

    def next_event(self, timeout: float) -> Event | None:
        return self.waiting.popleft() if self.waiting else None


def probe(folder: Path, *events: Event, serial: str | None = None) -> Probe:
    (folder / "ram").write_bytes(bytes(1 << 16))
    return Probe(Monitor(*events), kept_open(Ram.open(folder / "ram")), folder, serial, clock=lambda: 1.0)


def test_a_reset_is_told_once(tmp_path: Path) -> None:
    watched = probe(tmp_path, Event("SHUTDOWN", 0, {"guest": True, "reason": "guest-reset"}))
    first, second = watched.look(), watched.look()
    assert (first.reset, second.reset, first.ended) == (True, False, None)


@pytest.mark.parametrize(
    ("event", "ended"),
    [
        (Event("SHUTDOWN", 0, {"guest": True, "reason": "guest-shutdown"}), "off"),
        (Event("GUEST_PANICKED", 0, {"action": "pause"}), "panicked"),
        (Event("SHUTDOWN", 0, {"guest": False, "reason": "host-qmp-quit"}), None),
        (Event("RTC_CHANGE", 0, {}), None),
    ],
)
def test_an_end_is_kept(event: Event, ended: str | None, tmp_path: Path) -> None:
    watched = probe(tmp_path, event)
    watched.look()
    assert watched.look().ended == ended


def test_memory_is_searched_at_a_reset_though_it_was_a_moment_ago(tmp_path: Path) -> None:
    """A machine that resets at its STOP shows the STOP in that moment only."""
    memory = NtMemory(Spec(bug_check=(0xD1, 1, 2, 3, 4)))
    watched = probe(tmp_path)
    assert watched.look().stop is None
    watched.ram = kept_open(Ram.open(memory.save(tmp_path / "later")))
    registers = f"CPU#0\nEIP=0 EFL=00000002 HLT=0\nCR0=80000011 CR2=0 CR3={memory.root:08x} CR4=00000000"
    resets = Monitor(Event("SHUTDOWN", 0, {"guest": True, "reason": "guest-reset"}), registers=registers)
    watched.monitor = resets
    stop = watched.look().stop
    assert stop is not None
    assert (stop.code, stop.parameters) == (0xD1, (1, 2, 3, 4))


def test_a_full_host_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    watched = probe(tmp_path, Event("BLOCK_IO_ERROR", 0, {"nospace": True, "operation": "write"}))
    with pytest.raises(StorageError) as caught:
        watched.look()
    assert "TMPDIR" in (caught.value.hint or "")


def test_an_accelerator_that_gives_up_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    watched = probe(tmp_path, Event("STOP", 0, {}))
    watched.look()
    failed = Monitor(Event("STOP", 0, {}))
    failed.status = "internal-error"
    watched.monitor = failed
    with pytest.raises(StorageError) as caught:
        watched.look()
    assert "--accel tcg" in (caught.value.hint or "")


def test_a_place_that_cant_be_read_is_noted(tmp_path: Path) -> None:
    event = Event("BLOCK_IO_ERROR", 0, {"nospace": False, "operation": "read", "reason": "Input/output error"})
    assert probe(tmp_path, event).look().notes == ("QEMU couldn't read from the disk: Input/output error",)


def test_serial_output_is_added_up(tmp_path: Path) -> None:
    watched = probe(tmp_path, serial="seriallog")
    assert watched.look().serial == ("hello", "login:")
    seen = watched.look()
    assert seen.serial_bytes == 28
    assert seen.serial == ("hello", "login: hello", "login:")


def test_a_machine_without_a_picture_shows_nothing(tmp_path: Path) -> None:
    seen = probe(tmp_path).look()
    assert (seen.picture, seen.lines, seen.serial_bytes, seen.dead, seen.started) == (None, None, 0, False, False)

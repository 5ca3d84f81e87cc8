"""One look at a running machine: from QEMU's monitor, its memory file and its serial log to an ``Observation``."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from byre.errors import ByreError, StorageError, UnsupportedError
from byre.machine.watch.boot_font import BootFont, read_boot_text
from byre.machine.watch.kernel import (
    Kernel,
    driver_at,
    find_kernels,
    first_process,
    read_bug_check,
    text_at,
)
from byre.machine.watch.observation import Observation, Stop
from byre.machine.watch.paging import AddressSpace
from byre.machine.watch.picture import Picture, parse_ppm
from byre.machine.watch.processes import Process, read_processes
from byre.machine.watch.ram import Ram
from byre.machine.watch.registers import Registers, parse_registers
from byre.machine.watch.serial_line import MOST_BYTES, serial_lines
from byre.machine.watch.stop_codes import DRIVER_PARAMETER, has_text
from byre.machine.watch.text_screen import WINDOW_SIZE, WINDOW_START, read_text_screen

_LARGEST_PICTURE = 4096 * 4096 * 3 + 64
_SEARCH_EVERY = 2.0
"""Seconds between two searches of all memory for a kernel; a search of 512 MiB takes about 0.2 s."""


_RESET_TRIES = 100
_MOST_NOTES = 8
SERIAL_BUFFER = 256 << 10
"""Bytes that QEMU keeps of the serial port between two looks; a power of two."""


class Event(Protocol):
    """An event of QEMU's, as its monitor tells it."""

    @property
    def name(self) -> str: ...

    @property
    def data(self) -> Mapping[str, Any]: ...


class Monitor(Protocol):
    """What is needed of QEMU's monitor; ``byre.machine.qemu.qmp.QmpClient`` has it."""

    def execute(self, command: str, **arguments: Any) -> Any: ...

    def human(self, line: str) -> str: ...

    def next_event(self, timeout: float) -> Event | None: ...


@dataclass
class Probe:
    """Looks at one machine. Mutable: it remembers the kernel that it found, which stays where it is until a reset.

    ``folder`` takes the files that QEMU writes; ``serial`` names the ring buffer behind the serial port, where there
    is one; ``fonts`` are the boot fonts found on the guest's disk.
    """

    monitor: Monitor
    ram: Ram
    folder: Path
    serial: str | None = None
    fonts: tuple[BootFont, ...] = ()
    clock: Callable[[], float] = field(kw_only=True)
    _kernels: tuple[Kernel, ...] = ()
    _space: AddressSpace | None = None
    _searched: float = -_SEARCH_EVERY
    _reset: bool = False
    _ended: str | None = None
    _notes: tuple[str, ...] = ()
    _serial_end: bytes = b""
    _serial_lines: tuple[str, ...] = ()
    _serial_bytes: int = 0

    def look(self) -> Observation:
        """What is to be seen now. What can't be read at this moment is left out: the guest is running."""
        self._take_events()
        seconds = self.clock()
        processors = self._registers()
        picture = self._picture()
        serial, serial_bytes = self._serial()
        stop, processes, started = self._memory(seconds, processors)
        seen = Observation(
            seconds=seconds,
            picture=picture,
            lines=self._lines(picture),
            serial=serial,
            serial_bytes=serial_bytes,
            started=started,
            stop=stop,
            processes=processes,
            dead=bool(processors) and all(each.dead for each in processors),
            reset=self._reset,
            ended=self._ended,
            notes=self._notes,
        )
        if self._reset:
            self._forget()
        return seen

    def resume(self) -> None:
        """Let the reset happen that the machine was frozen at, and freeze at the next one again."""
        self.monitor.execute("set-action", reboot="reset")  # else ours would be taken for a shutdown too
        self.monitor.execute("system_reset")
        for attempt in range(_RESET_TRIES):
            try:
                # QEMU resets in its own time, and refuses to go on before. The machine runs as it was told when.
                self.monitor.execute("cont")
                self.monitor.execute("set-action", reboot="shutdown")
                return
            except UnsupportedError:
                if attempt == _RESET_TRIES - 1:
                    raise
                time.sleep(0.05)

    def _forget(self) -> None:
        self._reset = False
        self._kernels = ()
        self._space = None
        self._searched = -_SEARCH_EVERY

    def _take_events(self) -> None:
        while (event := self.monitor.next_event(0)) is not None:
            name, data = event.name, event.data
            if name == "SHUTDOWN":
                # With -action reboot=shutdown,shutdown=pause a reset comes as a shutdown with its reason.
                if data.get("reason") == "guest-reset":
                    self._reset = True
                elif data.get("guest", True):
                    self._ended = "panicked" if data.get("reason") == "guest-panic" else "off"
            elif name == "GUEST_PANICKED":
                self._ended = "panicked"
            elif name == "BLOCK_IO_ERROR":
                self._take_disk_error(data)
            elif name == "STOP" and self.monitor.execute("query-status").get("status") == "internal-error":
                raise StorageError(
                    "the host's virtualisation gave up on the guest (an internal error)",
                    hint="Software can run it: --accel tcg.",
                )

    def _take_disk_error(self, data: Mapping[str, Any]) -> None:
        """Room that runs out is the host's failure, not the guest's; what can't be read may be the image's."""
        if data.get("nospace"):
            raise StorageError(
                "the host's disk is full, and the guest can't go on",
                hint="Make room, or set TMPDIR to a folder that has some.",
            )
        what = "write to" if data.get("operation") == "write" else "read from"
        reason = str(data.get("reason", "no reason given"))[:200]
        self._notes = (*self._notes, f"QEMU couldn't {what} the disk: {reason}")[-_MOST_NOTES:]

    def _registers(self) -> tuple[Registers, ...]:
        return parse_registers(self.monitor.human("info registers -a"))

    def _picture(self) -> Picture | None:
        target = self.folder / "screen.ppm"
        try:
            self.monitor.execute("screendump", filename=str(target))
            return parse_ppm(_read_end(target, _LARGEST_PICTURE))
        except (ByreError, OSError):
            return None  # no display yet, or its size is changing
        finally:
            target.unlink(missing_ok=True)

    def _lines(self, picture: Picture | None) -> tuple[str, ...] | None:
        if picture is None:
            return None
        target = self.folder / "text.bin"
        try:
            self.monitor.execute("pmemsave", val=WINDOW_START, size=WINDOW_SIZE, filename=str(target))
            lines = read_text_screen(_read_end(target, WINDOW_SIZE), picture)
        except (ByreError, OSError):
            lines = None
        finally:
            target.unlink(missing_ok=True)
        for font in self.fonts if lines is None else ():
            lines = read_boot_text(picture, font)
            if lines is not None:
                break
        return lines

    def _serial(self) -> tuple[tuple[str, ...], int]:
        """(the last lines, bytes in all). The buffer is QEMU's: a guest that writes without end fills no disk."""
        if self.serial is None:
            return (), 0
        answer = self.monitor.execute("ringbuf-read", device=self.serial, size=SERIAL_BUFFER, format="base64")
        data = base64.b64decode(answer) if isinstance(answer, str) else b""
        self._serial_bytes += len(data)
        if data:
            self._serial_end = (self._serial_end + data)[-MOST_BYTES:]
            self._serial_lines = serial_lines(self._serial_end)
        return self._serial_lines, self._serial_bytes

    def _memory(
        self, seconds: float, processors: tuple[Registers, ...]
    ) -> tuple[Stop | None, tuple[Process, ...], bool]:
        """(the STOP, the processes, whether a kernel is alive) of what lies in memory now."""
        paged = [each for each in processors if each.mode != "none"]
        space = AddressSpace(self.ram, paged[0].page_table, paged[0].mode) if paged else None
        due = seconds - self._searched >= _SEARCH_EVERY
        # Where the machine stands still for good, or for a reset that wipes all of it, there is no later search.
        last = self._reset or self._ended is not None
        if (due or last) and not any(first_process(kernel) for kernel in self._kernels):
            self._kernels = find_kernels(self.ram, space)
            self._searched = self.clock()
        stopped = next(((k, found) for k in self._kernels if (found := read_bug_check(k)) is not None), None)
        if stopped is not None:
            kernel, check = stopped
            return _explained(check.code, check.parameters, space, kernel), (), True
        if space is None:
            return None, (), False
        for kernel in self._kernels:
            if first_process(kernel) is None:
                continue
            # A processor in a program's own pages may not see the kernel's: then what was seen last is used.
            for each in (space, self._space):
                processes = read_processes(each, kernel) if each is not None else ()
                if processes:
                    self._space = each
                    return None, processes, True
            return None, (), True
        return None, (), False


def _explained(code: int, parameters: tuple[int, ...], space: AddressSpace | None, kernel: Kernel) -> Stop:
    """A STOP with the driver and the string that its parameters lead to."""
    driver = text = None
    if space is not None:
        if code in DRIVER_PARAMETER:
            driver = driver_at(space, kernel, parameters[DRIVER_PARAMETER[code]])
        if has_text(code):
            text = text_at(space, parameters[0])
    return Stop(code, parameters, driver, text)


def _read_end(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most))
        return file.read(most)

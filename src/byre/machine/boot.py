"""The boot test: an image started on the machine that it wants, on an overlay that vanishes, watched to a verdict."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from byre.disks.disk import Disk
from byre.disks.opening import open_disk
from byre.errors import StorageError
from byre.machine.account import lesser_account
from byre.machine.hardware import CONTROLLERS, Choice, Machine
from byre.machine.overrides import Override
from byre.machine.qemu.accelerator import Accelerator, choose
from byre.machine.qemu.command import Options
from byre.machine.qemu.process import find_firmware, find_qemu
from byre.machine.qemu.qmp import QmpClosedError
from byre.machine.reading import beside, gather_evidence, settled
from byre.machine.running import Wishes, prepare
from byre.machine.runs import private_folder, scratch_folder
from byre.machine.source import Source, look, unwritten
from byre.machine.watch.expectation import ANY_PROOF, Expectation
from byre.machine.watch.guest_hints import Hints, read_hints
from byre.machine.watch.observation import BootResult, Step
from byre.machine.watch.picture import png_bytes
from byre.machine.watch.probe import SERIAL_BUFFER, Probe
from byre.machine.watch.ram import Ram
from byre.machine.watch.timeline import Pace
from byre.machine.watch.watching import Watching, watch

DEFAULT_TIMEOUT = 300.0
"""Seconds. ReactOS under TCG was still within 40 s on every run that was measured; an XP with years of software in it
takes longer, and a host may be busy."""
MOST_MEMORY = 2 << 30
"""Above it QEMU moves memory beyond 4 GiB; no guest of this kind needs more to boot."""
_TALKS_ON_SERIAL = ("linux", "reactos", "dos", "unknown")
"""For the others a serial port is new hardware that they would stop to install."""
_FREEZE = ("-action", "reboot=shutdown,shutdown=pause,panic=pause")
"""A reset and a shutdown leave the machine as it is in that moment, to be looked at."""
_SERIAL = "seriallog"
_SPARE = 64 << 20
_QUIET_WITHOUT_CODE = 10.0
"""Seconds: a BIOS that starts a sector of zeros says nothing, and nothing more will come."""
_QUIET_ON_KVM = 30.0
"""Seconds: a guest that runs on KVM at all shows its next sign of life within a few."""


@dataclass(frozen=True, slots=True)
class BootOptions:
    """How to test. ``accelerator`` None: the host's best, and TCG where the guest shows no sign of life on it."""

    target: str = "qemu"
    expected: Expectation = ANY_PROOF
    timeout: float = DEFAULT_TIMEOUT
    accelerator: str | None = None
    pace: Pace = field(default_factory=Pace)
    overrides: tuple[Override, ...] = ()
    controller: str | None = None
    """The one to boot from, whatever the guest has a driver for."""


def boot_image(
    path: str | os.PathLike[str],
    options: BootOptions | None = None,
    *,
    tell: Callable[[Step], None] = lambda step: None,
    note: Callable[[str], None] = lambda sentence: None,
    **opening: Any,
) -> BootResult:
    """Boot ``IMAGE`` or ``IMAGE@SNAPSHOT`` and say what came of it. The image is never written to.

    ``tell`` hears of each step as it happens, ``note`` what the user should know meanwhile; ``opening`` goes to
    ``open_disk``. Raises any ByreError where the machine can't be run; a guest that fails is a result, not an error.
    """
    name = os.fspath(path)
    with open_disk(path, **opening) as disk:
        source = look(name, disk, snapshot=opening.get("snapshot"))
        return _boot(disk, name, source, options or BootOptions(), None, tell, note)


def boot_disk(
    disk: Disk,
    name: str,
    options: BootOptions | None = None,
    *,
    machine: Machine | None = None,
    tell: Callable[[Step], None] = lambda step: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> BootResult:
    """As ``boot_image``, for a disk that is open already and may have no file of its own yet: Byre reads it for QEMU.

    ``name`` is the address of the image that it comes from; ``machine``: this one, whatever the disk would want.
    """
    return _boot(disk, name, unwritten(name, disk), options or BootOptions(), machine, tell, note)


def machine_for(disk: Disk, name: str, options: BootOptions) -> Machine:
    """The machine that the test gives a disk."""
    evidence = gather_evidence(disk, name=name)
    machine = settled(evidence, options.target, (*beside(name), *options.overrides))
    if options.controller is not None:
        assert options.controller in CONTROLLERS
        machine = replace(machine, controller=Choice(options.controller, "the one to be tested"))
    if machine.memory.value > MOST_MEMORY:
        machine = replace(machine, memory=Choice(MOST_MEMORY, "the most that the boot test can look into"))
    return machine


def _boot(
    disk: Disk,
    name: str,
    source: Source,
    options: BootOptions,
    machine: Machine | None,
    tell: Callable[[Step], None],
    note: Callable[[str], None],
) -> BootResult:
    machine = machine or machine_for(disk, name, options)
    hints = read_hints(disk, name=name)
    accelerator = choose(options.accelerator)
    note(f"{machine.name} boots with {accelerator.sentence}, from {machine.controller.value}")
    notices: list[str] = []
    trial = _Trial(machine, disk, source, hints, options, tell, note)
    if trial.starts_nothing:
        notices.append("there is no boot code in the disk's first sector: nothing can start from it")
        note(notices[-1])
    may_fall_back = accelerator.name != "tcg" and options.accelerator is None
    watching, problem = trial.attempt(accelerator, may_fail=may_fall_back)
    if watching is None:
        sentence = f"{accelerator.name.upper()}: {problem}; trying again with TCG"
        note(sentence)
        notices.append(sentence)
        accelerator = Accelerator("tcg", "TCG, since the host's own virtualisation showed no life")
        watching = trial.once(accelerator)
    return BootResult(
        image=name,
        machine=f"{machine.system.value}, {machine.chipset.value}, {machine.controller.value}",
        target=options.target,
        accelerator=accelerator.name,
        seconds=watching.seen.seconds,
        expected=options.expected.words,
        met=options.expected.met_by(watching.verdict),
        verdict=watching.verdict,
        steps=watching.watched.steps,
        screenshot=png_bytes(watching.picture) if watching.picture is not None else None,
        screen=watching.seen.lines or (),
        serial=watching.seen.serial[-60:],
        notices=tuple(notices),
    )


def _lifeless(watching: Watching) -> bool:
    """Whether it may be the accelerator that failed, not the guest: KVM inside a virtual machine was seen to hang,
    and to reset, at the guest's first paging."""
    silent = watching.verdict.kind in ("no-sign-of-life", "hang", "timeout", "reset-loop")
    return silent and not watching.watched.started and watching.watched.dead_since is None


@dataclass(frozen=True, slots=True)
class _Trial:
    """All that two tries on different accelerators share."""

    machine: Machine
    disk: Disk
    source: Source
    hints: Hints
    options: BootOptions
    tell: Callable[[Step], None]
    note: Callable[[str], None]

    def attempt(self, accelerator: Accelerator, *, may_fail: bool) -> tuple[Watching | None, str]:
        """What was watched; or, where another accelerator may be tried, None and what is wrong with this one."""
        try:
            watching = self.once(accelerator)
        except StorageError as error:  # QEMU has ended: most often it can't use the accelerator after all
            if not may_fail:
                raise
            return None, error.what
        if may_fail and _lifeless(watching):
            return None, watching.verdict.sentence
        return watching, ""

    def once(self, accelerator: Accelerator) -> Watching:
        """Start, watch, stop; nothing is left of it."""
        with contextlib.ExitStack() as stack:
            # The folder, and with it the files' paths, is known only when a name has been taken.
            wishes = Wishes()
            running = prepare(
                self.machine, self._options(accelerator), wishes, name=f"boot-{self.machine.name}", say=self.note
            )
            folder = running.taken.run.folder
            try:
                memory = _make_memory(self.machine.memory.value, stack)
            except BaseException:
                running.close()
                raise
            running.options = replace(running.options, memory_file=memory, more=(*_FREEZE, *self._serial()))
            running.begin(self.source, self.disk)  # where that fails, it closes itself
            stack.callback(running.close)
            assert running.process is not None
            monitor = running.process.connect()
            ram = stack.enter_context(Ram.open(memory))
            memory.unlink()  # QEMU and we have it open: it is gone with the last of us, whatever happens
            began = time.monotonic()
            probe = Probe(
                monitor,
                ram,
                folder,
                _SERIAL if self._talks else None,
                self.hints.fonts,
                clock=lambda: time.monotonic() - began,
            )
            monitor.execute("cont")
            try:
                return watch(
                    probe,
                    self.options.expected,
                    timeout=self.options.timeout,
                    pace=self._pace(accelerator),
                    shell=self.hints.shell,
                    tell=self.tell,
                )
            except QmpClosedError:
                raise running.process.died() from None

    def _pace(self, accelerator: Accelerator) -> Pace:
        """Where there is another accelerator to try, a guest that does nothing isn't waited for as long."""
        pace = self.options.pace
        if self.starts_nothing:
            pace = replace(pace, quiet=min(pace.quiet, _QUIET_WITHOUT_CODE))
        if accelerator.name == "tcg" or self.options.accelerator is not None:
            return pace
        return replace(pace, quiet=min(pace.quiet, _QUIET_ON_KVM))

    @property
    def starts_nothing(self) -> bool:
        return self.hints.no_code and self.machine.firmware.value == "bios"

    def _options(self, accelerator: Accelerator) -> Options:
        return Options(
            folder=Path(),
            program=find_qemu(self.machine.architecture.value),
            accelerator=accelerator.name,
            firmware=find_firmware() if self.machine.firmware.value == "uefi" else None,
            frozen=True,
        )

    @property
    def _talks(self) -> bool:
        return self.machine.system.value in _TALKS_ON_SERIAL

    def _serial(self) -> tuple[str, ...]:
        if not self._talks:
            return ()
        buffer = f"ringbuf,id={_SERIAL},size={SERIAL_BUFFER}"
        return ("-chardev", buffer, "-device", f"isa-serial,chardev={_SERIAL}")


def _make_memory(size: int, stack: contextlib.ExitStack) -> Path:
    """An empty file of the memory's size, for the account that QEMU runs as; ``stack`` removes it."""
    folder = memory_folder(size)
    try:
        descriptor, name = tempfile.mkstemp(prefix="boot.", suffix=".ram", dir=folder)
        stack.callback(Path(name).unlink, missing_ok=True)
        stack.callback(os.close, descriptor)
        os.ftruncate(descriptor, size)
        account = lesser_account()
        if account is not None:
            os.chown(descriptor, account.uid, account.gid)
    except OSError as error:
        raise StorageError(f"the guest's memory can't be made: {error.strerror}", path=folder) from error
    return Path(name)


def memory_folder(size: int) -> Path:
    """Where the guest's memory is kept as a file: in memory itself where there is room, else where overlays lie."""
    shared = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > size + _SPARE:
            return private_folder(shared / f"byre-{os.getuid()}")
    return scratch_folder()

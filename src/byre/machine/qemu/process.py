"""QEMU as a process: found, started as an unprivileged user where that can be, quoted when it dies.

The only module of the package that starts another program.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from byre.errors import MissingError, StorageError
from byre.machine.qemu.command import FRAMES_IN, QMP_SOCKET, VNC_SOCKET, WATCH_SOCKET
from byre.machine.qemu.qmp import QmpClient, QmpClosedError, QmpSilentError, connect

PROGRAMS = {"i386": ("qemu-system-x86_64", "qemu-system-i386"), "x86_64": ("qemu-system-x86_64",)}
LOG_NAME = "qemu.log"
SOCKETS = (QMP_SOCKET, WATCH_SOCKET, VNC_SOCKET, FRAMES_IN)
MAX_QUOTE = 2_000
START_SECONDS = 120.0
"""How long QEMU may take to open its monitor; 0.1 to 0.5 s where it was measured, far more on a loaded host."""
_PR_SET_PDEATHSIG = 1
"""prctl(2)."""
FIRMWARES = (
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/OVMF/OVMF.fd",
    "/usr/share/edk2/x64/OVMF.fd",
    "/usr/share/qemu/OVMF.fd",
)
_INSTALL = {
    "linux": "Install it: sudo apt install qemu-system-x86 (Fedora: sudo dnf install qemu-system-x86).",
    "darwin": "Install it: brew install qemu.",
    "win32": "Install it from https://qemu.org/download and put its folder into PATH.",
}


@dataclass(frozen=True, slots=True)
class User:
    """An account that QEMU is started as. ``groups`` are its only further groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def find_qemu(architecture: str = "x86_64") -> str:
    """The path of QEMU's program for this architecture; MissingError says how to install it."""
    for name in PROGRAMS[architecture]:
        found = shutil.which(name)
        if found is not None:
            return found
    raise MissingError(
        f"QEMU isn't installed: there is no {PROGRAMS[architecture][0]}",
        hint=_INSTALL.get(sys.platform, "Install QEMU's system emulator for x86."),
    )


def find_firmware() -> Path:
    """A UEFI firmware for QEMU; MissingError says how to install it."""
    for name in FIRMWARES:
        if Path(name).is_file():
            return Path(name)
    raise MissingError(
        "the guest needs UEFI, and there is no firmware for it", hint="Install it: sudo apt install ovmf."
    )


class AcceleratorError(StorageError):
    """QEMU has ended because it can't use its accelerator."""


class QemuProcess:
    """A running QEMU. Mutable: it owns the process and the connection that its owner watches it by."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.watch: QmpClient | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def connect(self, *, timeout: float = START_SECONDS) -> QmpClient:
        """The owner's connection, made as soon as QEMU listens; raises with QEMU's own words if it dies first."""
        until = time.monotonic() + timeout
        while self.watch is None:
            if self.process.poll() is not None:
                raise self.died()
            try:
                # Once somebody listens, its greeting is waited for: a QEMU that dies instead closes the connection.
                left = max(0.5, until - time.monotonic())
                self.watch = connect(self.folder / WATCH_SOCKET, timeout=min(left, 0.5), greeting=left)
            except (QmpClosedError, QmpSilentError) as error:
                if time.monotonic() >= until:
                    raise QmpSilentError(
                        "QEMU was started and doesn't answer",
                        expected=f"within {timeout:.0f} s",
                        hint=f"It said: {self.said() or 'nothing'}",
                    ) from error
        return self.watch

    def said(self) -> str:
        """The end of what QEMU has written to its stderr. Escape it before it is shown."""
        try:
            with (self.folder / LOG_NAME).open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - MAX_QUOTE))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        # The hub is empty on purpose: nobody hangs on the guest's wire.
        return "\n".join(line for line in lines if "is not connected to host network" not in line).strip()

    def died(self) -> StorageError:
        """The error that tells how it ended."""
        status = self.process.poll()
        said = self.said()
        how = f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
        kind = AcceleratorError if _ACCELERATOR.search(said) else StorageError
        return kind(f"QEMU has ended: {how}", found=said or "it said nothing", hint=advice(said))

    def ended(self, timeout: float) -> bool:
        """Whether it has ended, waiting for at most ``timeout`` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        return self.process.poll() is not None

    def end(self) -> None:
        """Make sure that it is gone: quit, then SIGTERM, then SIGKILL. Never raises."""
        with contextlib.suppress(Exception):
            if self.watch is not None and self.process.poll() is None:
                self.watch.execute("quit", timeout=5)
        for stop in (None, self.process.terminate, self.process.kill):
            if stop is not None:
                with contextlib.suppress(OSError):
                    stop()
            if self.ended(5):
                break
        if self.watch is not None:
            self.watch.close()
            self.watch = None


def start(
    command: Sequence[str],
    folder: Path,
    *,
    user: User | None = None,
    stdin: int | None = None,
    dies_with_us: bool = False,
) -> QemuProcess:
    """Start QEMU; its stderr goes into the folder. ``user`` is whom a root process starts it as; ``stdin`` None
    gives it none, else it has our stdin and stdout (a serial console). ``dies_with_us``: the kernel ends it when the
    calling thread ends, however that may be (Linux; elsewhere it is left to be found by ``byre ps``).

    Raises MissingError where the program isn't there, StorageError where it can't be started.
    """
    console = stdin is not None
    for name in SOCKETS:  # of an earlier try: to reach that one by mistake would be worse than to reach nobody
        (folder / name).unlink(missing_ok=True)
    try:
        with (folder / LOG_NAME).open("wb") as log:
            process = subprocess.Popen(
                list(command),
                stdin=stdin if console else subprocess.DEVNULL,
                stdout=None if console else log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for Byre, which tells the guest
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=list(user.groups) if user else None,
                umask=0o077,
                cwd=folder,
                preexec_fn=_tied() if dies_with_us else None,  # after the change of account, which would undo it
            )
    except FileNotFoundError as error:
        raise MissingError("QEMU isn't there", path=command[0], hint=_INSTALL.get(sys.platform)) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise StorageError(f"QEMU can't be started: {error}", path=command[0]) from error
    return QemuProcess(process, folder)


def _tied() -> Callable[[], None] | None:
    """What a child calls between fork and exec so that it ends with us. All that needs a lock is done before."""
    if sys.platform != "linux":
        return None
    control, us = ctypes.CDLL(None).prctl, os.getpid()

    def tie() -> None:
        control(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != us:  # we died before it was tied
            os.kill(os.getpid(), signal.SIGKILL)

    return tie


def monitor(folder: Path, *, timeout: float = 30.0) -> QmpClient:
    """A connection for whoever isn't the owner: ``byre stop`` and the like."""
    return connect(folder / QMP_SOCKET, timeout=timeout)


_ACCELERATOR = re.compile(
    r"(?:failed to initialize|could not access) (?:kvm|hvf|whpx)|invalid accelerator|\bkvm_\w+: |\bKVM_[A-Z_]+\b",
    re.IGNORECASE,
)
_ADVICE = (
    (r"Could not access KVM kernel module|failed to initialize kvm", "Run it without KVM: --accel tcg."),
    (r"invalid accelerator", "This QEMU lacks that accelerator: --accel tcg."),
    (r"module ui-ui-gtk not found|Display 'gtk' is not available", "Install qemu-system-gui, or --display vnc."),
    (r"gtk initialization failed", "There is no desktop to show it on: --display vnc, or none."),
    (r"Failed to get \"?(write|shared|consistent read)", "Another program uses the image: shut it down first."),
    (r"No space left", "The disk is full: make room, or set TMPDIR to a folder that has some."),
    (r"Address already in use", "Another program uses that port or socket: choose another."),
    (r"Permission denied", "The user that QEMU runs as may not open that."),
    (r"Cannot allocate memory|cannot set up guest memory", "The host lacks the memory: --set memory=128MiB."),
    (
        r"(does not accept value|Invalid parameter) 'dgram'",
        "An isolated network needs QEMU 7.2.",
    ),
    (r"is not a valid device model name|not found in this", "This QEMU lacks a device; see 'byre profile'."),
)


def advice(said: str) -> str:
    """The next step for what QEMU said."""
    for pattern, step in _ADVICE:
        if re.search(pattern, said, re.IGNORECASE):
            return step
    return "See the command with --dry-run."

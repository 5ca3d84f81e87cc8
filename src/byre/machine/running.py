"""One machine from its start to its end: what is made for it, QEMU, what its events mean, and how it is ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from byre.disks.disk import Disk
from byre.errors import ByreError, StorageError, UnsupportedError
from byre.machine import vm_state
from byre.machine.account import lesser_account, may, may_all
from byre.machine.disc import write_disc
from byre.machine.hardware import Choice, Machine
from byre.machine.qemu.command import INCOMING_SOCKET, Options, command_line
from byre.machine.qemu.drive import Drive, overlay_drive
from byre.machine.qemu.process import AcceleratorError, QemuProcess, User, start
from byre.machine.qemu.qmp import Event, QmpClient, QmpClosedError
from byre.machine.relay import Relay
from byre.machine.runs import Claim, claim, scratch_folder, start_of
from byre.machine.source import Served, Source, create_overlay, kept
from byre.storage.urls import is_url

Say = Callable[[str], None]
POLL_SECONDS = 0.25
END_SECONDS = 60.0
"""How long a QEMU that has closed its monitor may take to end: it may still be writing to a slow disk."""
RETRY_SECONDS = 5.0
"""How often a machine that waits for room on the host's disk is tried again."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the user wants it run. ``patience`` is seconds between asking a guest to shut down and ending it."""

    keep: bool = False
    snapshot_first: bool = True
    share: Path | None = None
    patience: float = 60.0
    network: str = "none"
    console: bool = False
    """A serial port is on our own stdin and stdout."""
    cold: bool = False
    """Don't feed a snapshot's VM state in."""
    may_give_up: bool = False
    """Where the accelerator gives up before the guest has written anything, end it: another one may be tried."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended. ``how``: ``shutdown`` (the guest did it), ``asked`` (the guest, as asked), ``quit`` (ended by
    us), ``stopped`` (someone else told QEMU to quit), ``given-up`` (the accelerator can't go on, and nothing had been
    written: ``Wishes.may_give_up``)."""

    how: str
    seconds: float
    resets: int = 0


class Running:
    """A machine that has been started. Mutable: it owns the process, its helpers and its claim on a name."""

    def __init__(self, machine: Machine, options: Options, wishes: Wishes, taken: Claim, *, say: Say) -> None:
        self.machine = machine
        self.options = options
        self.wishes = wishes
        self.taken = taken
        self.say = say
        self.user: User | None = None
        self.process: QemuProcess | None = None
        self.resumed = False
        self.resets = 0
        self._closing = contextlib.ExitStack()
        self._closed = False
        self._presses = 0
        self._asked_at: float | None = None
        self._warned_full = 0.0
        self._by_guest = False
        self._given_up = False

    @property
    def name(self) -> str:
        return self.taken.run.name

    def interrupt(self) -> None:
        """Ctrl-C: noted here, acted upon by ``watch``. Safe from a signal handler."""
        self._presses += 1

    def watch(self) -> Ending:
        """Follow it to its end. Raises StorageError with QEMU's own words where QEMU died of itself."""
        assert self.process is not None
        watch = self.process.connect()
        began = time.monotonic()
        acted, quit_by_us = 0, False
        while True:
            if self._presses > acted:
                acted = self._presses
                quit_by_us = self._act_on_press(acted)
            if self._overdue():
                self.say(f"the guest hasn't shut down within {self.wishes.patience:.0f} s; it is ended now")
                quit_by_us = True
            if quit_by_us:
                self.process.end()
                return Ending("quit", time.monotonic() - began, self.resets)
            try:
                event = watch.next_event(POLL_SECONDS)
            except QmpClosedError:
                break
            if event is not None:
                self._take(event)
            if self._given_up and not self._presses:
                self.process.end()
                return Ending("given-up", time.monotonic() - began, self.resets)
            self._retry()
        return self._ended(began)

    def _ended(self, began: float) -> Ending:
        assert self.process is not None
        if not self.process.ended(END_SECONDS) or self.process.process.returncode != 0:
            raise self.process.died()
        how = "asked" if self._asked_at is not None else "shutdown" if self._by_guest else "stopped"
        return Ending(how, time.monotonic() - began, self.resets)

    def _act_on_press(self, count: int) -> bool:
        """True where it has to be ended now."""
        assert self.process is not None
        if count > 1 or not (self.machine.acpi.value or self.wishes.keep):
            return True
        self._asked_at = time.monotonic()
        with contextlib.suppress(ByreError):
            self.process.connect().execute("system_powerdown")
        if self.wishes.keep:
            self.say("the guest is asked to shut down (ACPI); a second Ctrl-C pulls its plug, and may cost data")
        else:
            self.say(
                f"the guest is asked to shut down (ACPI); ended in {self.wishes.patience:.0f} s, or by another Ctrl-C"
            )
        return False

    def _overdue(self) -> bool:
        if self._asked_at is None or self.wishes.keep:
            return False
        return time.monotonic() - self._asked_at > self.wishes.patience

    def _take(self, event: Event) -> None:
        if event.name == "SHUTDOWN":
            self._by_guest = bool(event.data.get("guest"))
        elif event.name == "RESET" and event.data.get("guest"):
            self.resets += 1
        elif event.name == "BLOCK_IO_ERROR":
            self._io_error(event)
        elif event.name == "STOP":
            self._paused()
        elif event.name == "GUEST_PANICKED":
            self.say("the guest says that it has panicked")

    def _paused(self) -> None:
        """Something has paused the guest; whether it can go on is QEMU's to say."""
        assert self.process is not None
        with contextlib.suppress(ByreError):
            watch = self.process.connect()
            if watch.execute("query-status").get("status") == "internal-error":
                if self.wishes.may_give_up and not _has_written(watch):
                    self._given_up = True
                    return
                step = "" if self.options.accelerator == "tcg" else "; try it with --accel tcg"
                self.say(f"{self.options.accelerator.upper()} can't go on with this guest: it stands still{step}")

    def _io_error(self, event: Event) -> None:
        if event.data.get("nospace"):
            if not self._warned_full:
                self.say("the host's disk is full: the guest waits. Make room, and it goes on by itself")
            self._warned_full = time.monotonic()
        elif event.data.get("action") != "ignore":
            what = "write to" if event.data.get("operation") == "write" else "read from"
            self.say(f"QEMU couldn't {what} its disk: {event.data.get('reason', 'no reason given')}")

    def _retry(self) -> None:
        """After a full disk: go on; QEMU pauses it again where there is still no room."""
        if self._warned_full and time.monotonic() - self._warned_full > RETRY_SECONDS:
            assert self.process is not None
            with contextlib.suppress(ByreError):
                self.process.connect().execute("cont")
                self._warned_full = 0.0

    def begin(self, source: Source, disk: Disk) -> None:
        """Make what it needs and start it. ``disk`` is open, and stays so for as long as it runs unless it is kept;
        whatever goes wrong, nothing of it remains.

        On Linux a machine of which nothing lasts ends with the thread that calls this, however that ends. One that is
        kept doesn't: to pull its plug may cost its file systems, so it runs on as an orphan.
        """
        try:
            self._begin(source, disk)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it, and remove everything that was made for it. A second time there is nothing left to do."""
        if self._closed:
            return
        self._closed = True
        if self.process is not None:
            self.process.end()
        self._closing.close()
        self.taken.release()

    def _begin(self, source: Source, disk: Disk) -> None:
        folder = self.taken.run.folder
        self.user = self._account(source)
        owner = self.user.uid if self.user else None
        scratch = scratch_folder()
        overlay, iso = scratch / f"{self.name}.overlay.qcow2", scratch / f"{self.name}.share.iso"
        self.taken.record(
            image=source.path if is_url(source.path) else str(Path(source.path).absolute()),
            snapshot=source.snapshot.name if source.snapshot else None,
            keep=self.wishes.keep,
            network=self.options.network,
            acpi=self.machine.acpi.value,
            accelerator=self.options.accelerator,
            leftovers=(str(overlay), str(iso)),
        )
        for stale in (overlay, iso):
            stale.unlink(missing_ok=True)
        if self.wishes.share is not None:
            made = write_disc(self.wishes.share, iso)
            self.options = replace(self.options, disc=iso)
            self.say(f"shared as a read-only disc: {made.files} files" + _left_out(made.skipped))
        if self.wishes.keep:
            drive = kept(source, has_snapshot=self.wishes.snapshot_first)
            self.taken.record(disk=drive.top if source.format == "qcow2" else "")
            self._keep(source, disk)
        else:
            drive = self._throwaway(source, disk, overlay, owner)
        for path in (overlay, iso, folder):
            if owner is not None and path.exists():
                os.chown(path, owner, -1)
        if self.options.network == "isolated":
            relay = Relay(folder, owner=owner)
            self._closing.callback(relay.close)
        self._start(source, drive)
        self.taken.record(started=time.time())
        # QEMU has them open by now: without names they go with QEMU's last breath, whatever ends that.
        for open_by_now in (overlay, iso):
            open_by_now.unlink(missing_ok=True)

    def _account(self, source: Source) -> User | None:
        user = lesser_account()
        if user is None or self.options.display == "gtk" or _needs_devices(self.options):
            if user is not None:
                self.say("QEMU runs as root: what was asked for needs it")
            return None
        if self.options.accelerator == "kvm" and not may(user, Path("/dev/kvm"), write=True):
            self.say(f"QEMU runs as root: {user.name} may not use /dev/kvm")
            return None
        if self.wishes.keep and not may(user, Path(source.path), write=True):
            self.say(f"QEMU runs as root: {user.name} may not write the image")
            return None
        return user

    def _keep(self, source: Source, disk: Disk) -> None:
        disk.close()  # our reader's locks would keep QEMU from writing
        if not self.wishes.snapshot_first:
            return
        from byre.disks.opening import open_bare
        from byre.disks.qcow2.snapshots import create_snapshot

        storage, _ = open_bare(source.path, writable=True)
        try:
            name = time.strftime("before-run-%Y%m%dT%H%M%SZ", time.gmtime())
            made = create_snapshot(storage, name)
        finally:
            storage.close()
        self.say(f"snapshot {made.snapshot.name} keeps what is there now; 'byre snapshot revert' goes back to it")

    def _throwaway(self, source: Source, disk: Disk, overlay: Path, owner: int | None) -> Drive:
        create_overlay(overlay, source.size)
        readable = self.user is None or may_all(self.user, (path for path, _ in source.files))
        if source.files and readable:
            from byre.machine.qemu.drive import chain_drive

            return overlay_drive(overlay, chain_drive(source.files))
        served = Served(disk, self.taken.run.folder, log=self.say, owner=owner)
        self._closing.callback(served.close)
        return overlay_drive(overlay, served.drive)

    def _start(self, source: Source, drive: Drive) -> None:
        state = source.snapshot
        if state is not None and state.vm_state_size and not self.wishes.cold:
            problem = self._resume(source, drive)
            if problem is None:
                self.resumed = True
                return
            self.say(f"the snapshot's machine state can't be used here: {problem}. The guest starts cold")
        elif state is not None and not state.vm_state_size:
            self.say("the snapshot holds no machine state: the guest starts cold")
        self._launch(self.machine, drive, self.options)

    def _launch(self, machine: Machine, drive: Drive, options: Options) -> None:
        folder = self.taken.run.folder
        stdin = sys.stdin.fileno() if self.wishes.console else None
        command = command_line(machine, drive, options)
        self.process = start(command, folder, user=self.user, stdin=stdin, dies_with_us=not self.wishes.keep)
        self.taken.record(pid=self.process.pid, begun=start_of(self.process.pid))
        try:
            watch = self.process.connect()
            if options.network == "none" and machine.network.value != "none":
                with contextlib.suppress(QmpClosedError):  # a guest may be over by now: ``watch`` says how it ended
                    watch.execute("set_link", name="nic0", up=False)
        except BaseException:
            self.process.end()
            raise

    def _resume(self, source: Source, drive: Drive) -> str | None:
        """Start it from the snapshot's machine state; None where it runs, else why not, and nothing runs."""
        assert source.snapshot is not None
        read, close = vm_state.reader_of(Path(source.path), source.snapshot.id)
        problem: str | None = None
        try:
            saved = vm_state.saved_machine(read, source.snapshot.vm_state_size)
            machine = self.machine
            if saved.memory:
                machine = replace(machine, memory=Choice(saved.memory, "what the state was saved with"))
            self._launch(machine, drive, replace(self.options, incoming=True, machine_type=saved.type))
            assert self.process is not None
            socket_path = self.taken.run.folder / INCOMING_SOCKET
            problem = vm_state.feed(self.process, socket_path, read, source.snapshot.vm_state_size)
        except AcceleratorError:
            raise  # no fault of the state's
        except UnsupportedError as error:
            problem = error.what
        except StorageError as error:
            problem = str(error.found or error.what).partition("\n")[0]
        finally:
            close()
            if problem is not None and self.process is not None:
                self.process.end()
        return problem


def _has_written(monitor: QmpClient) -> bool:
    """Whether anything of what the guest did is on a disk of its."""
    counts = [row.get("stats", {}) for row in monitor.execute("query-blockstats")]
    return any(each.get("wr_operations", 0) or each.get("unmap_operations", 0) for each in counts)


def prepare(machine: Machine, options: Options, wishes: Wishes, *, name: str | None = None, say: Say) -> Running:
    """Take a name for the machine; ``begin`` starts it. The network card's address follows from that name and stays
    the same from run to run."""
    taken = claim(name or machine.name)
    folder = taken.run.folder
    return Running(machine, replace(options, folder=folder, mac=address_of(taken.run.name)), wishes, taken, say=say)


def address_of(name: str) -> str:
    """A network card's address for the machine of this name, in QEMU's own range; two guests never share one."""
    digest = hashlib.sha256(f"{os.getuid()}:{name}".encode()).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def _needs_devices(options: Options) -> bool:
    ports = (*options.serial, *options.parallel)
    return bool(options.usb) or any(port.driver in ("serial", "parallel", "file", "socket") for port in ports)


def _left_out(skipped: int) -> str:
    return f"; {skipped} links and special files left out" if skipped else ""

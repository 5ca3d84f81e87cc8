"""``byre run``: start an image under QEMU on the hardware that it wants, without risk to image or network."""

from __future__ import annotations

import argparse
import os
import re
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.machines import add_profile_options
from byre.cli.options import add_image, open_image, patience_argument
from byre.cli.output import Output, printable
from byre.errors import MissingError, StorageError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from byre.disks.disk import Disk
    from byre.machine.hardware import Machine
    from byre.machine.qemu.command import Options, Port
    from byre.machine.running import Ending, Running, Wishes
    from byre.machine.source import Source

SUMMARY = """\
Start an image under QEMU, on the hardware that the guest was installed for.

By default nothing lasts and nothing leaks: what the guest writes goes into an overlay that vanishes at the end, its
network cable is pulled, nothing of the host is shared. Ctrl-C asks the guest to shut down and ends it a minute later;
with --keep it is never ended without a second Ctrl-C."""
EXAMPLES = """
  byre run xp.qcow2
  byre run xp.qcow2 --keep                      writes to the image, after taking a snapshot
  byre run xp.qcow2@clean                       from an internal snapshot
  byre run xp.vdi --network isolated            a wire to Byre's other guests, and to nothing else
  byre run cnc.qcow2 --serial /dev/ttyUSB0 --parallel /dev/parport0 --usb 0529:0001
  byre run xp.qcow2 --share ./drivers           as a read-only disc
  byre run xp.qcow2 --dry-run                   the exact command
"""
VERDICTS = """\
   0 the guest has shut down, or was stopped with 'byre stop'
   1 it was ended: by Ctrl-C, or because it didn't shut down in time"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    add_profile_options(parser)
    group = parser.add_argument_group("running")
    group.add_argument("--name", metavar="NAME", help="its name for 'byre ps' and the like (default: from the image)")
    group.add_argument("--keep", action="store_true", help="write to the image, which is locked meanwhile")
    group.add_argument("--no-snapshot", action="store_true", help="with --keep: take no snapshot first")
    group.add_argument(
        "--network",
        choices=("none", "isolated", "nat"),
        default="none",
        help="none: the cable is pulled (default); isolated: Byre's other guests only; nat: out through this host",
    )
    group.add_argument(
        "--share", metavar="DIR", help="a folder of this host as a read-only disc, copied as it is now"
    )
    group.add_argument(
        "--serial", metavar="DEVICE", action="append", default=[], help="/dev/ttyS0, file:PATH, unix:PATH or stdio"
    )
    group.add_argument("--parallel", metavar="DEVICE", action="append", default=[], help="/dev/parport0, file:PATH")
    group.add_argument("--usb", metavar="VID:PID", action="append", default=[], help="a USB device of this host")
    group.add_argument("--display", choices=("gtk", "vnc", "none"), help="default: gtk on a desktop, else vnc")
    group.add_argument("--vnc-port", type=int, metavar="N", help="VNC on 127.0.0.1:N instead of a Unix socket")
    group.add_argument(
        "--audio", metavar="DRIVER", default="none", help="QEMU's audio driver (default: none, silent)"
    )
    group.add_argument("--accel", metavar="NAME", help="kvm, hvf, whpx or tcg (default: what is there)")
    group.add_argument("--cold", action="store_true", help="from a snapshot: ignore the machine state in it")
    group.add_argument(
        "--patience",
        type=patience_argument,
        default=60.0,
        metavar="SECONDS",
        help="how long a guest may take to shut down when asked to (default 60)",
    )
    group.add_argument("--force", action="store_true", help="start it though it would stop with a blue screen")
    group.add_argument("--dry-run", action="store_true", help="print the command and start nothing")


def run(args: argparse.Namespace, out: Output) -> int:
    if sys.platform == "win32":
        raise UnsupportedError("machines are run on Linux and macOS only", hint="Export it: byre export.")
    from byre.machine.qemu.process import AcceleratorError
    from byre.machine.running import prepare
    from byre.machine.source import kept, look

    options, wishes, name = _options(args), _wishes(args), _name(args.name)
    with open_image(args, out=out) as disk:
        machine = _machine(args, disk, out)
        source = look(args.image, disk, snapshot=args.snapshot, shared=args.force_share)
        if wishes.keep:
            kept(source, has_snapshot=wishes.snapshot_first)
        options = _settle(machine, options, args, out)
        if args.dry_run:
            return _dry_run(machine, source, options, wishes, name or machine.name, out)

        def attempt(options: Options, wishes: Wishes) -> tuple[Running, Ending]:
            running = prepare(machine, options, wishes, name=name, say=out.notice)
            return running, _to_its_end(running, source, disk, out)

        may_give_up = args.accel is None and options.accelerator != "tcg"
        tried = options.accelerator.upper()
        try:
            running, ending = attempt(options, replace(wishes, may_give_up=may_give_up))
            problem = f"{tried} can't go on with this guest, which has written nothing yet"
        except AcceleratorError as error:
            if not may_give_up:
                raise
            ending, problem = None, f"{tried} can't be used: {str(error.found).splitlines()[-1]}"
        if ending is None or ending.how == "given-up":
            out.notice(f"{problem}; it is started anew with TCG (software, slow)")
            # The snapshot that --keep begins with is there already.
            running, ending = attempt(replace(options, accelerator="tcg"), replace(wishes, snapshot_first=False))
    return _tell(running, ending, out)


def _to_its_end(running: Running, source: Source, disk: Disk, out: Output) -> Ending:
    """Start it and follow it; nothing of it remains."""
    restore = _terminal_state() if running.wishes.console else None
    before = {number: signal.signal(number, lambda *_: running.interrupt()) for number in _signals()}
    try:
        running.begin(source, disk)
        _introduce(running, source, out)
        return running.watch()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        running.close()
        if restore is not None:
            restore()


def _terminal_state() -> Callable[[], None] | None:
    """What puts our terminal back as it is now: QEMU makes it raw for a serial console, and may be killed."""
    if not sys.stdin.isatty():
        return None
    import termios

    descriptor = sys.stdin.fileno()
    state = termios.tcgetattr(descriptor)
    return lambda: termios.tcsetattr(descriptor, termios.TCSADRAIN, state)


def _signals() -> tuple[int, ...]:
    return (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _machine(args: argparse.Namespace, disk: Disk, out: Output) -> Machine:
    from byre.machine.impossible import problems
    from byre.machine.overrides import parse_settings
    from byre.machine.reading import beside, gather_evidence, settled

    overrides = (*beside(args.image), *parse_settings(args.settings))
    evidence = gather_evidence(disk, name=args.image)
    machine = settled(evidence, args.target, overrides)
    for problem in problems(evidence, machine):
        said = f"{problem.setting}={problem.value}: {problem.consequence}"
        if problem.certain and not args.force:
            hint = f"{problem.remedy[:1].upper()}{problem.remedy[1:]}. To start it all the same: --force."
            raise UnsupportedError(f"the guest can't live with {said}", path=args.image, hint=hint)
        out.notice(f"{'expect' if problem.certain else 'uncertain'}: {said}")
    return machine


def _options(args: argparse.Namespace) -> Options:
    from byre.machine.qemu.command import Options

    if args.vnc_port is not None and not 5900 <= args.vnc_port <= 65535:
        raise UsageError("VNC's ports begin at 5900", found=args.vnc_port)
    if not re.fullmatch(r"[a-z]{2,12}", args.audio):
        raise UsageError("the audio driver is a word such as pa, pipewire, alsa", found=args.audio)
    return Options(
        folder=Path(),
        display=args.display or ("vnc" if args.vnc_port is not None else _usual_display()),
        vnc=None if args.vnc_port is None else f"127.0.0.1:{args.vnc_port - 5900}",
        network=args.network,
        audio=args.audio,
        serial=tuple(_port(text, "serial") for text in args.serial),
        parallel=tuple(_port(text, "parallel") for text in args.parallel),
        usb=tuple(_usb(text) for text in args.usb),
        sandbox=sys.platform == "linux",
    )


def _usual_display() -> str:
    return "gtk" if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") else "vnc"


def _wishes(args: argparse.Namespace) -> Wishes:
    from byre.machine.running import Wishes

    if args.no_snapshot and not args.keep:
        raise UsageError("--no-snapshot goes with --keep", hint="Without --keep nothing is written to the image.")
    share = Path(args.share) if args.share else None
    if share is not None and not share.is_dir():
        raise MissingError("isn't a folder", path=share)
    return Wishes(
        keep=args.keep,
        snapshot_first=not args.no_snapshot,
        share=share,
        patience=args.patience,
        console=any(text == "stdio" for text in args.serial),
        cold=args.cold,
    )


def _settle(machine: Machine, options: Options, args: argparse.Namespace, out: Output) -> Options:
    """What the host decides: program, accelerator, firmware. Says which accelerator it is, and what NAT means."""
    from byre.machine.qemu.accelerator import choose
    from byre.machine.qemu.process import find_firmware, find_qemu

    program = find_qemu(machine.architecture.value)
    accelerator = choose(args.accel)
    firmware = find_firmware() if machine.firmware.value == "uefi" else None
    out.notice(f"accelerator: {accelerator.sentence}")
    if options.network == "nat":
        out.notice("warning: with --network nat the guest reaches this host, your network and the internet")
    return replace(options, program=program, accelerator=accelerator.name, firmware=firmware)


def _name(text: str | None) -> str | None:
    from byre.machine.profile import machine_name

    if text is not None and machine_name(text) != text:
        raise UsageError("a machine's name is letters, digits and hyphens", found=text, expected="at most 40")
    return text


def _port(text: str, kind: str) -> Port:
    from byre.machine.qemu.command import Port

    scheme, colon, path = text.partition(":")
    if kind == "serial" and text == "stdio":
        return Port("stdio")
    if colon and scheme == "file" and path:
        return Port("file", str(Path(path).absolute()))
    if colon and scheme == "unix" and path and kind == "serial":
        return Port("socket", str(Path(path).absolute()))
    try:
        status = Path(text).stat()
    except OSError as error:
        raise MissingError(f"no such {kind} port: {error.strerror}", path=text) from error
    if not stat.S_ISCHR(status.st_mode):
        raise UsageError(f"isn't a {kind} port", path=text, hint=f"To write to a file: --{kind} file:{text}")
    if not os.access(text, os.R_OK | os.W_OK):
        group = "dialout" if kind == "serial" else "lp"
        raise StorageError("no permission", path=text, hint=f"sudo usermod -aG {group} $USER, and log in again.")
    return Port(kind, text)


def _usb(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})", text)
    if match is None:
        raise UsageError("a USB device is VID:PID", found=text, expected="such as 0529:0001, as lsusb shows it")
    if sys.platform == "linux":
        devices = Path("/sys/bus/usb/devices")
        there = {_usb_id(device) for device in devices.iterdir()} if devices.is_dir() else set()
        if (match[1].lower(), match[2].lower()) not in there:
            raise MissingError(f"no USB device {text} is plugged in", hint="'lsusb' lists what there is.")
    return int(match[1], 16), int(match[2], 16)


def _usb_id(device: Path) -> tuple[str, str]:
    try:
        return (device / "idVendor").read_text().strip(), (device / "idProduct").read_text().strip()
    except OSError:
        return "", ""


def _dry_run(machine: Machine, source: Source, options: Options, wishes: Wishes, name: str, out: Output) -> int:
    from byre.machine.qemu.command import command_line, shell_line
    from byre.machine.qemu.drive import chain_drive, nbd_drive, overlay_drive
    from byre.machine.running import address_of
    from byre.machine.runs import runtime_folder, scratch_folder
    from byre.machine.source import NBD_SOCKET, kept

    folder = runtime_folder() / name
    overlay = scratch_folder() / f"{name}.overlay.qcow2"
    disc = scratch_folder() / f"{name}.share.iso" if wishes.share else None
    if wishes.keep:
        drive = kept(source, has_snapshot=wishes.snapshot_first)
    else:
        below = chain_drive(source.files) if source.files else nbd_drive(folder / NBD_SOCKET)
        drive = overlay_drive(overlay, below)
    options = replace(options, folder=folder, mac=address_of(name), disc=disc)
    words = command_line(machine, drive, options)
    payload = {"image": source.address, "dry_run": True, "name": name, "command": list(words)}
    out.result("run", payload, lambda console: console.print(printable_lines(shell_line(words))))
    return 0


def printable_lines(text: str) -> str:
    """Text of several lines of ours, with what a name may hold escaped."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _introduce(running: Running, source: Source, out: Output) -> None:
    taken = running.taken.run
    what = "from its snapshot's machine state" if running.resumed else "from the start"
    lasts = "what it writes stays" if running.wishes.keep else "what it writes vanishes"
    out.notice(f"{running.name} runs {what}; {lasts}; network: {running.options.network}")
    if source.why_served is not None and not running.wishes.keep:
        out.notice(f"the disk is read by Byre and handed to QEMU read-only: {source.why_served}")
    if running.options.display == "vnc":
        where = running.options.vnc or f"unix socket {taken.folder / 'vnc.sock'}"
        out.notice(f"its screen: VNC on {where}")
    out.notice(f"'byre stop {running.name}' or Ctrl-C ends it")


def _tell(running: Running, ending: Ending, out: Output) -> int:
    sentence = {
        "shutdown": "the guest has shut down",
        "asked": "the guest has shut down as asked",
        "stopped": "stopped by 'byre stop'",
        "quit": "ended; the guest didn't shut down itself",
    }[ending.how]
    payload = {
        "image": running.taken.run.image,
        "name": running.name,
        "ended": ending.how,
        "seconds": round(ending.seconds, 3),
        "resets": ending.resets,
        "resumed": running.resumed,
        "kept": running.wishes.keep,
        "accelerator": running.options.accelerator,
        "network": running.options.network,
    }
    out.result("run", payload, lambda console: console.print(f"{running.name}: {sentence}"))
    return 1 if ending.how == "quit" else 0

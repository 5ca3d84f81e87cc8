"""QEMU's command line for a machine: a pure function from values to words. Nothing is looked up, nothing is run.

Options as QEMU 7.2 documents them (``qemu-system-x86_64 -help``, ``docs/system/invocation.rst``).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from byre.errors import UnsupportedError
from byre.machine.hardware import Machine
from byre.machine.qemu.devices import NETWORK_DEVICES, SOUND_DEVICES
from byre.machine.qemu.drive import Drive

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""seccomp: no other programs, no other user, no priorities. Linux only."""
DISPLAYS = ("gtk", "vnc", "none")
QMP_SOCKET = "qmp.sock"
WATCH_SOCKET = "watch.sock"
VNC_SOCKET = "vnc.sock"
FRAMES_IN, FRAMES_OUT = "net.sock", "relay.sock"
INCOMING_SOCKET = "state.sock"
_TABLES = {"i440fx": "pc", "q35": "q35"}


@dataclass(frozen=True, slots=True)
class Port:
    """A serial or parallel port of the host, or something in its place: a chardev's driver and its path."""

    driver: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How a machine is run. ``folder`` is the runtime folder in which its sockets are made, ``mac`` the address of
    its network card; ``frozen`` starts it stopped; ``memory_file`` makes its RAM a shared file of that name."""

    folder: Path
    program: str = "qemu-system-x86_64"
    accelerator: str = "tcg"
    display: str = "none"
    vnc: str | None = None
    """None: a socket in the folder; else ``127.0.0.1:N`` of a VNC display."""
    network: str = "none"
    mac: str = "52:54:00:00:00:01"
    audio: str = "none"
    disc: Path | None = None
    serial: tuple[Port, ...] = ()
    parallel: tuple[Port, ...] = ()
    usb: tuple[tuple[int, int], ...] = ()
    firmware: Path | None = None
    machine_type: str | None = None
    """A versioned machine of QEMU's (``pc-i440fx-7.2``), for a state that was saved on it."""
    incoming: bool = False
    frozen: bool = False
    reboot: bool = True
    sandbox: bool = True
    memory_file: Path | None = None
    more: tuple[str, ...] = field(default=())
    """Words for the boot test; never the user's or an image's."""


def command_line(machine: Machine, drive: Drive, options: Options) -> tuple[str, ...]:
    """The words that start QEMU as this machine with this disk.

    Raises UnsupportedError where QEMU doesn't have the machine's controller.
    """
    words = [options.program, "-name", f"byre-{machine.name}", "-nodefaults", "-no-user-config"]
    if options.sandbox:
        words += ["-sandbox", SANDBOX]
    words += _board(machine, options)
    for node in drive.nodes:
        words += ["-blockdev", _as_json(node)]
    words += _disk(machine, drive)
    if options.disc is not None:
        words += _disc(machine, options.disc)
    words += _network(machine, options)
    words += _picture_and_sound(machine, options)
    words += _pointer_and_usb(machine, options)
    words += _ports(options)
    for name in (QMP_SOCKET, WATCH_SOCKET):
        chardev = name.removesuffix(".sock")
        path = escaped(str(options.folder / name))
        words += ["-chardev", f"socket,id={chardev},path={path},server=on,wait=off"]
        words += ["-mon", f"chardev={chardev},mode=control"]
    if options.incoming:
        words += ["-incoming", "defer"]
    if options.frozen:
        words.append("-S")
    if not options.reboot:
        words.append("-no-reboot")
    return (*words, *options.more)


def escaped(text: str) -> str:
    """A value inside one of QEMU's ``key=value,key=value`` words: commas are doubled."""
    return text.replace(",", ",,")


def shell_line(words: Iterable[str]) -> str:
    """The command as it can be pasted into a POSIX shell, one option a line."""
    lines: list[str] = []
    for word in words:
        quoted = shlex.quote(word)
        if lines and not word.startswith("-"):
            lines[-1] += " " + quoted
        else:
            lines.append(quoted)
    return " \\\n  ".join(lines)


def _board(machine: Machine, options: Options) -> list[str]:
    board = [options.machine_type or _TABLES[machine.chipset.value], f"accel={options.accelerator}", "vmport=off"]
    board += [f"hpet={_on(machine.hpet.value)}", f"acpi={_on(machine.acpi.value)}", "usb=off"]
    size = machine.memory.value >> 20
    words = []
    if options.memory_file is not None:
        path = escaped(str(options.memory_file))
        words += ["-object", f"memory-backend-file,id=ram,size={size}M,mem-path={path},share=on"]
        board.append("memory-backend=ram")
    cpu = machine.cpu.value
    if cpu == "host" and options.accelerator == "tcg":
        cpu = "max"
    features = [f"{name}=off" for name in machine.hidden.value]
    if not machine.apic.value:
        features.append("apic=off")
    words += ["-machine", ",".join(board), "-cpu", ",".join((cpu, *features))]
    words += ["-smp", str(machine.cpus.value), "-m", f"{size}M"]
    # Ticks that a busy host made it miss are given later: guests that count ticks (all here) would run slow.
    words += ["-rtc", f"base={machine.clock.value},driftfix=slew", "-boot", "menu=off,strict=on"]
    if options.accelerator == "kvm":
        words += ["-global", "kvm-pit.lost_tick_policy=delay"]
    if options.firmware is not None:
        words += ["-bios", str(options.firmware)]
    return words


def _on(value: bool) -> str:
    return "on" if value else "off"


def _disk(machine: Machine, drive: Drive) -> list[str]:
    disk = f"drive={drive.top},id=bootdisk,bootindex=1"
    name = machine.controller.value
    if name == "piix3-ide" and machine.chipset.value == "i440fx":
        return ["-device", f"ide-hd,bus=ide.0,unit=0,{disk}"]
    if name == "ich9-ahci" and machine.chipset.value == "q35":
        return ["-device", f"ide-hd,bus=ide.0,{disk}"]
    if name == "piix4-ide":  # its ports lie over those of the board's own PIIX3, which stays empty
        return ["-device", "piix4-ide,id=disks", "-device", f"ide-hd,bus=disks.0,unit=0,{disk}"]
    if name == "ich9-ahci":
        return ["-device", "ich9-ahci,id=disks", "-device", f"ide-hd,bus=disks.0,{disk}"]
    if name == "lsi53c895a":
        return ["-device", "lsi53c895a,id=disks", "-device", f"scsi-hd,bus=disks.0,{disk}"]
    if name == "virtio-scsi":
        return ["-device", "virtio-scsi-pci,id=disks", "-device", f"scsi-hd,bus=disks.0,{disk}"]
    if name == "virtio-blk":
        return ["-device", f"virtio-blk-pci,{disk}"]
    raise UnsupportedError(
        f"QEMU has no {name} on a machine with {machine.chipset.value}",
        hint="Run it on another controller: --set controller=piix3-ide.",
    )


def _disc(machine: Machine, path: Path) -> list[str]:
    file = {"driver": "file", "filename": str(path), "read-only": True}
    node = {"node-name": "disc", "driver": "raw", "read-only": True, "file": file}
    own = machine.controller.value == "piix4-ide" or (
        machine.controller.value == "ich9-ahci" and machine.chipset.value == "i440fx"
    )
    bus = "disks.1" if own else "ide.1"  # where the guest has its disk, it has a driver for discs as well
    return ["-blockdev", _as_json(node), "-device", f"ide-cd,bus={bus},drive=disc,id=sharedisc"]


def _network(machine: Machine, options: Options) -> list[str]:
    card = machine.network.value
    if card == "none":
        return []
    if options.network == "nat":
        backend = "user,id=net0"
    elif options.network == "isolated":
        local = escaped(str(options.folder / FRAMES_IN))
        remote = escaped(str(options.folder / FRAMES_OUT))
        backend = f"dgram,id=net0,local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
    else:  # a hub with nobody on it; the cable is pulled as soon as QMP answers
        backend = "hubport,id=net0,hubid=0"
    device = NETWORK_DEVICES.get(card, card)
    return ["-netdev", backend, "-device", f"{device},netdev=net0,id=nic0,mac={options.mac},romfile="]


def _picture_and_sound(machine: Machine, options: Options) -> list[str]:
    words = ["-vga", machine.display.value]
    if options.display == "vnc":
        words += ["-vnc", options.vnc or "unix:" + escaped(str(options.folder / VNC_SOCKET))]
    else:
        words += ["-display", options.display]
    card = machine.sound.value
    if card == "none":
        return words
    words += ["-audiodev", f"{options.audio},id=sound"]
    if card == "hda":
        return [*words, "-device", "intel-hda,id=hda", "-device", "hda-duplex,bus=hda.0,audiodev=sound"]
    return [*words, "-device", f"{SOUND_DEVICES[card]},audiodev=sound"]


def _pointer_and_usb(machine: Machine, options: Options) -> list[str]:
    words = []
    if machine.pointer.value == "usb-tablet" or options.usb:
        words += ["-device", "piix3-usb-uhci,id=usb"]
    if machine.pointer.value == "usb-tablet":
        words += ["-device", "usb-tablet,bus=usb.0"]
    if options.usb:
        words += ["-device", "usb-ehci,id=usb2"]
    for vendor, product in options.usb:
        words += ["-device", f"usb-host,vendorid={vendor:#06x},productid={product:#06x}"]
    return words


def _ports(options: Options) -> list[str]:
    words = []
    for kind, device, ports in (
        ("serial", "isa-serial", options.serial),
        ("parallel", "isa-parallel", options.parallel),
    ):
        for number, port in enumerate(ports):
            name = f"{kind}{number}"
            path = f",path={escaped(port.path)}" if port.path else ""
            if port.driver == "socket":
                path += ",server=on,wait=off"
            if port.driver == "stdio":
                path += ",signal=on"  # Ctrl-C stays Byre's; QEMU has a session of its own
            words += ["-chardev", f"{port.driver},id={name}{path}", "-device", f"{device},chardev={name}"]
    return words


def _as_json(node: Mapping[str, object]) -> str:
    text = json.dumps(node, sort_keys=True, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnsupportedError(
            "QEMU takes only file names in UTF-8",
            found=repr(text[max(0, error.start - 40) : error.end + 40]),
            hint="Rename the image or its folder.",
        ) from error
    return json.dumps(node, sort_keys=True)

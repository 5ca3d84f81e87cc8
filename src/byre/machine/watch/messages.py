"""Texts with which firmware, boot loaders and systems say that they can't go on, and prompts that say that they can.

A text counts where it is on the screen or on the serial line. Each has a meaning for people. Sources: what the
programs themselves print: SeaBIOS, Windows' MBR, boot sectors and NTLDR (KB314477 and others), bootmgr, FreeLoader,
GRUB, LILO, SYSLINUX, DOS, and Linux with initramfs-tools, dracut and systemd.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """A text that ends a boot. ``stage`` is who says it: ``firmware``, ``loader`` or ``kernel``; ``panic``: a kernel
    gave up, rather than something that waits for a person."""

    pattern: re.Pattern[str]
    stage: str
    meaning: str
    panic: bool = False


def _message(pattern: str, stage: str, meaning: str, *, panic: bool = False) -> Message:
    return Message(re.compile(pattern, re.IGNORECASE), stage, meaning, panic)


MESSAGES: tuple[Message, ...] = (
    # Linux comes first: its panic stays on the screen beneath whatever was said before.
    _message(r"Kernel panic - not syncing: .*", "kernel", "the Linux kernel gave up", panic=True),
    _message(r"ALERT!.*does not exist\. +Dropping to a shell", "kernel", "the root file system wasn't found"),
    _message(r"^\(initramfs\) *$", "kernel", "the root file system wasn't found or mounted"),
    _message(r"(?:^|\n)dracut:/# *$", "kernel", "the root file system wasn't found or mounted"),
    _message(
        r"This kernel requires an [^\n]* CPU, but only detected an [^\n]* CPU",
        "kernel",
        "the kernel is for 64-bit processors, and the machine has another: --set cpu=qemu64",
    ),
    _message(r"You are in emergency mode", "kernel", "systemd stopped: a mount or a unit that it needs failed"),
    _message(r"Give root password for maintenance", "kernel", "the system stopped for maintenance"),
    # NTLDR and what it loads.
    _message(r"NTLDR is missing", "loader", "NTLDR isn't in the root of the active partition"),
    _message(r"NTLDR is compressed", "loader", "NTLDR is compressed, which the boot sector can't read"),
    _message(r"NTDETECT failed", "loader", "NTDETECT.COM is missing or damaged"),
    _message(r"Invalid BOOT\.INI file", "loader", "boot.ini is damaged"),
    _message(
        r"Windows (?:XP |2000 |NT )?could not start because the following file is missing or corrupt[\s\S]{0,200}",
        "loader",
        "a file that the loader needs is missing or damaged, or boot.ini points to another partition",
    ),
    _message(
        r"Windows (?:XP |2000 |NT )?could not start because of a computer disk hardware configuration problem",
        "loader",
        "boot.ini names a disk or partition that isn't there",
    ),
    _message(r"Windows (?:XP |2000 |NT )?could not start because .*", "loader", "NTLDR can't go on"),
    _message(r"I/O Error accessing boot sector file", "loader", "NTLDR can't read the disk"),
    # bootmgr.
    _message(r"BOOTMGR is missing", "loader", "bootmgr isn't in the root of the active partition"),
    _message(r"BOOTMGR is compressed", "loader", "bootmgr is compressed, which the boot sector can't read"),
    _message(r"BOOTMGR image is corrupt", "loader", "bootmgr is damaged"),
    _message(
        r"Windows (?:Boot Manager|failed to start)[\s\S]{0,1500}?Status: 0x[0-9a-f]{8}",
        "loader",
        "bootmgr can't start Windows: 0xc000000f is the BCD or a file, 0xc000000e the device, 0xc0000225 the entry",
    ),
    # FreeLoader.
    _message(r"No active partition(?: found)?", "loader", "no partition is marked active"),
    _message(r"Could not load [^\n]*", "loader", "FreeLoader misses a file"),
    _message(r"Cannot load boot driver[^\n]*", "loader", "FreeLoader misses a boot driver's file"),
    _message(r"freeldr\.(?:sys|ini) not found[^\n]*", "loader", "FreeLoader isn't there whole"),
    _message(r"FreeLdr(?:\.sys)? (?:is )?(?:missing|not found)", "loader", "FreeLoader isn't there"),
    # Boot sectors.
    _message(r"Invalid partition table", "loader", "the partition table has no, or more than one, active partition"),
    _message(r"Error loading operating system", "loader", "the active partition's boot sector can't be read"),
    _message(r"Missing operating system", "loader", "the active partition has no boot sector"),
    _message(
        r"A disk read error occurred|(?:^|\n)Disk error *(?:\n|$)", "loader", "the boot sector can't read its volume"
    ),
    _message(r"Byre's boot code: [^\n]*", "loader", "the boot sector that Byre wrote can't start NTLDR"),
    _message(r"The active partition (?:can't be read|has no boot sector)", "loader", "nothing to start there"),
    _message(
        r"Non-System disk or disk error|Invalid system disk|Remove disks or other media", "loader", "no system files"
    ),
    _message(r"BOOT: Couldn'?t find NTLDR", "loader", "NTLDR isn't in the root of the active partition"),
    # Linux loaders.
    _message(r"^grub rescue> ?$", "loader", "GRUB can't find its own files"),
    _message(r"^grub> ?$", "loader", "GRUB has no menu to start from"),
    _message(r"GRUB (?:Geom|Hard Disk|Read|Floppy) Error|^GRUB *$", "loader", "GRUB can't read the disk"),
    _message(
        r"error: (?:no such (?:device|partition|disk)|unknown filesystem|file [^\n]* not found)[^\n]*",
        "loader",
        "GRUB misses what its menu names",
    ),
    _message(r"^L(?: [0-9a-f]{2}){3,}|^LI *$", "loader", "LILO can't read its files"),
    _message(r"Could not find (?:kernel image|ramdisk image)[^\n]*", "loader", "SYSLINUX misses what its menu names"),
    _message(r"Failed to load (?:ldlinux\.c32|COM32 file[^\n]*)", "loader", "SYSLINUX isn't there whole"),
    _message(r"No DEFAULT or UI configuration directive found", "loader", "SYSLINUX has no menu to start from"),
    # Firmware comes last: what it said stays on the screen while a loader says more.
    _message(r"No bootable device", "firmware", "no disk has a boot sector that the BIOS takes"),
    _message(
        r"Boot failed: (?:not a bootable disk|could not read the boot disk)",
        "firmware",
        "the disk has no boot sector that the BIOS takes",
    ),
)
_KERNEL_LOG = re.compile(r"\[ *\d+\.\d{6}\] .*$")
"""What a Linux kernel still says after a prompt, on a line of its own or behind it."""
_SCREEN_WIDTH = 80
_LOGIN = re.compile(r"(?:^|[\w.-]+ )login: ?$", re.IGNORECASE)
_SHELL = re.compile(r"^(?:\[?[\w.@:~/ -]*\]?)?(?:[~\w/)\]] ?)?[#$] ?$")
_DOS = re.compile(r"^[A-Z]:\\[^<>\n]{0,60}> ?$")
_STARTED = (
    (re.compile(r"Linux version \d\S*"), "kernel"),
    (re.compile(r"Decompressing Linux|Booting the kernel"), "kernel"),
    (re.compile(r"Starting (?:Windows|MS-DOS|PC DOS)[^\n]*|Loading (?:Linux|initial ramdisk)[^\n]*"), "loader"),
    (re.compile(r"SYSLINUX \d|EXTLINUX \d|ISOLINUX \d|GNU GRUB|Please select the operating system"), "loader"),
    (re.compile(r"Booting from Hard Disk|Booting from 0000:7c00"), "loader"),
    (re.compile(r"SeaBIOS \(version|iPXE \(|Plex86/Bochs VGABios"), "firmware"),
)


def find_message(lines: Sequence[str]) -> tuple[str, Message] | None:
    """The first message of the table that the lines hold, and the text as it stands there, on one line."""
    whole = "\n".join(lines)
    for message in MESSAGES:
        if message.pattern.pattern.startswith("^") or message.pattern.pattern.startswith("(?:^"):
            # What looks like a prompt is one only where nothing stands below it.
            found = message.pattern.search(_last_line(lines))
        else:
            found = message.pattern.search(whole)
        if found is not None:
            return " ".join(found[0].split()), message
    return None


def find_prompt(lines: Sequence[str]) -> str | None:
    """The last line, where it is a login's, a shell's or DOS's prompt; a loader's prompt is none."""
    last = _last_line([_KERNEL_LOG.sub("", line) for line in _unwrapped(lines)])
    if len(last) > 80 or last.lower().startswith(("grub", "boot:", "(initramfs)", "dracut:")):
        return None
    for pattern in (_LOGIN, _SHELL, _DOS):
        if pattern.search(last):
            return last
    return None


def find_start(lines: Sequence[str]) -> tuple[str, str] | None:
    """(stage, text) of the latest stage that the lines are a sign of."""
    whole = "\n".join(lines)
    for pattern, stage in _STARTED:
        found = pattern.search(whole)
        if found is not None:
            return stage, " ".join(found[0].split())
    return None


def _unwrapped(lines: Sequence[str]) -> list[str]:
    """Lines of a screen that run over its edge, as the one line that they are."""
    whole: list[str] = []
    runs_over = False
    for line in lines:
        if runs_over:
            whole[-1] += line
        else:
            whole.append(line)
        runs_over = len(line) == _SCREEN_WIDTH
    return whole


def _last_line(lines: Sequence[str]) -> str:
    return next((line.rstrip() for line in reversed(lines) if line.strip()), "")

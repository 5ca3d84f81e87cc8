"""What loaders and systems say when they can't go on, and what is a prompt."""

from __future__ import annotations

import pytest

from byre.machine.watch.messages import MESSAGES, find_message, find_prompt, find_start
from byre.machine.watch.serial_line import MOST_LINES, serial_lines

SAID = [
    ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", "kernel"),
    ("ALERT!  UUID=1234 does not exist.  Dropping to a shell!", "kernel"),
    ("(initramfs) ", "kernel"),
    ("dracut:/#", "kernel"),
    ("This kernel requires an x86-64 CPU, but only detected an i686 CPU.", "kernel"),
    ("You are in emergency mode. After logging in, type ...", "kernel"),
    ("Give root password for maintenance", "kernel"),
    ("NTLDR is missing", "loader"),
    ("NTLDR is compressed", "loader"),
    ("NTDETECT failed", "loader"),
    ("Invalid BOOT.INI file", "loader"),
    (
        "Windows could not start because the following file is missing or corrupt:\n<root>\\system32\\hal.dll.",
        "loader",
    ),
    (
        "Windows could not start because of a computer disk hardware configuration problem.\nCould not read from the "
        "selected boot disk.",
        "loader",
    ),
    ("Windows could not start because of an error in the software.", "loader"),
    ("I/O Error accessing boot sector file", "loader"),
    ("BOOTMGR is missing", "loader"),
    ("BOOTMGR is compressed", "loader"),
    ("BOOTMGR image is corrupt. The system cannot boot.", "loader"),
    ("Windows failed to start. A recent change might be the cause.\n\n    Status: 0xc000000f", "loader"),
    ("No active partition found", "loader"),
    ("No active partition", "loader"),
    ("Could not load hal.dll", "loader"),
    ("Cannot load boot driver 'uniata.sys'!", "loader"),
    ("freeldr.ini not found or empty", "loader"),
    ("FreeLdr not found", "loader"),
    ("Invalid partition table", "loader"),
    ("Error loading operating system", "loader"),
    ("Missing operating system", "loader"),
    ("A disk read error occurred", "loader"),
    ("Disk error", "loader"),
    ("Byre's boot code: the file system is damaged", "loader"),
    ("The active partition has no boot sector", "loader"),
    ("The active partition can't be read", "loader"),
    ("Non-System disk or disk error", "loader"),
    ("BOOT: Couldn't find NTLDR", "loader"),
    ("grub rescue> ", "loader"),
    ("grub> ", "loader"),
    ("GRUB Hard Disk Error", "loader"),
    ("error: no such partition.", "loader"),
    ("L 99 99 99 99 99", "loader"),
    ("Could not find kernel image: vmlinuz", "loader"),
    ("Failed to load ldlinux.c32", "loader"),
    ("No DEFAULT or UI configuration directive found!", "loader"),
    ("No bootable device.", "firmware"),
    ("Boot failed: not a bootable disk", "firmware"),
]
PROMPTS = [
    "guest:~# ",
    "# ",
    "$",
    "/ # ",
    "~ $",
    "[root@host ~]# ",
    "user@host:/var/log$ ",
    "debian login: ",
    "debian12 login:",
    "C:\\>",
    "C:\\WINDOWS>",
]


@pytest.mark.parametrize(("said", "stage"), SAID, ids=lambda value: value[:30])
def test_each_message_is_recognised_on_a_screen(said: str, stage: str) -> None:
    found = find_message(["SeaBIOS (version 1.16)", "Booting from Hard Disk...", *said.split("\n"), "", ""])
    assert found is not None
    text, message = found
    assert message.stage == stage
    assert said.split("\n")[0].split()[0] in text
    assert message.meaning


def test_each_row_of_the_table_has_a_specimen() -> None:
    tripped = set()
    for said, _ in SAID:
        found = find_message(said.split("\n"))
        assert found is not None
        tripped.add(found[1].pattern.pattern)
    assert {message.pattern.pattern for message in MESSAGES} == tripped


@pytest.mark.parametrize(
    "lines",
    [
        ["SeaBIOS (version 1.16)", "Booting from Hard Disk..."],
        ["[    0.000000] Linux version 6.1.0", "[    0.5] Run /init as init process"],
        ["grub> linux /vmlinuz", "Loading Linux 6.1 ..."],
        [],
    ],
)
def test_a_boot_that_goes_on_says_nothing_of_the_kind(lines: list[str]) -> None:
    assert find_message(lines) is None


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_is_the_last_line(prompt: str) -> None:
    assert find_prompt(["[    1.0] something", prompt, "", ""]) == prompt.rstrip()
    assert find_prompt([prompt, "the command's output"]) is None


def test_a_kernel_that_talks_on_behind_a_prompt_doesnt_hide_it() -> None:
    late = "[    2.136787] tsc: Refined TSC clocksource calibration: 2249.984 MHz"
    assert find_prompt([f"guest:~# {late}", late]) == "guest:~#"


def test_a_kernels_line_that_runs_over_the_screens_edge_hides_no_prompt() -> None:
    late = "guest:~# [    2.284818] clocksource: tsc: mask: 0xffffffffffffffff max_cycles: 0x206e"
    assert len(late) > 80
    assert find_prompt([late[:80], late[80:] + " max_idle_ns: 440795306245 ns", ""]) == "guest:~#"


@pytest.mark.parametrize(
    "line", ["grub rescue> ", "grub> ", "boot: ", "(initramfs) ", "Password:", "100% done #", "Is this ok? y/n", ""]
)
def test_a_loaders_prompt_or_a_question_is_none(line: str) -> None:
    assert find_prompt(["text", line]) is None


def test_the_latest_stage_is_told() -> None:
    lines = ["SeaBIOS (version 1.16.2)", "Booting from Hard Disk..."]
    assert find_start(lines[:1]) == ("firmware", "SeaBIOS (version")
    assert find_start(lines) == ("loader", "Booting from Hard Disk")
    assert find_start([*lines, "[    0.0] Linux version 6.1.0-1 (gcc)"]) == ("kernel", "Linux version 6.1.0-1")
    assert find_start(["text"]) is None


def test_serial_output_loses_its_control_sequences_and_keeps_its_end() -> None:
    data = b"\x1bc\x1b[?7l\x1b[2J\x1b[01;31mred\x1b[m text\r\nsecond\x07\rthird\n/ # \x1b[6n"
    assert serial_lines(data) == ("red text", "second", "third", "/ #")
    assert len(serial_lines(b"x\n" * 5000)) == MOST_LINES
    assert serial_lines(bytes(range(256)))[-1] is not None

"""The boot test on real machines under TCG: boot sectors of our own, stub kernels, and a Linux guest of Debian's."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builders.boot_screens import STOP_D1, blue_screen, boot_font, boot_video_driver, desktop
from builders.linux_guest import linux_disk
from builders.nt_memory import DRIVERS, HEALTHY, POOLS, Spec
from builders.stub_machines import Stub, message_disk, stub_disk
from byre.machine.boot import BootOptions, boot_image
from byre.machine.qemu.accelerator import Accelerator
from byre.machine.runs import start_of
from byre.machine.watch.expectation import ANY_PROOF, parse_expectation
from byre.machine.watch.observation import BootResult
from byre.machine.watch.timeline import Pace
from oracles import require_tool
from programs import COMMAND, byre, byre_json

pytestmark = [pytest.mark.oracle, pytest.mark.slow]
QUICK = Pace(settle=1.5, still=2, logon=4, dead=1.5, quiet=600)
PATIENCE = 600.0
"""Seconds for what takes one or two, a boot of Linux ten, where nothing else runs."""
WAITS = (6, 30, 150, PATIENCE)
"""Seconds for what is only over when the time is up: the first at which the machine had got to where it stays."""
WITH_SHELL = (*HEALTHY, ("explorer.exe", 1500, 9))


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of its own, on a short path: sockets lie in it."""
    require_tool("qemu-system-x86_64")
    with tempfile.TemporaryDirectory(prefix="byre", dir="/tmp") as folder:
        Path(folder).chmod(0o711)  # root hands QEMU to an account that has to get there
        monkeypatch.setenv("BYRE_RUNTIME_DIR", f"{folder}/run")
        monkeypatch.setenv("TMPDIR", f"{folder}")
        yield Path(folder)


def booted(image: Path, expect: str | None = None, *, timeout: float = PATIENCE, pace: Pace = QUICK) -> BootResult:
    expected = parse_expectation(expect) if expect else ANY_PROOF
    options = BootOptions(expected=expected, timeout=timeout, accelerator="tcg", pace=pace)
    return boot_image(image, options)


@pytest.mark.parametrize(
    ("text", "stage"),
    [("NTLDR is missing\nPress Ctrl+Alt+Del to restart", "loader"), ("Missing operating system", "loader")],
)
def test_a_loaders_message_is_read_from_the_screen(text: str, stage: str, tmp_path: Path) -> None:
    result = booted(message_disk(tmp_path, text))
    assert (result.verdict.kind, result.verdict.stage, result.met) == ("message", stage, False)
    assert result.verdict.text == text.split("\n")[0]
    assert text.split("\n")[0] in result.screen


def test_a_disk_without_a_boot_sector_is_the_firmwares_message(tmp_path: Path) -> None:
    image = tmp_path / "empty.img"
    image.write_bytes(bytes(1 << 20))
    result = booted(image)
    assert (result.verdict.kind, result.verdict.stage) == ("message", "firmware")


def test_a_disk_without_boot_code_is_not_waited_for_as_long_as_one_with_some(tmp_path: Path) -> None:
    """The firmware starts zeros, and says nothing more: a partition table and its mark are no code."""
    image = tmp_path / "data.img"
    code = bytes(446) + bytes.fromhex("80010100070fff3f0100000000380000") + bytes(48) + b"\x55\xaa"
    image.write_bytes(code.ljust(8 << 20, b"\0"))
    result = booted(image, pace=Pace(quiet=3600))
    assert result.verdict.kind == "hang"
    assert result.verdict.proof[0].startswith("nothing changed for "), "it isn't the time that is up"
    assert result.notices == ("there is no boot code in the disk's first sector: nothing can start from it",)


def test_a_processor_halted_for_good_is_a_hang(tmp_path: Path) -> None:
    result = booted(message_disk(tmp_path, "Starting", "dead"))
    assert result.verdict.kind == "hang"
    assert "interrupts off" in result.verdict.proof[0]


def test_a_machine_that_spins_is_a_hang_once_it_was_quiet_for_long(tmp_path: Path) -> None:
    image = message_disk(tmp_path, "Starting", "spin")
    for quiet in WAITS:
        result = booted(image, pace=replace(QUICK, quiet=quiet))
        if "Starting" in result.screen:
            break
        assert result.verdict.kind in ("no-sign-of-life", "hang")  # of its firmware
    assert result.verdict.kind == "hang"
    assert "nothing changed" in result.verdict.proof[0]


def test_a_machine_that_resets_again_and_again_is_a_reset_loop(tmp_path: Path) -> None:
    result = booted(message_disk(tmp_path, "Here we go", "reset"), "reset-loop")
    assert (result.verdict.kind, result.met) == ("reset-loop", True)
    assert sum("reset" in step.what for step in result.steps[:-1]) == 3


def test_a_machine_that_goes_off_is_told(tmp_path: Path) -> None:
    assert booted(message_disk(tmp_path, "Good night", "off"), "off").met


def test_an_expected_text_passes_on_serial_line_and_screen(tmp_path: Path) -> None:
    result = booted(message_disk(tmp_path, "on both lines", "serial"), "text:ON BOTH")
    assert (result.verdict.kind, result.met) == ("text", True)


def test_a_stop_is_read_from_memory_and_from_the_screen_with_the_guests_own_font(tmp_path: Path) -> None:
    """32-bit paging; the font lies in the guest's bootvid.dll, the driver around the address of parameter 4."""
    font = boot_font()
    stub = Stub(
        memory=Spec(processes=WITH_SHELL, driver="c:\\src\\byretest.pdb"),
        canvas=blue_screen(font, STOP_D1),
        stop=(0xD1, 0x10, 2, 0, DRIVERS["32bit"] + 0x2010),
        files={
            "/WINDOWS/system32/config/readme.txt": b"none",
            "/WINDOWS/system32/bootvid.dll": boot_video_driver(font),
        },
    )
    result = booted(stub_disk(tmp_path, stub), "stop:0xd1")
    assert result.met
    assert result.verdict.proof == ("KiBugCheckData in the kernel's memory", "the STOP screen's text says the same")
    assert result.verdict.stop is not None
    assert result.verdict.stop.parameters == (0x10, 2, 0, 0xF7802010)
    assert result.verdict.stop.driver == "byretest.sys"
    assert STOP_D1[2] in result.screen


def test_a_stop_whose_machine_resets_at_once_is_caught_with_the_string_it_names(tmp_path: Path) -> None:
    """PAE paging; parameter 1 of a C-code points at the DLL's name."""
    stub = Stub(
        memory=Spec(mode="pae", text=b"winsrv.dll"), stop=(0xC0000135, POOLS["pae"] + 0x40, 0, 0, 0), then="reset"
    )
    result = booted(stub_disk(tmp_path, stub), "stop:0xc0000135")
    assert result.met
    assert result.verdict.stop is not None
    assert result.verdict.stop.text == "winsrv.dll"
    assert "winsrv.dll" in result.verdict.sentence


def test_a_64_bit_stop_is_read(tmp_path: Path) -> None:
    stub = Stub(memory=Spec(mode="long"), stop=(0x7B, 0xFFFFF880009A97E8, 0xFFFFFFFFC0000034, 0, 0))
    result = booted(stub_disk(tmp_path, stub), "stop")
    assert result.verdict.stop is not None
    assert result.verdict.stop.parameters[:2] == (0xFFFFF880009A97E8, 0xFFFFFFFFC0000034)


def test_shell_and_taskbar_together_are_a_desktop(tmp_path: Path) -> None:
    result = booted(stub_disk(tmp_path, Stub(memory=Spec(processes=WITH_SHELL), canvas=desktop(boot_font()))))
    assert (result.verdict.kind, result.met, result.verdict.degraded) == ("desktop", True, True)
    assert result.screenshot is not None


@pytest.mark.parametrize("half", ["picture", "process"])
def test_a_picture_or_a_process_alone_is_no_desktop(half: str, tmp_path: Path) -> None:
    font = boot_font()
    stub = (
        Stub(memory=Spec(processes=HEALTHY), canvas=desktop(font))
        if half == "picture"
        else Stub(memory=Spec(processes=WITH_SHELL), canvas=desktop(font, taskbar=False))
    )
    image = stub_disk(tmp_path, stub)
    for timeout in WAITS:
        result = booted(image, timeout=timeout)
        half_there = "graphics, 640x480" if half == "picture" else "the shell's process runs"
        since = [step.seconds for step in result.steps if step.what.startswith(half_there)]
        if since and result.seconds - since[0] > 1.5 * QUICK.still:  # as long as a desktop would have to stand
            break
    assert result.verdict.kind in ("hang", "timeout")
    assert not result.met


ON_SERIAL = ("prompt", "guest:~#", ("the last line on the serial line",))
"""The verdict on the Linux guest: its kind, text and proof."""


def test_a_linux_guest_reaches_its_prompt_on_the_serial_line(tmp_path: Path) -> None:
    image = linux_disk(tmp_path, "console=ttyS0")
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    result = booted(image, "prompt")
    assert result.met
    assert (result.verdict.kind, result.verdict.text, result.verdict.proof) == ON_SERIAL
    assert "Byre's Linux guest is up" in result.serial
    assert [step.stage for step in result.steps if "Linux version" in step.what] == ["kernel"]
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before


def test_a_linux_guest_reaches_its_prompt_on_the_screen(tmp_path: Path) -> None:
    """The console scrolls by moving the screen's start; the serial line keeps silent."""
    result = booted(linux_disk(tmp_path, "console=tty0"))
    assert result.met
    assert result.verdict.proof == ("the last line on the screen",)


def test_a_linux_guest_that_panics_is_a_panic(tmp_path: Path) -> None:
    result = booted(linux_disk(tmp_path, "console=ttyS0 byre=panic"), "panic")
    assert result.met
    assert result.verdict.text is not None
    assert "Attempted to kill init" in result.verdict.text


@pytest.mark.parametrize("form", ["ova", "vbox"])
def test_an_exported_disk_boots_with_the_verdict_that_the_image_has(tmp_path: Path, form: str) -> None:
    """A VMDK out of its archive, and a VDI; that the other forms hold the same bytes is held by qemu-img."""
    output = tmp_path / ("x.ova" if form == "ova" else "x")
    byre("export", linux_disk(tmp_path, "console=ttyS0"), "--to", "virtualbox", "--form", form, "-o", output)
    if form == "ova":
        with tarfile.open(output) as archive:
            archive.extractall(tmp_path / "ova", filter="data")
        output = tmp_path / "ova"
    (disk,) = (each for each in output.iterdir() if each.suffix in (".vmdk", ".vdi", ".vhdx", ".qcow2"))
    after = booted(disk).verdict
    assert (after.kind, after.text, after.proof) == ON_SERIAL, disk


def test_qemu_dies_with_a_boot_test_that_is_killed_and_nothing_of_it_remains(tmp_path: Path, runtime: Path) -> None:
    image = message_disk(tmp_path, "Starting", "spin")
    test = subprocess.Popen(
        [*COMMAND, "boot", image, "--accel", "tcg"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert test.stderr is not None
        assert any("on the screen" in line for line in test.stderr), "it watches the machine"
        (machine,) = byre_json("ps")["machines"]
        qemu = machine["pid"]
        assert not list(runtime.glob("byre-*/*.qcow2"))
    finally:
        test.kill()
        test.communicate()
    until(lambda: start_of(qemu) == 0)
    assert byre_json("ps")["machines"] == []
    byre("boot", message_disk(tmp_path, "Good night", "off"), "--accel", "tcg", "--expect", "off")
    assert list((runtime / "run").iterdir()) == []


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it doesn't happen"
        time.sleep(0.05)


def test_the_verb_writes_picture_and_page_and_leaves_nothing(tmp_path: Path, runtime: Path) -> None:
    """An image of another format, through Byre's own reader; what the guest says is text on the page."""
    raw = message_disk(tmp_path, "NTLDR is missing <b>&")
    image, png, page = tmp_path / "xp.vdi", tmp_path / "xp.png", tmp_path / "xp.html"
    byre("convert", raw, image)
    words = ("boot", image, "--accel", "tcg", "--expect", "message", "--screenshot", png, "--report", page)
    done = byre_json(*words)
    assert done["schema"] == "byre/boot/1"
    assert (done["verdict"], done["met"], done["accelerator"]) == ("message", True, "tcg")
    assert done["timeline"][-1]["what"].startswith("verdict: ")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "NTLDR is missing &lt;b&gt;&amp;" in text
    assert "<b>&" not in text
    assert "data:image/png;base64," in text
    assert list((runtime / "run").iterdir()) == []
    assert not list(runtime.rglob("*.qcow2"))
    again = byre(*words, status=73)
    assert "--force" in again.stderr


def test_another_outcome_than_expected_is_status_2_and_says_what_it_was(tmp_path: Path) -> None:
    done = byre(
        "boot", message_disk(tmp_path, "NTLDR is missing"), "--accel", "tcg", "--expect", "stop:0x7b", status=2
    )
    assert done.stdout.startswith("FAIL")
    assert "NTLDR is missing" in done.stdout
    assert "stop:0x7b" in done.stdout


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--expect", "heaven"), 64),
        (("--timeout", "0"), 64),
        (("--for", "nowhere"), 64),
        (("--screenshot", "x.jpg"), 64),
        (("--accel", "warp"), 64),
        (("--for", "vmware:buslogic"), 69),
    ],
)
def test_what_cant_be_run_is_no_verdict(words: tuple[str, ...], status: int, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    byre("boot", image, *words, status=status)


def test_an_accelerator_that_fails_is_followed_by_tcg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """WHPX is Windows' own: no QEMU has it here."""
    monkeypatch.setattr("byre.machine.boot.choose", lambda wanted: Accelerator("whpx", "WHPX"))
    options = BootOptions(expected=parse_expectation("message"), timeout=PATIENCE, pace=QUICK)
    result = boot_image(message_disk(tmp_path, "NTLDR is missing"), options)
    assert (result.met, result.accelerator) == (True, "tcg")
    assert "trying again with TCG" in result.notices[0]


def test_without_qemu_it_says_how_to_get_it(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    done = byre("boot", image, status=66, environment={"PATH": str(tmp_path)})
    assert "Install it" in done.stderr

"""From observations to a verdict: nothing passes without proof, nothing is called before its time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from builders.boot_screens import TEAL, as_picture, blank
from byre.machine.watch.expectation import ANY_PROOF, Expectation, parse_expectation
from byre.machine.watch.observation import Observation, Stop, Verdict
from byre.machine.watch.picture import Picture
from byre.machine.watch.processes import Process
from byre.machine.watch.timeline import Pace, Watched, advance, give_up, judge, read_stop

PACE = Pace(settle=2, still=4, logon=8, dead=3, quiet=30)
SHELL = Process("explorer.exe", 1500, 9, exited=False)
SYSTEM = Process("System", 4, 50, exited=False)
WINLOGON = Process("winlogon.exe", 600, 20, exited=False)
LOGON_UI = Process("logonui.exe", 700, 5, exited=False)
TEXT = Picture(np.zeros((400, 720, 3), np.uint8))


def with_taskbar(width: int = 800, height: int = 600) -> Picture:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:] = (0, 80, 160)
    pixels[-28:] = 190
    pixels[-24:-4, 4:60] = 250
    pixels[-20:-8, -40:-10] = 20
    return Picture(pixels)


def follow(
    looks: Iterable[Observation], expected: Expectation = ANY_PROOF, shell: str = "explorer.exe"
) -> tuple[Verdict | None, Watched]:
    """The first verdict, and what was remembered by then."""
    watched = Watched(shell=shell)
    for seen in looks:
        watched = advance(watched, seen)
        verdict = judge(watched, seen, PACE, expected)
        if verdict is not None:
            return verdict, watched
    return None, watched


def looks(seconds: Iterable[float], **same: object) -> list[Observation]:
    return [Observation(second, **same) for second in seconds]  # type: ignore[arg-type]


def test_a_shell_and_a_taskbar_that_keep_still_are_a_desktop() -> None:
    verdict, watched = follow(
        looks(range(10), picture=with_taskbar(), processes=(SYSTEM, WINLOGON, SHELL), started=True)
    )
    assert verdict is not None
    assert (verdict.kind, verdict.degraded) == ("desktop", False)
    assert "9 threads" in verdict.proof[0]
    assert watched.stage == "desktop"
    assert [step.stage for step in watched.steps] == ["kernel", "kernel", "logon", "desktop", "desktop"]


@pytest.mark.parametrize(
    ("processes", "picture"),
    [
        ((SYSTEM, WINLOGON), with_taskbar()),
        ((SYSTEM, SHELL), as_picture(blank(TEAL))),
        ((Process("explorer.exe", 1500, 1, exited=False),), with_taskbar()),
        ((Process("explorer.exe", 1500, 9, exited=True),), with_taskbar()),
        ((Process("taskmgr.exe", 1500, 9, exited=False),), with_taskbar()),
    ],
    ids=["no shell", "no taskbar", "a shell with one thread", "a shell that has exited", "another program"],
)
def test_half_a_proof_is_no_desktop(processes: tuple[Process, ...], picture: Picture) -> None:
    verdict, _ = follow(looks(range(29), picture=picture, processes=processes, started=True))
    assert verdict is None


def test_a_picture_that_moves_is_no_desktop_yet() -> None:
    moving = []
    for second in range(20):
        pixels = with_taskbar().pixels.copy()
        pixels[100:130, second * 30 : second * 30 + 30] = 255
        moving.append(Observation(second, picture=Picture(pixels), processes=(SHELL,)))
    assert follow(moving)[0] is None


def test_a_blinking_caret_doesnt_keep_a_desktop_from_being_still() -> None:
    blinking = []
    for second in range(10):
        pixels = with_taskbar().pixels.copy()
        pixels[100:112, 50] = 255 * (second % 2)
        blinking.append(Observation(second, picture=Picture(pixels), processes=(SHELL,)))
    verdict, _ = follow(blinking)
    assert verdict is not None
    assert verdict.kind == "desktop"


def test_a_desktop_in_plain_vga_is_degraded() -> None:
    verdict, _ = follow(looks(range(10), picture=with_taskbar(640, 480), processes=(SHELL,)))
    assert verdict is not None
    assert verdict.degraded
    assert "no display driver" in verdict.sentence


def test_another_shell_counts_where_the_guest_names_it() -> None:
    shell = Process("kiosk-shell-lon", 1500, 9, exited=False)
    seen = looks(range(10), picture=with_taskbar(), processes=(shell,))
    assert follow(seen)[0] is None
    verdict, _ = follow(seen, shell="kiosk-shell-long-name.exe")
    assert verdict is not None
    assert verdict.kind == "desktop"


def test_a_stop_in_memory_waits_for_its_screen_but_not_for_ever() -> None:
    stop = Stop(0x7B, (1, 0xC0000034, 0, 0))
    verdict, watched = follow(looks((0, 1, 2, 3), picture=as_picture(blank(1)), stop=stop))
    assert verdict is not None
    assert (verdict.kind, verdict.stop) == ("stop", stop)
    assert "INACCESSIBLE_BOOT_DEVICE" in verdict.sentence
    assert verdict.proof == ("KiBugCheckData in the kernel's memory",)
    assert watched.steps[-1].what == "STOP 0x7B"


def test_a_stop_whose_screen_agrees_has_both_proofs_and_the_screens_driver() -> None:
    lines = (
        "*** STOP: 0x000000D1 (0x00000010,0x00000002,0x00000000,0xF7802010)",
        "***  bad.sys - Address F7802010 base",
    )
    verdict, _ = follow([Observation(0, picture=as_picture(blank(1)), lines=lines, stop=Stop(0xD1, (16, 2, 0, 1)))])
    assert verdict is not None
    assert len(verdict.proof) == 2
    assert verdict.stop is not None
    assert verdict.stop.driver == "bad.sys"


def test_a_guest_that_resets_at_once_after_a_stop_is_a_stop() -> None:
    verdict, _ = follow([Observation(5, picture=TEXT, lines=(), stop=Stop(0xA5, (1, 2, 3, 4)), reset=True)])
    assert verdict is not None
    assert verdict.kind == "stop"


def test_a_stop_that_only_the_screen_tells_of() -> None:
    lines = ("*** STOP: 0x0000007B", "(0xF7C62524,0xC0000034,0x00000000,0x00000000)")
    verdict, _ = follow(looks(range(5), picture=TEXT, lines=lines))
    assert verdict is not None
    assert verdict.stop == Stop(0x7B, (0xF7C62524, 0xC0000034, 0, 0), source="screen")


def test_a_64_bit_stop_screen_is_read() -> None:
    stop = read_stop(("*** STOP: 0x0000007B (0xFFFFF880009A97E8,0xFFFFFFFFC0000034,0x0,0x0)",))
    assert stop is not None
    assert stop.parameters == (0xFFFFF880009A97E8, 0xFFFFFFFFC0000034)


def test_blue_alone_is_no_stop() -> None:
    assert follow(looks(range(29), picture=as_picture(blank(1))))[0] is None


def test_three_resets_without_a_stop_are_a_loop_and_two_are_not() -> None:
    resetting = [Observation(second, picture=TEXT, lines=("Booting",), reset=second % 5 == 4) for second in range(15)]
    assert follow(resetting[:14])[0] is None
    verdict, watched = follow(resetting)
    assert verdict is not None
    assert verdict.kind == "reset-loop"
    assert sum("reset" in step.what for step in watched.steps) == 3


def test_a_loaders_message_must_stay() -> None:
    passing = [
        *looks((0, 1), picture=TEXT, lines=("error: no such device: 1234",)),
        *looks((2, 3), picture=TEXT, lines=("error: no such device: 1234", "Loading Linux ...")),
    ]
    assert follow(passing)[0] is None
    verdict, _ = follow(looks(range(5), picture=TEXT, lines=("", "NTLDR is missing")))
    assert verdict is not None
    assert (verdict.kind, verdict.stage, verdict.text) == ("message", "loader", "NTLDR is missing")


def test_what_a_loader_said_before_a_prompt_came_is_no_verdict() -> None:
    serial = ("error: no such device: 1234", "Linux version 6.1.0", "debian login:")
    verdict, _ = follow(looks(range(5), serial=serial, serial_bytes=100))
    assert verdict is not None
    assert (verdict.kind, verdict.stage, verdict.text) == ("prompt", "logon", "debian login:")


def test_a_panic_needs_no_waiting() -> None:
    serial = (
        "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "[    1.3] CPU: 0",
    )
    verdict, _ = follow([Observation(2, serial=serial, serial_bytes=100)])
    assert verdict is not None
    assert verdict.kind == "panic"
    assert verdict.text is not None
    assert verdict.text.startswith("Kernel panic - not syncing: VFS")


@pytest.mark.parametrize(("ended", "kind"), [("off", "off"), ("panicked", "panic")])
def test_an_end_by_itself_is_told(ended: str, kind: str) -> None:
    verdict, _ = follow([Observation(2, picture=TEXT, ended=ended)])
    assert verdict is not None
    assert verdict.kind == kind


def test_a_logon_screen_is_one_only_after_a_while_and_passes_only_where_expected() -> None:
    seen = looks(range(12), picture=as_picture(blank(TEAL)), processes=(SYSTEM, WINLOGON, LOGON_UI), started=True)
    verdict, _ = follow(seen)
    assert verdict is not None
    assert verdict.kind == "logon"
    assert not ANY_PROOF.met_by(verdict)
    assert parse_expectation("logon").met_by(verdict)
    assert follow(seen[:8])[0] is None


def test_processors_that_are_halted_for_good_are_a_hang_soon() -> None:
    verdict, _ = follow(looks(range(6), picture=TEXT, lines=("Booting from Hard Disk...",), dead=True))
    assert verdict is not None
    assert (verdict.kind, verdict.stage) == ("hang", "loader")


def test_a_halt_that_ends_is_none() -> None:
    seen = [Observation(second, picture=TEXT, lines=(), dead=second % 3 != 0) for second in range(20)]
    assert follow(seen)[0] is None


def test_a_long_quiet_is_a_hang_or_no_sign_of_life() -> None:
    verdict, _ = follow(looks(range(0, 60, 5), picture=TEXT, lines=("Booting from Hard Disk...",)))
    assert verdict is not None
    assert verdict.kind == "hang"
    verdict, _ = follow(looks(range(0, 60, 5), picture=TEXT, lines=("SeaBIOS (version 1.16)",)))
    assert verdict is not None
    assert verdict.kind == "no-sign-of-life"


def test_an_expected_text_wins_over_everything() -> None:
    seen = Observation(1, picture=TEXT, lines=("NTLDR is missing",), stop=Stop(0x7B, ()))
    verdict, _ = follow([seen], parse_expectation("text:NTLDR"))
    assert verdict is not None
    assert verdict.kind == "text"


@pytest.mark.parametrize(
    ("seen", "kind"),
    [
        (looks((0, 60), picture=TEXT, lines=()), "no-sign-of-life"),
        (looks((0, 60), picture=TEXT, lines=("Booting from Hard Disk...",)), "hang"),
        ([*looks((0,), serial_bytes=1), *looks((50, 60), serial_bytes=50)], "timeout"),
    ],
    ids=["nothing", "still", "busy"],
)
def test_when_the_time_is_up_nothing_passes(seen: list[Observation], kind: str) -> None:
    watched = Watched()
    for each in seen:
        watched = advance(watched, each)
    verdict = give_up(watched, seen[-1], 60)
    assert verdict.kind == kind
    assert not ANY_PROOF.met_by(verdict)

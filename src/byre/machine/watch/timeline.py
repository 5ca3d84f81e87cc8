"""From what was seen of a boot to its stages and its verdict: a state machine without I/O.

The rule of proof: a verdict that counts as success needs something that only a working system shows, for a while: the
shell's process together with the shape of a taskbar on a picture that keeps still, or a prompt as the last line. That
nothing bad was seen proves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from byre.machine.watch.desktop import has_taskbar, is_degraded
from byre.machine.watch.expectation import Expectation
from byre.machine.watch.messages import Message, find_message, find_prompt, find_start
from byre.machine.watch.observation import STAGES, Observation, Step, Stop, Verdict
from byre.machine.watch.picture import Picture, share_that_differs
from byre.machine.watch.stop_codes import shown_code, stop_meaning, stop_name
from byre.machine.watch.text_screen import may_be_text

MOST_STEPS = 200
MOST_RESETS = 3
"""Resets without a sign of success before it is a loop: Setup and some first boots reset once or twice."""
_SAME = 0.002
"""Share of pixels that may differ on a picture that keeps still: a caret blinks, a clock ticks."""
_LEAST_THREADS = 3
"""Threads of a shell that drew its desktop: one that waits for a lost service has one or two. Measured on ReactOS."""
_STOP_TEXT = re.compile(r"\*\*\* STOP: 0x([0-9A-F]{8})(?: \(([0-9A-Fx, ]+)\))?", re.IGNORECASE)
_DRIVER_TEXT = re.compile(r"\*\*\*\s+([\w-]{1,40}\.(?:sys|dll|exe)) - Address", re.IGNORECASE)
_MILESTONES = ("System", "smss.exe", "csrss.exe", "winlogon.exe", "services.exe", "lsass.exe", "logonui.exe")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things must last, in seconds, before they are believed.

    ``settle``: a message or a prompt with nothing after it; ``still``: a desktop's picture; ``logon``: a logon
    screen's, since it comes before a desktop where nobody has to log on; ``dead``: processors halted for good;
    ``quiet``: nothing at all happens. Measured under TCG on a busy host: a healthy NT 5 never kept still for longer
    than 20 s before its desktop.
    """

    settle: float = 3.0
    still: float = 5.0
    logon: float = 20.0
    dead: float = 4.0
    quiet: float = 90.0


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What is remembered between two looks. The times are those since which something has been so."""

    shell: str = "explorer.exe"
    stage: str = "nothing"
    steps: tuple[Step, ...] = ()
    picture: Picture | None = None
    picture_since: float = 0.0
    text: tuple[object, ...] = ()
    text_since: float = 0.0
    dead_since: float | None = None
    stop_since: float | None = None
    resets: int = 0
    alive: bool = False
    started: bool = False
    """A kernel was seen alive."""
    known: frozenset[str] = frozenset()


def advance(before: Watched, seen: Observation) -> Watched:
    """The memory of a boot after one more look at it."""
    now = seen.seconds
    after = before
    moved = seen.picture is not None and (
        before.picture is None or share_that_differs(before.picture, seen.picture) > _SAME
    )
    if moved:
        after = replace(after, picture=seen.picture, picture_since=now)
    text = (seen.lines, seen.serial_bytes)
    if text != before.text:
        after = replace(after, text=text, text_since=now)
    after = replace(
        after,
        dead_since=(before.dead_since if before.dead_since is not None else now) if seen.dead else None,
        stop_since=(before.stop_since if before.stop_since is not None else now) if seen.stop else None,
        resets=before.resets + seen.reset,
        alive=before.alive or _alive(seen),
        started=before.started or seen.started,
    )
    for stage, key, what in _signs(seen, before.shell):
        if key not in after.known and len(after.steps) < MOST_STEPS:
            further = STAGES.index(stage) > STAGES.index(after.stage)
            after = replace(
                after,
                stage=stage if further else after.stage,
                steps=(*after.steps, Step(now, after.stage if stage == "nothing" else stage, what)),
                known=after.known | {key},
            )
    if seen.reset:
        after = replace(
            after, steps=(*after.steps, Step(now, after.stage, "the machine asked for a reset"))[-MOST_STEPS:]
        )
    return after


def _alive(seen: Observation) -> bool:
    """Anything that firmware and an empty screen don't show by themselves."""
    started = find_start(seen.lines or ())
    beyond = started is not None and started[0] != "firmware"
    drawn = _is_graphics(seen) and seen.picture is not None and not seen.picture.is_blank()
    return bool(seen.serial_bytes) or seen.started or beyond or drawn


def _is_graphics(seen: Observation) -> bool:
    """Text that was being written while it was read agrees with no picture for a moment: that is no graphics mode."""
    return seen.lines is None and seen.picture is not None and not may_be_text(seen.picture)


def _signs(seen: Observation, shell: str) -> list[tuple[str, str, str]]:
    """(stage, a key that is told once, what was seen) of everything that this look shows."""
    signs = []
    for where, lines in (("screen", seen.lines or ()), ("serial line", seen.serial)):
        started = find_start(lines)
        if started is not None:
            signs.append((started[0], started[0] + started[1], f"on the {where}: {started[1]}"))
    if seen.started:
        signs.append(("kernel", "kernel", "an NT kernel is running"))
    for process in seen.processes:
        name = process.name
        if name.lower() == shell.lower()[:15] and not process.exited:
            signs.append(("desktop", "shell", f"the shell's process runs: {name}"))
        elif name in _MILESTONES or name.lower() in _MILESTONES:
            stage = "logon" if name.lower() in ("winlogon.exe", "logonui.exe") else "kernel"
            signs.append((stage, f"process {name.lower()}", f"process {name}"))
    if seen.picture is not None and _is_graphics(seen):
        size = f"{seen.picture.width}x{seen.picture.height}"
        if not seen.picture.is_blank():
            signs.append(("nothing", f"graphics {size}", f"graphics, {size}"))
    signs += [("nothing", note, note) for note in seen.notes]
    if seen.stop is not None:
        signs.append(("kernel", f"stop {seen.stop.code}", f"STOP {shown_code(seen.stop.code)}"))
    return signs


def judge(watched: Watched, seen: Observation, pace: Pace, expected: Expectation) -> Verdict | None:
    """The verdict, as soon as there is one; the first of these that holds."""
    wanted = expected.seen_in(seen)
    if wanted is not None:
        sentence = f"the expected text is there: {wanted}"
        return Verdict("text", watched.stage, sentence, (f"read: {wanted}",), text=wanted)
    for look in (_stopped, _over, _told, _desktop, _prompt, _logon, _silent):
        verdict = look(watched, seen, pace)
        if verdict is not None:
            return verdict
    return None


def give_up(watched: Watched, seen: Observation, timeout: float) -> Verdict:
    """The verdict when the time is up and nothing was proven."""
    if not watched.alive:
        return Verdict("no-sign-of-life", watched.stage, f"no sign of life in {timeout:.0f} s")
    still = seen.seconds - max(watched.picture_since, watched.text_since)
    proof = (f"nothing changed in the last {still:.0f} s",) if still > timeout / 2 else ()
    kind = "hang" if proof else "timeout"
    return Verdict(kind, watched.stage, f"{_got(watched)}, and after {timeout:.0f} s nothing proves more", proof)


def _got(watched: Watched) -> str:
    return {
        "nothing": "it got nowhere",
        "firmware": "it got no further than the firmware",
        "loader": "it got to the boot loader",
        "kernel": "the kernel started",
        "logon": "it got to the logon",
        "desktop": "the shell started",
    }[watched.stage]


def _stopped(watched: Watched, seen: Observation, pace: Pace) -> Verdict | None:
    on_screen = read_stop(seen.lines or ())
    stop = seen.stop
    proof: tuple[str, ...]
    if stop is None:
        # Twice as long as for other texts: memory is searched every two seconds, and knows more.
        if on_screen is None or seen.seconds - watched.text_since < 2 * pace.settle:
            return None
        stop, proof = on_screen, ("the STOP screen's text was read",)
    else:
        # The screen is drawn after the values are set: give it time, unless nothing more will come.
        if on_screen is None and seen.seconds - (watched.stop_since or 0) < pace.settle and not _final(seen):
            return None
        proof = ("KiBugCheckData in the kernel's memory",)
        if on_screen is not None and on_screen.code == stop.code:
            proof += ("the STOP screen's text says the same",)
            stop = replace(stop, driver=stop.driver or on_screen.driver)
    name, meaning = stop_name(stop.code), stop_meaning(stop.code)
    sentence = f"STOP {shown_code(stop.code)}"
    sentence += f" {name}" if name else ""
    sentence += f": {meaning}" if meaning else ""
    sentence += f"; driver {stop.driver}" if stop.driver else ""
    sentence += f"; it names {stop.text}" if stop.text else ""
    return Verdict("stop", "kernel", sentence, proof, stop=stop)


def _final(seen: Observation) -> bool:
    return seen.reset or seen.ended is not None


def read_stop(lines: tuple[str, ...]) -> Stop | None:
    """The STOP that a screen's text tells of; its parameters may run over two lines."""
    found = _STOP_TEXT.search(" ".join(line.strip() for line in lines))
    if found is None:
        return None
    values = [part.strip() for part in (found[2] or "").split(",")]
    parameters = tuple(int(value, 16) for value in values if re.fullmatch(r"(?:0x)?[0-9A-Fa-f]{8,16}", value))
    driver = _DRIVER_TEXT.search("\n".join(lines))
    return Stop(int(found[1], 16), parameters, driver[1] if driver else None, source="screen")


def _over(watched: Watched, seen: Observation, pace: Pace) -> Verdict | None:
    if seen.ended == "panicked":
        return _panic(seen) or Verdict(
            "panic", "kernel", "the guest told its machine that it panicked", ("its event",)
        )
    if seen.ended is not None:
        return Verdict("off", watched.stage, f"{_got(watched)}, then it switched itself off", ("a shutdown event",))
    if watched.resets >= MOST_RESETS:
        proof = (f"{watched.resets} resets, and no STOP recorded before any",)
        return Verdict("reset-loop", watched.stage, f"{_got(watched)}, then it resets, again and again", proof)
    return None


def _panic(seen: Observation) -> Verdict | None:
    for where, lines in (("screen", seen.lines or ()), ("serial line", seen.serial)):
        found = find_message(lines)
        if found is not None and found[1].panic:
            return Verdict("panic", "kernel", found[0], (f"read from the {where}",), text=found[0])
    return None


def _told(watched: Watched, seen: Observation, pace: Pace) -> Verdict | None:
    panic = _panic(seen)
    if panic is not None:
        return panic
    if seen.seconds - watched.text_since < pace.settle:
        return None
    # What a loader said stays in the serial log when a system came up after all: only its end counts.
    for where, lines in (("screen", seen.lines or ()), ("serial line", seen.serial[-12:])):
        found = find_message(lines)
        if found is not None and find_prompt(lines) is None:
            text, message = found
            return Verdict("message", message.stage, _says(text, message), (f"read from the {where}",), text=text)
    return None


def _says(text: str, message: Message) -> str:
    who = {"firmware": "the firmware", "loader": "the boot loader", "kernel": "the system"}[message.stage]
    return f'{who} says "{text}": {message.meaning}'


def _desktop(watched: Watched, seen: Observation, pace: Pace) -> Verdict | None:
    picture = seen.picture
    if picture is None or seen.lines is not None or seen.seconds - watched.picture_since < pace.still:
        return None
    name = watched.shell.lower()[:15]
    shells = [each for each in seen.processes if each.name.lower() == name and not each.exited]
    shell = next((each for each in shells if each.threads is None or each.threads >= _LEAST_THREADS), None)
    if shell is None or not has_taskbar(picture):
        return None
    degraded = is_degraded(picture)
    size = f"{picture.width}x{picture.height}"
    threads = f"{shell.threads} threads" if shell.threads is not None else "threads not counted"
    proof = (
        f"{shell.name} runs ({threads})",
        f"the picture has a taskbar and kept still for {seen.seconds - watched.picture_since:.0f} s",
    )
    sentence = f"a desktop, {size}" + (", in plain VGA: no display driver" if degraded else "")
    return Verdict("desktop", "desktop", sentence, proof, degraded=degraded)


def _prompt(watched: Watched, seen: Observation, pace: Pace) -> Verdict | None:
    if seen.seconds - watched.text_since < pace.settle:
        return None
    for where, lines in (("screen", seen.lines or ()), ("serial line", seen.serial)):
        prompt = find_prompt(lines)
        if prompt is not None:
            stage = "logon" if "login" in prompt.lower() else "desktop"
            return Verdict("prompt", stage, f"a prompt: {prompt}", (f"the last line on the {where}",), text=prompt)
    return None


def _logon(watched: Watched, seen: Observation, pace: Pace) -> Verdict | None:
    running = {each.name.lower() for each in seen.processes if not each.exited}
    if not {"winlogon.exe", "logonui.exe"} <= running or watched.shell.lower()[:15] in running:
        return None
    still = seen.seconds - watched.picture_since
    if seen.lines is not None or seen.picture is None or still < pace.logon:
        return None
    proof = ("winlogon.exe and logonui.exe run", f"the picture kept still for {still:.0f} s")
    return Verdict("logon", "logon", "a logon screen that waits for a person", proof)


def _silent(watched: Watched, seen: Observation, pace: Pace) -> Verdict | None:
    if watched.dead_since is not None and seen.seconds - watched.dead_since >= pace.dead:
        proof = ("every processor is halted with its interrupts off",)
        return Verdict("hang", watched.stage, f"{_got(watched)}, then it halted for good", proof)
    quiet = seen.seconds - max(watched.picture_since, watched.text_since)
    if quiet < pace.quiet:
        return None
    if not watched.alive:
        return Verdict("no-sign-of-life", watched.stage, f"no sign of life for {quiet:.0f} s")
    proof = (f"nothing changed for {quiet:.0f} s",)
    return Verdict("hang", watched.stage, f"{_got(watched)}, then nothing more", proof)

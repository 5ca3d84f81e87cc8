"""What an audit foretold held against a boot test: where the two disagree, one of them is wrong, and it is said which
way. ``try_target`` boots; ``compare`` is pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from byre.audit.judging import Prediction
from byre.errors import ByreError, UnsupportedError, UsageError
from byre.machine.boot import BootOptions, boot_image
from byre.machine.controllers import offered
from byre.machine.watch.observation import BootResult, Step

STARTED = frozenset({"desktop", "logon", "prompt"})
FAILED = frozenset({"stop", "panic", "message", "reset-loop", "off", "hang"})


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One target put to the test. ``started`` is None where the test proved neither; ``agrees`` is None where either
    side couldn't tell; ``result`` is None where QEMU has no such machine, and ``sentence`` says why."""

    target: str
    foretold: bool | None
    started: bool | None
    agrees: bool | None
    sentence: str
    result: BootResult | None = None


def try_target(
    path: str | os.PathLike[str],
    prediction: Prediction,
    options: BootOptions,
    *,
    tell: Callable[[Step], None] = lambda step: None,
    note: Callable[[str], None] = lambda sentence: None,
    **opening: Any,
) -> Trial:
    """Boot the image from the controller that the target gives by default, and compare. Raises where QEMU or the
    image can't be used at all; a machine that QEMU doesn't have is told in the trial."""
    try:
        usual = offered(prediction.target)[0]
        result = boot_image(
            path,
            replace(options, target=prediction.target, controller=usual),
            tell=tell,
            note=note,
            **opening,
        )
    except (UnsupportedError, UsageError) as error:
        return _untried(prediction, error)
    return compare(prediction, result)


def _untried(prediction: Prediction, error: ByreError) -> Trial:
    return Trial(prediction.target, prediction.starts, None, None, f"{prediction.target}: not tried: {error.what}")


def compare(prediction: Prediction, result: BootResult) -> Trial:
    """What was foretold and what came of it, in a sentence."""
    verdict = result.verdict
    started = True if verdict.kind in STARTED else False if verdict.kind in FAILED else None
    reality = f"it came to this: {verdict.sentence}"
    if started is None or prediction.starts is None:
        agrees, word = (
            None,
            "whether it starts was not foretold" if prediction.starts is None else "nothing is proven",
        )
    elif started != prediction.starts:
        foretold = "a start" if prediction.starts else f"no start ({prediction.sentence})"
        agrees, word = False, f"the audit foretold {foretold}, and that is not what happened"
    elif started or _same_way(prediction, result):
        agrees, word = True, "as the audit foretold"
    else:
        agrees, word = False, f"the audit foretold another end ({prediction.sentence})"
    return Trial(
        prediction.target, prediction.starts, started, agrees, f"{prediction.target}: {word}; {reality}", result
    )


def _same_way(prediction: Prediction, result: BootResult) -> bool:
    """Whether a failure is the one that was foretold: a STOP with a code that the prediction names, where it names
    any."""
    foretold = {int(code, 16) for code in re.findall(r"0x([0-9A-Fa-f]{2,8})\b", prediction.sentence)}
    stop = result.verdict.stop
    return not foretold or (stop is not None and stop.code in foretold)

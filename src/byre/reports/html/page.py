"""The page: values for the template, and the template filled.

The guest's texts are hostile. Three things keep them texts, each enough by itself: the template escapes everything,
control and direction-changing characters are shown as escapes before that, and a content security policy in the page
lets it load nothing and run nothing.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from byre import __version__
from byre.audit.judging import Report
from byre.audit.rule import QUESTIONS, SEVERITIES
from byre.audit.running import Failure
from byre.reports.audit_json import ONE, SEVERAL, as_json, several_json
from byre.reports.html.picture import WIDTH, pieces
from byre.reports.html.sections import BootSection
from byre.reports.sentences import GRADES, heading, outcome, verdict
from byre.units import format_size

if TYPE_CHECKING:
    from jinja2 import Template

MAX_FINDINGS = 2_000
"""Of one image on the page; its machine-readable copy has all."""
MAX_ROWS = 1_000
NO_BOOTS: Mapping[str, BootSection] = MappingProxyType({})
MARKS = {"pass": "✓", "notes": "✎", "fail": "✕", "unknown": "?"}
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]|[\t\n\r]"
)


def as_html(
    results: Sequence[Report | Failure], *, boots: Mapping[str, BootSection] = NO_BOOTS, title: str | None = None
) -> str:
    """The page for one or several images. ``boots``: boot tests by the image's name as the report has it."""
    reports = [each for each in results if isinstance(each, Report)]
    several = len(results) > 1
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    copy: dict[str, Any]
    if several or not reports:
        copy = {"schema": SEVERAL, **several_json(results)}
    else:
        copy = {"schema": ONE, **as_json(reports[0])}
    return _template().render(
        title=title or (f"{len(results)} images audited" if several else heading(reports[0]) if reports else "audit"),
        style=style,
        style_hash=base64.b64encode(sha256(style.encode()).digest()).decode(),
        images=[_image(number, each, boots) for number, each in enumerate(results, 1)],
        several=several,
        copy=script_json(copy),
        version=__version__,
        width=WIDTH,
        marks=MARKS,
        grades=GRADES,
        max_rows=MAX_ROWS,
    )


def shown(value: object) -> object:
    """Text with its control and direction-changing characters as visible escapes. Every value of the template
    passes through here, before it is escaped for HTML."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
    return value


def script_json(value: object) -> str:
    """JSON that may stand in a script element: no character in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=shown, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["size"] = format_size
    return environment.from_string(resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def _image(number: int, result: Report | Failure, boots: Mapping[str, BootSection]) -> dict[str, Any]:
    if isinstance(result, Failure):
        return {"id": f"image-{number}", "failed": str(result.error), "name": result.image, "report": None}
    counting = [each for each in result.findings if each.counts]
    waived = [each for each in result.findings if each.waiver is not None]
    known = [each for each in result.findings if each.waiver is None and each.new is False]
    groups = [
        (severity, [each for each in counting[:MAX_FINDINGS] if each.severity == severity])
        for severity in reversed(SEVERITIES)
    ]
    boot = boots.get(result.image)
    return {
        "id": f"image-{number}",
        "failed": None,
        "name": result.image,
        "report": result,
        "verdict": verdict(result),
        "asks": QUESTIONS,
        # The table names the machine already.
        "outcomes": [outcome(each) for each in result.predictions],
        "groups": [(severity, rows) for severity, rows in groups if rows],
        "counting": len(counting),
        "left_out": max(0, len(counting) - MAX_FINDINGS),
        "waived": waived[:MAX_FINDINGS],
        "known": known[:MAX_FINDINGS],
        "pieces": pieces(result.profile.space),
        "used": pieces([each for each in result.profile.space if each.kind != "free"]),
        "total": sum(each.bytes for each in result.profile.space),
        "boot": boot,
        "screenshot": _data_uri(boot.screenshot) if boot is not None and boot.screenshot else None,
    }


def _data_uri(png: bytes) -> str | None:
    """A picture inside the page; None where the bytes aren't a PNG's."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"

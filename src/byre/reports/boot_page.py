"""A boot test as one page that stands by itself: verdict, screenshot, timeline, the last text of the guest.

No script, nothing from a network. What a guest writes may be markup: everything goes through ``_text``, and the
page's own policy allows nothing but its style and its picture.
"""

from __future__ import annotations

import base64
import re
from html import escape

from byre.machine.watch.observation import BootResult, Step, Stop
from byre.machine.watch.stop_codes import shown_code, stop_name

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|[\ud800-\udfff]")
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1.05rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #ccc; }}
td {{ overflow-wrap: anywhere; }} td.stage {{ white-space: nowrap; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
img {{ max-width: 100%; image-rendering: pixelated; border: 1px solid #888; }}
pre {{ overflow-x: auto; padding: .5rem; background: #eee; color: #111; }}
.pass {{ color: #06692d; }} .fail {{ color: #a11; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #16181b; color: #ddd; }} th, td {{ border-color: #444; }}
  pre {{ background: #222; color: #ddd; }}
  .pass {{ color: #6fd08c; }} .fail {{ color: #ff8f8f; }}
}}
</style></head><body>
"""


def boot_page(result: BootResult) -> str:
    """The page."""
    verdict = result.verdict
    mark, word = ("pass", "as expected") if result.met else ("fail", "not as expected")
    rows = [
        ("expected", result.expected),
        ("machine", result.machine + (f", as {result.target} has it" if result.target else "")),
        ("accelerator", result.accelerator),
        ("seconds", f"{result.seconds:.1f}"),
        *(("proof", line) for line in verdict.proof),
        *(_stop_rows(verdict.stop) if verdict.stop is not None else ()),
        *(("note", line) for line in result.notices),
    ]
    parts = [
        _HEAD.format(title=_text(f"Boot test of {result.image}")),
        f"<h1>Boot test of {_text(result.image)}</h1>",
        f'<p class="{mark}"><strong>{_text(verdict.sentence)}</strong> ({word})</p>',
        "<table>" + "".join(f"<tr><th>{_text(name)}</th><td>{_text(text)}</td></tr>" for name, text in rows),
        "</table>",
        _picture(result.screenshot),
        "<h2>Timeline</h2><table><thead><tr><th>seconds</th><th>stage</th><th>what</th></tr></thead><tbody>",
        *(_row(step) for step in result.steps),
        "</tbody></table>",
        _block("On the screen, as text", result.screen),
        _block("The end of what came over the serial line", result.serial),
        "</body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _row(step: Step) -> str:
    stage = "" if step.stage == "nothing" else step.stage
    cells = (
        f'<td class="number">{step.seconds:.1f}</td><td class="stage">{_text(stage)}</td><td>{_text(step.what)}</td>'
    )
    return f"<tr>{cells}</tr>"


def _stop_rows(stop: Stop) -> list[tuple[str, str]]:
    rows = [("STOP", f"{shown_code(stop.code)} {stop_name(stop.code) or ''}".strip())]
    rows.append(("parameters", ", ".join(f"{value:#010x}" for value in stop.parameters) or "not known"))
    if stop.driver:
        rows.append(("driver", stop.driver))
    if stop.text:
        rows.append(("it names", stop.text))
    rows.append(("read from", {"memory": "the kernel's memory"}.get(stop.source, "the screen")))
    return rows


def _picture(png: bytes | None) -> str:
    if png is None:
        return "<h2>Screenshot</h2><p>The machine never showed a picture.</p>"
    data = base64.b64encode(png).decode()
    return f'<h2>Screenshot</h2><img alt="the last picture of the screen" src="data:image/png;base64,{data}">'


def _block(title: str, lines: tuple[str, ...]) -> str:
    kept = list(lines)
    while kept and not kept[-1].strip():
        kept.pop()
    if not kept:
        return ""
    return f"<h2>{_text(title)}</h2><pre>" + "\n".join(map(_text, kept)) + "</pre>"


def _text(text: str) -> str:
    return escape(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text))

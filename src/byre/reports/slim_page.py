"""What slimming did, as one page that stands by itself: no script, nothing from a network, every text escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from byre.units import format_size

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
td {{ overflow-wrap: anywhere; }} img {{ max-width: 100%; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #16181b; color: #ddd; }} th, td {{ border-color: #444; }}
}}
</style></head><body>
"""


def slim_page(payload: Mapping[str, Any], screenshot: bytes | None = None) -> str:
    """The page for one result of ``byre slim``, as its JSON has it (``byre/slim/1``). ``screenshot``: the last
    picture of the result's boot test, as PNG."""
    title = f"Slimmed: {payload['image']}" if not payload["refused"] else f"Not slimmed: {payload['image']}"
    facts = [("result", payload["output"] or "nothing written")]
    if payload["after"] is not None:
        facts += [("before", format_size(payload["before"])), ("after", format_size(payload["after"]))]
    facts += [(f"profile {name} would give", format_size(size)) for name, size in payload["profiles"].items()]
    proof = payload["proof"]
    if proof is not None:
        facts.append(("proved", f"{proof['compared']} streams are what they were, {proof['written']} as planned"))
        facts += [(row["question"], f"{row['before']} before, {row['after']} after") for row in proof["audit"]]
    if payload["boot"] is not None:
        facts.append(("boot test", payload["boot"]["sentence"]))
    parts = [_HEAD.format(title=_text(title)), f"<h1>{_text(title)}</h1>", _table((), facts)]
    parts.append("<h2>What goes</h2>")
    rows = [
        (each["id"], format_size(each["allocated"]), str(each["files"]), each["title"], each["consequence"])
        for each in payload["parts"]
    ]
    parts.append(_table(("component", "bytes", "files", "what", "what is lost"), rows))
    for heading, field in (("What needs it", "reasons"), ("What was kept", "kept")):
        if payload[field]:
            parts.append(f"<h2>{heading}</h2>")
            parts.append(_table((), [(each["component"], " -> ".join(each["chain"])) for each in payload[field]]))
    if screenshot is not None:
        data = base64.b64encode(screenshot).decode()
        parts.append(f'<h2>The result, booted</h2><img alt="its last screen" src="data:image/png;base64,{data}">')
    return "".join(parts) + "</body></html>\n"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "<tr>" + "".join(f"<th>{_text(each)}</th>" for each in columns) + "</tr>" if columns else ""
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def _text(text: str) -> str:
    return escape(_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text))

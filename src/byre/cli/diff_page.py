"""``byre diff --html``: the differences as one page that stands by itself. No script, nothing from a network.

Names come from inside a guest and may be markup: everything goes through ``_text``, and the page's own policy
forbids scripts, should a browser ever see one.
"""

from __future__ import annotations

from html import escape
from typing import Any

from byre.cli.diff import SECTIONS, fact_row, key_rows, path_text, size_text
from byre.cli.output import printable
from byre.units import format_size

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1.05rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #ccc; }}
td {{ overflow-wrap: anywhere; }}
.added {{ color: #06692d; }} .removed {{ color: #a11; }} .changed, .renamed, .metadata {{ color: #7a4a00; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #16181b; color: #ddd; }} th, td {{ border-color: #444; }}
  .added {{ color: #6fd08c; }} .removed {{ color: #ff8f8f; }} .changed, .renamed, .metadata {{ color: #e8b96a; }}
}}
</style></head><body>
"""


def render(payload: dict[str, Any]) -> str:
    """The page from the fields of ``byre/diff/1``."""
    title = f"{payload['image']} → {payload['other']}"
    blocks = payload["blocks"]
    parts = [
        _HEAD.format(title=_text(title)),
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(format_size(blocks.apart))} stored apart in {blocks.ranges} ranges, "
        f"{_text(format_size(blocks.compared))} compared.</p>",
    ]
    if payload["same"]:
        parts.append("<p>Nothing differs but what is folded away.</p>" if payload["folded"] else "<p>The same.</p>")
    disk = [["changed", f"{each.start:#x}", format_size(each.length), each.where] for each in payload["disk"]]
    parts.append(_table("Disk", ["", "offset", "size", "where"], disk))
    for system in payload["systems"]:
        for section, name in SECTIONS.items():
            rows = [fact_row(row) for row in system["facts"] if row.section == section]
            parts.append(_table(f"{name[0].upper()}{name[1:]}", ["", "name", "what"], rows))
    for volume in payload["volumes"]:
        rows = [[row["kind"], size_text(row), path_text(row), ", ".join(row["what"])] for row in volume["files"]]
        parts.append(_table(f"Files of partition {volume['partition']}", ["", "size", "path", "what"], rows))
    for system in payload["systems"]:
        rows = [row for change in system["registry"] for row in key_rows(change)]
        parts.append(_table(f"Registry of {system['root']}", ["", "key, value", "data"], rows))
    parts.append(_table("Problems", ["what"], [[problem.message] for problem in payload["problems"]]))
    folded = [[str(count), reason] for reason, count in payload["folded"].items()]
    parts.append(_table("Folded away", ["count", "why"], folded))
    parts.append("</body></html>\n")
    return "".join(parts)


def _table(name: str, columns: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join(_row(row) for row in rows)
    return f"<h2>{_text(name)} ({len(rows)})</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(row: list[str]) -> str:
    kind = row[0].strip()
    mark = f' class="{kind}"' if kind in ("added", "removed", "changed", "renamed", "metadata") else ""
    return (
        "<tr>" + f"<td{mark}>{_text(row[0])}</td>" + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:]) + "</tr>"
    )


def _text(text: str) -> str:
    """Any text as HTML text: control characters shown, markup escaped."""
    return escape(printable(text), quote=True)

"""The frame of every page: one file that loads nothing and runs nothing, whatever a guest's names hold.

A page is a template that extends ``frame.html.j2``. Three things keep what a guest wrote text, each enough by
itself: the templates escape every value, invisible characters are shown as escapes before that (``shown``), and a
content security policy in the page lets it load nothing and run nothing.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING

from byre import __version__
from byre.reports.printable import printable
from byre.units import format_size

if TYPE_CHECKING:
    from jinja2 import Environment

_PNG = b"\x89PNG\r\n\x1a\n"


def render_page(template: str, **values: object) -> str:
    """The page of a template beside this module, filled in with ``values``; ``title`` is one that each needs."""
    return _environment().get_template(template).render(values)


def shown(value: object) -> object:
    """Text with its invisible characters as escapes. Every value of a template passes through here, before it is
    escaped for HTML."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return printable(value)
    return value


def script_json(value: object) -> str:
    """JSON that may stand in a script element: no character in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_uri(png: bytes | None) -> str | None:
    """A picture inside the page; None where there is none or the bytes aren't a PNG's."""
    if png is None or not png.startswith(_PNG):
        return None
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = _text("style.css")
    environment.filters["size"] = format_size
    environment.globals.update(
        style=style,
        # The policy allows this very sheet and no other: a style that a name smuggled in would do nothing.
        style_hash=base64.b64encode(sha256(style.encode()).digest()).decode(),
        version=__version__,
    )
    return environment


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

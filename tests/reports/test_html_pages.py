"""Every page that Byre writes: whatever a guest's names hold, it loads nothing, runs nothing and stays a page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from builders.reports import ATTACKS, hostile, png
from byre.differences.compare import BlockSummary, RangeChange
from byre.differences.facts import FactChange
from byre.differences.registry import ValueChange
from byre.disks.disk import Problem
from byre.machine.watch.observation import BootResult, Step, Stop, Verdict
from byre.reports.html import as_html
from byre.reports.html.boot_page import boot_page
from byre.reports.html.diff_page import diff_page
from byre.reports.html.slim_page import slim_page

EVIL = "".join(ATTACKS) + "</pre></style><script>alert(1)</script>\x1b[2J\u202e\u200b\udcff&quot;"
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "footer", "article", "section"),
    *("h1", "h2", "h3", "p", "span", "div", "b", "small", "strong", "code", "pre", "a", "details", "summary"),
    *(
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "dl",
        "dt",
        "dd",
        "ol",
        "ul",
        "li",
        "svg",
        "rect",
        "img",
        "script",
    ),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope", "title", "role", "open"),
    *(
        "aria-label",
        "aria-hidden",
        "viewbox",
        "preserveaspectratio",
        "x",
        "y",
        "width",
        "height",
        "src",
        "alt",
        "type",
    ),
}


def audit() -> str:
    return as_html([hostile()])


def boot() -> str:
    stop = Stop(0xC0000135, (0x81200040,), driver=EVIL, text=EVIL)
    verdict = Verdict("stop", "kernel", EVIL, (EVIL,), stop=stop, text=EVIL)
    return boot_page(
        BootResult(
            image=EVIL,
            machine=EVIL,
            target=EVIL,
            accelerator=EVIL,
            seconds=1.25,
            expected=EVIL,
            met=False,
            verdict=verdict,
            steps=(Step(0.04, "loader", EVIL), Step(1.25, "nothing", EVIL)),
            screenshot=png(8, 8),
            screen=("", EVIL, ""),
            serial=(EVIL,),
            notices=(EVIL,),
        )
    )


def slim() -> str:
    reason = {"component": EVIL, "path": EVIL, "chain": [EVIL, EVIL]}
    dependent = {"kind": EVIL, "name": EVIL, "path": EVIL, "along": False, "later": True}
    part = {
        "id": EVIL,
        "allocated": 5,
        "files": 1,
        "title": EVIL,
        "consequence": EVIL,
        "folders": [{"path": EVIL, "files": 1, "allocated": 5, "whole": False, "names": [EVIL]}],
        "shortcuts": [EVIL],
        "edits": [{"kind": EVIL, "said": EVIL}],
        "dependents": [EVIL],
        "needed_by": {"stop": {}, "named": [dependent]},
    }
    return slim_page(
        {
            "image": EVIL,
            "profile": EVIL,
            "output": EVIL,
            "refused": False,
            "files": 1,
            "allocated": 5,
            "edits": [{"said": EVIL}],
            "drives": [{"drive": EVIL, "files": 1, "allocated": 5}] * 2,
            "notes": [EVIL],
            "left": [{"component": EVIL, "files": 1, "allocated": 5, "why": EVIL}],
            "present": [{"id": EVIL, "profile": EVIL, "allocated": 5, "files": 1}],
            "before": 2,
            "after": 1,
            "profiles": {EVIL: 3},
            "proof": {
                "compared": 1,
                "written": 1,
                "volumes": [{}, {}],
                "readers": [
                    {"drive": EVIL, "partition": 1, "reader": EVIL, "note": None},
                    {"drive": None, "partition": 2, "reader": None, "note": EVIL},
                ],
                "audit": [{"question": EVIL, "before": EVIL, "after": EVIL}],
            },
            "boot": {"sentence": EVIL},
            "snapshot": EVIL,
            "give_back": EVIL,
            "parts": [part],
            "reasons": [reason],
            "kept": [reason],
        }
    )


def diff() -> str:
    file = {
        "kind": "renamed",
        "type": "file",
        "path": EVIL,
        "from": EVIL,
        "what": [EVIL],
        "before": None,
        "after": None,
    }
    key = {
        "kind": "changed",
        "key": EVIL,
        "security": True,
        "values": [ValueChange("added", EVIL, "REG_SZ", EVIL, EVIL)],
    }
    fact = FactChange("services", "changed", EVIL, {"command": EVIL}, {"command": EVIL}, ("command",))
    return diff_page(
        {
            "image": EVIL,
            "other": EVIL,
            "same": False,
            "complete": True,
            "blocks": BlockSummary(1, 2, 3),
            "disk": [RangeChange(EVIL, 0, 512)],
            "systems": [{"root": EVIL, "facts": [fact], "registry": [key]}],
            "volumes": [{"partition": 1, "files": [file]}],
            "problems": [Problem("note", "x", EVIL)],
            "folded": {EVIL: 1},
        }
    )


class Elements(HTMLParser):
    """The elements of a page and the text of its style, as a parser sees them. Mutable: it gathers."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.style = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.style += data


every_page = pytest.mark.parametrize("page", [audit, boot, slim, diff], ids=lambda page: page.__name__)


@every_page
def test_names_make_no_element_and_no_attribute(page: Callable[[], str]) -> None:
    elements = Elements(page())
    assert {tag for tag, _ in elements.found} <= ELEMENTS
    for tag, attributes in elements.found:
        assert set(attributes) <= ATTRIBUTES, tag
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("src") or "data:image/png;").startswith("data:image/png;")
        assert tag != "script" or attributes == {"type": "application/json", "id": "byre-report"}


@every_page
def test_what_cannot_be_seen_is_shown(page: Callable[[], str]) -> None:
    text = page()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e\ud800-\udfff]", text)
    assert r"\u202e" in text


@every_page
def test_the_policy_allows_the_pages_own_style_and_nothing_else(page: Callable[[], str]) -> None:
    elements = Elements(page())
    (policy,) = [attributes["content"] for tag, attributes in elements.found if "http-equiv" in attributes]
    digest = base64.b64encode(hashlib.sha256(elements.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize(("page", "fields"), [(boot, 15), (slim, 36), (diff, 18)], ids=["boot", "slim", "diff"])
def test_every_text_that_was_handed_in_is_on_the_page(page: Callable[[], str], fields: int) -> None:
    shown = "&lt;/style&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J\\u202e\\u200b\\udcff&amp;quot;"
    assert page().count(shown) == fields

"""The HTML report in a real browser: it loads nothing, runs nothing, and shows the guest's names as they are."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from builders.reports import ATTACKS, broken, healthy, hostile, png
from byre.audit.judging import Report
from byre.audit.running import Failure
from byre.errors import MissingError
from byre.reports.audit_json import ONE, as_json
from byre.reports.html import BootRow, BootSection, as_html
from oracles import run_tool

CSP = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
BOOT = BootSection(
    "Reached the desktop after 41 s", True, (BootRow(0.0, "on"), BootRow(41.0, ATTACKS[0])), png(64, 48)
)


class Elements(HTMLParser):
    """What is in a page, as a parser sees it. Mutable: it gathers."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts.append(data)


@pytest.mark.parametrize("made", [healthy, broken, hostile], ids=lambda made: made.__name__)
def test_the_page_has_no_element_that_loads_or_runs(made: object) -> None:
    page = as_html([made()])  # type: ignore[operator]
    elements = Elements(page)
    names = {tag for tag, _ in elements.tags}
    assert not names & {"img", "link", "iframe", "object", "embed", "video", "audio", "base", "form", "use", "image"}
    for tag, attributes in elements.tags:
        assert not any(name.startswith("on") or name in ("src", "srcset", "style") for name in attributes), tag
        assert not (attributes.get("href") or "#").startswith(("http", "javascript", "data"))
    scripts = [attributes for tag, attributes in elements.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "byre-report"}]
    assert "default-src 'none'" in page


@pytest.mark.parametrize("made", [healthy, hostile], ids=lambda made: made.__name__)
def test_the_copy_for_programs_is_the_report(made: object) -> None:
    report: Report = made()  # type: ignore[operator]
    copy = json.loads("".join(Elements(as_html([report])).scripts))
    assert copy == json.loads(json.dumps({"schema": ONE, **as_json(report)}))


def test_several_images_begin_with_a_table_of_them() -> None:
    failure = Failure("gone.qcow2", MissingError("no such file", path="gone.qcow2"))
    page = as_html([healthy(), failure, broken()])
    assert page.index('<a href="#image-1"') < page.index('<article id="image-1"')
    assert "not audited: gone.qcow2: no such file." in page
    assert [each for each in Elements(page).scripts if "byre/audits/1" in each]


def test_a_boot_test_has_its_place() -> None:
    page = as_html([healthy()], boots={healthy().image: BOOT})
    assert "Reached the desktop after 41 s" in page
    assert "&lt;script&gt;" in page.split("Boot test")[1]
    assert 'src="data:image/png;base64,' in page
    assert "Boot test" not in as_html([healthy()])


def test_a_picture_that_is_none_is_left_out() -> None:
    evil = replace(BOOT, screenshot=b"<svg onload=alert(1)>")
    assert "<img" not in as_html([healthy()], boots={healthy().image: evil})


def test_the_picture_of_space_adds_up() -> None:
    pieces = [
        (attributes["class"], attributes) for tag, attributes in Elements(as_html([healthy()])).tags if tag == "rect"
    ]
    bar = [row for name, row in pieces if "x" in row]
    assert len(bar) >= 4
    for row in bar:
        assert 0 <= float(row["x"] or 0) <= 1000
        assert float(row["x"] or 0) + float(row["width"] or 0) <= 1000.5


class Listener:
    """A proxy that serves nothing and counts who calls. Mutable: it counts."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                client.settimeout(2)
                try:
                    self.calls.append(client.recv(2000))
                except OSError:
                    continue

    def close(self) -> None:
        # A blocked accept doesn't notice a close: only a shutdown wakes it.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def browse(page: Path, listener: Listener, profile: Path, *options: str) -> str:
    """What Chromium made of a page after its scripts, timers and loads: the document it ended with."""
    return run_tool(
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",  # what is shared memory in a container is too small, and guests' memory lies there
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
        f"--proxy-server=http://127.0.0.1:{listener.port}",
        "--proxy-bypass-list=<-loopback>",
        "--virtual-time-budget=3000",
        *options,
        page.as_uri(),
    )


def called_for(listener: Listener) -> list[bytes]:
    """What the page asked for. The browser's own housekeeping goes to its maker's hosts, never to this one."""
    return [call for call in listener.calls if b"attack.invalid" in call]


@pytest.mark.oracle
@pytest.mark.parametrize("with_policy", [True, False], ids=["as it is", "without its policy"])
def test_no_script_of_a_guest_runs_and_nothing_is_loaded(
    tmp_path: Path, listener: Listener, with_policy: bool
) -> None:
    """Escaping alone holds, and the policy is there for the day when it doesn't."""
    text = as_html([hostile()], boots={hostile().image: BOOT})
    page = tmp_path / "report.html"
    page.write_text(text if with_policy else CSP.sub("", text), encoding="utf-8")
    document = browse(page, listener, tmp_path / "profile", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", document, re.DOTALL)
    assert title is not None
    assert title[1] != "owned"
    assert "grade" in title[1]
    assert called_for(listener) == []


@pytest.mark.oracle
def test_the_browser_would_have_told_of_a_script_and_of_a_load(tmp_path: Path, listener: Listener) -> None:
    """The test above can fail: the same attack in a page that escapes nothing."""
    page = tmp_path / "page.html"
    page.write_text(f"<title>x</title>{ATTACKS[0]}<img src=http://attack.invalid/x>", encoding="utf-8")
    assert "<title>owned</title>" in browse(page, listener, tmp_path / "profile", "--dump-dom")
    assert called_for(listener) != []


@pytest.mark.oracle
def test_the_policy_alone_stops_a_script(tmp_path: Path, listener: Listener) -> None:
    page = tmp_path / "page.html"
    policy = CSP.search(as_html([healthy()]))
    assert policy is not None
    load = "<img src=http://attack.invalid/x>"
    page.write_text(f"<head>{policy[0]}<title>x</title></head>{ATTACKS[0]}{load}", encoding="utf-8")
    assert "<title>x</title>" in browse(page, listener, tmp_path / "profile", "--dump-dom")
    assert called_for(listener) == []


@pytest.mark.oracle
def test_print_unfolds_what_is_grave(tmp_path: Path, listener: Listener) -> None:
    page = tmp_path / "report.html"
    page.write_text(as_html([broken()]), encoding="utf-8")
    pdf = tmp_path / "report.pdf"
    browse(page, listener, tmp_path / "profile", f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    text = " ".join(run_tool("pdftotext", "-layout", pdf, "-").split())
    folded = next(each for each in broken().findings if each.rule.id == "SVC-002")
    assert folded.finding.evidence in text
    assert "shelf/broken.qcow2" in text


@pytest.mark.oracle
def test_on_a_phone_nothing_is_wider_than_the_screen(tmp_path: Path, listener: Listener) -> None:
    """Hostile names too: a page that scrolls sideways is unreadable there."""
    page = tmp_path / "report.html"
    probe = "<script>document.title = 'wide ' + document.documentElement.scrollWidth</script></body>"
    page.write_text(CSP.sub("", as_html([hostile()])).replace("</body>", probe), encoding="utf-8")
    document = browse(page, listener, tmp_path / "profile", "--window-size=500,900", "--dump-dom")
    width = re.search(r"<title>wide (\d+)</title>", document)
    assert width is not None
    assert int(width[1]) <= 500

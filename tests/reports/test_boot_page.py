"""The boot test's page and JSON: what is on them (that it stays text: test_html_pages)."""

from __future__ import annotations

import json

from byre.machine.watch.observation import BootResult, Step, Stop, Verdict
from byre.reports.boot_json import boot_json
from byre.reports.html.boot_page import boot_page

EVIL = "</pre><script>alert(1)</script>\x1b[2J\u202e&quot;"
STOP = Stop(0xC0000135, (0x81200040, 0, 0, 0), driver="x<y>.sys", text="evil.dll\x07")


def result(**more: object) -> BootResult:
    verdict = Verdict("stop", "kernel", f"STOP: {EVIL}", (EVIL,), stop=STOP, text=EVIL)
    fields = {
        "image": EVIL,
        "machine": EVIL,
        "target": EVIL,
        "accelerator": "tcg",
        "seconds": 1.25,
        "expected": EVIL,
        "met": False,
        "verdict": verdict,
        "steps": (Step(0.04, "loader", EVIL), Step(1.25, "nothing", EVIL)),
        "screenshot": b"\x89PNG",
        "screen": ("", EVIL, ""),
        "serial": (EVIL,),
        "notices": (EVIL,),
    }
    return BootResult(**{**fields, **more})  # type: ignore[arg-type]


def test_the_stop_is_told_with_its_parameters_once() -> None:
    page = boot_page(result())
    assert page.count("0xC0000135") == 1
    assert "0x81200040" in page
    assert "not as expected" in page


def test_a_machine_without_picture_and_text_has_no_empty_parts() -> None:
    page = boot_page(result(screenshot=None, screen=(), serial=("", "")))
    assert "never showed a picture" in page
    assert "<pre>" not in page


def test_json_has_all_but_the_picture() -> None:
    fields = json.loads(json.dumps(boot_json(result())))
    assert fields["stop"]["name"] == "STATUS_DLL_NOT_FOUND"
    assert fields["stop"]["parameters"][0] == 0x81200040
    assert fields["timeline"][0] == {"seconds": 0.0, "stage": "loader", "what": EVIL}
    assert "screenshot" not in fields
    assert boot_json(result(verdict=Verdict("desktop", "desktop", "a desktop")))["stop"] is None

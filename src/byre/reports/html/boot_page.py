"""A boot test's page: verdict, screenshot, timeline, the last text of the guest."""

from __future__ import annotations

from byre.machine.watch.observation import BootResult, Stop
from byre.machine.watch.stop_codes import shown_code, stop_name
from byre.reports.html.frame import data_uri, render_page


def boot_page(result: BootResult) -> str:
    """The page of one boot test."""
    verdict = result.verdict
    facts = [
        ("expected", result.expected),
        ("machine", result.machine + (f", as {result.target} has it" if result.target else "")),
        ("accelerator", result.accelerator),
        ("seconds", f"{result.seconds:.1f}"),
        *(("proof", line) for line in verdict.proof),
        *(_stop_facts(verdict.stop) if verdict.stop is not None else ()),
        *(("note", line) for line in result.notices),
    ]
    return render_page(
        "boot.html.j2",
        title=f"Boot test of {result.image}",
        result=result,
        facts=facts,
        screenshot=data_uri(result.screenshot),
        screen=_without_empty_end(result.screen),
        serial=_without_empty_end(result.serial),
    )


def _stop_facts(stop: Stop) -> list[tuple[str, str]]:
    facts = [("STOP", f"{shown_code(stop.code)} {stop_name(stop.code) or ''}".strip())]
    facts.append(("parameters", ", ".join(f"{value:#010x}" for value in stop.parameters) or "not known"))
    if stop.driver:
        facts.append(("driver", stop.driver))
    if stop.text:
        facts.append(("it names", stop.text))
    facts.append(("read from", {"memory": "the kernel's memory"}.get(stop.source, "the screen")))
    return facts


def _without_empty_end(lines: tuple[str, ...]) -> tuple[str, ...]:
    kept = len(lines)
    while kept and not lines[kept - 1].strip():
        kept -= 1
    return lines[:kept]

"""What checks collect: each code once, counted, the worst first."""

from __future__ import annotations

from byre.disks.findings import CORRUPTION, LEAK, NOTE, Findings


def test_a_code_is_told_once_with_its_count_and_its_first_place() -> None:
    found = Findings("vhd")
    found.add(NOTE, "odd", "odd")
    found.add(LEAK, "lost", "lost room", offset=9000, count=3)
    found.add(LEAK, "lost", "lost room", offset=512, count=2)
    found.add(CORRUPTION, "bad", "bad", repairable=True)
    found.add(CORRUPTION, "bad", "bad again")
    found.add(LEAK, "nothing", "nothing", count=0)
    told = [(problem.kind, problem.code, problem.message, problem.count) for problem in found.problems]
    assert told == [
        ("corruption", "vhd.bad", "bad", 2),
        ("leak", "vhd.lost", "lost room", 5),
        ("note", "vhd.odd", "odd", 1),
    ]
    bad, lost, _ = found.problems
    assert (lost.offset, bad.repairable) == (512, False)
    report = found.report(allocated_blocks=1, total_blocks=2, image_end=3)
    assert (report.format, report.corruptions, report.leaks, report.exit_status) == ("vhd", 2, 5, 2)

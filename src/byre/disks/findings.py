"""What the check of any format collects: one ``Problem`` for each code, with how often and where first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from byre.disks.disk import CheckReport, Problem

CORRUPTION, LEAK, NOTE = "corruption", "leak", "note"


class Findings:
    """Problems by code, which begins with the ``format``. Mutable: it collects while tables are walked."""

    def __init__(self, format: str) -> None:
        self.format = format
        self._by_code: dict[str, Problem] = {}

    def add(
        self,
        kind: str,
        code: str,
        message: str,
        *,
        offset: int | None = None,
        count: int = 1,
        repairable: bool = False,
    ) -> None:
        """``message`` says what one of them is; the first one's offset is kept, the counts add up. A ``count`` of 0
        is nothing."""
        if not count:
            return
        code = f"{self.format}.{code}"
        known = self._by_code.get(code)
        if known is None:
            self._by_code[code] = Problem(kind, code, message, offset, count, repairable)
        else:
            lowest = known.offset if offset is None or known.offset is None else min(known.offset, offset)
            self._by_code[code] = replace(
                known, count=known.count + count, offset=lowest, repairable=known.repairable and repairable
            )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Corruptions first, then leaks, then notes."""
        order = {CORRUPTION: 0, LEAK: 1, NOTE: 2}
        return tuple(sorted(self._by_code.values(), key=lambda problem: order[problem.kind]))

    def total(self, kind: str) -> int:
        return sum(problem.count for problem in self._by_code.values() if problem.kind == kind)

    def has(self, code: str) -> bool:
        return f"{self.format}.{code}" in self._by_code

    def corruptions_besides(self, *codes: str) -> tuple[Problem, ...]:
        """The corruptions whose code isn't one of these."""
        harmless = {f"{self.format}.{code}" for code in codes}
        return tuple(
            problem for problem in self.problems if problem.kind == CORRUPTION and problem.code not in harmless
        )

    def report(
        self,
        *,
        allocated_blocks: int | None,
        total_blocks: int | None,
        image_end: int | None,
        details: Mapping[str, object] | None = None,
    ) -> CheckReport:
        """All of it, with what else a check tells."""
        return CheckReport(
            format=self.format,
            corruptions=self.total(CORRUPTION),
            leaks=self.total(LEAK),
            problems=self.problems,
            allocated_blocks=allocated_blocks,
            total_blocks=total_blocks,
            image_end=image_end,
            details=details or {},
        )

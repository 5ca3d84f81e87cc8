"""Clean: is there any sign of something that doesn't belong? It never says that there is nothing."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.clean_autostarts import check_autostarts
from byre.audit.clean_programs import check_boot_code, check_programs
from byre.audit.clean_rules import RULES
from byre.audit.clean_settings import check_settings
from byre.audit.facts import Facts
from byre.audit.finding import Finding, Unread
from byre.audit.platforms import Platform

__all__ = ["RULES", "check"]
_NEED_SYSTEM = tuple(rule.id for rule in RULES if rule.id != "CLEAN-028")


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """All of it; what a question needs and couldn't be read is told rule by rule."""
    yield from check_boot_code(facts)
    if facts.guest is None:
        for identifier in _NEED_SYSTEM:
            yield Unread(identifier, "no installed system was found")
        return
    yield from check_autostarts(facts, facts.guest)
    yield from check_settings(facts, facts.guest)
    yield from check_programs(facts, facts.guest)

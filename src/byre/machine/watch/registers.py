"""What QEMU's monitor says of the processors: ``info registers -a``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(r"\b([A-Z][A-Z0-9]{1,3})\s*=\s*([0-9a-fA-F]+)\b")
_PAGING = 1 << 31
_PAE = 1 << 5
_LONG_ACTIVE = 1 << 10
_INTERRUPTS = 1 << 9


@dataclass(frozen=True, slots=True)
class Registers:
    """One processor. ``mode`` is how it translates addresses: ``none``, ``32bit``, ``pae`` or ``long``."""

    instruction: int
    page_table: int
    mode: str
    halted: bool
    interrupts: bool

    @property
    def dead(self) -> bool:
        """Halted with interrupts off: nothing that a healthy machine does will ever wake it."""
        return self.halted and not self.interrupts


def parse_registers(text: str) -> tuple[Registers, ...]:
    """Every processor in the monitor's answer; one whose control registers aren't there is left out."""
    found = []
    for part in re.split(r"(?m)^CPU#\d+\s*$", text):
        fields = {name: int(value, 16) for name, value in _FIELD.findall(part)}
        if not {"CR0", "CR3", "CR4"} <= fields.keys():
            continue
        flags = fields.get("RFL", fields.get("EFL", _INTERRUPTS))
        if not fields["CR0"] & _PAGING:
            mode = "none"
        elif fields.get("EFER", 0) & _LONG_ACTIVE:
            mode = "long"
        else:
            mode = "pae" if fields["CR4"] & _PAE else "32bit"
        found.append(
            Registers(
                instruction=fields.get("RIP", fields.get("EIP", 0)),
                page_table=fields["CR3"],
                mode=mode,
                halted=fields.get("HLT", 0) == 1,
                interrupts=bool(flags & _INTERRUPTS),
            )
        )
    return tuple(found)

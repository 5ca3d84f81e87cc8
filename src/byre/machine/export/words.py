"""From the neutral words of a ``Machine`` to a target's own: what it has, what stands in for it, what it can't be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from byre.machine.export.plan import Refusal
from byre.machine.hardware import Choice, Machine
from byre.units import MIB, ceil_div

QEMU_CARDS = {
    "rtl8139": "rtl8139",
    "pcnet": "pcnet",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "ne2k_pci": "ne2k_pci",
    "virtio-net": "virtio",
    "none": "",
}
"""Network cards in the words of what puts QEMU into words of its own: libvirt, Proxmox VE, KubeVirt."""


@dataclass
class Translation:
    """Collects notes and refusals while a machine is put into a target's words. Mutable for that reason."""

    title: str
    notes: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def boots_with(self, what: str, choice: Choice[str], words: Mapping[str, str], fallback: str) -> str:
        """The word for what the start hangs on. One that the target hasn't is a refusal; with --force it gets
        ``fallback``."""
        if choice.value in words:
            return words[choice.value]
        offered = ", ".join(sorted(words))
        self.refusals.append(
            Refusal(f"{self.title} has no {what} {choice.value}, which the machine boots with (it has: {offered})")
        )
        return fallback

    def comfort(self, what: str, choice: Choice[str], words: Mapping[str, str], fallback: str) -> str:
        """The word for what a guest starts without. One that the target hasn't becomes ``fallback``, with a note."""
        if choice.value in words:
            return words[choice.value]
        self.notes.append(
            f"{self.title} has no {what} {choice.value}: the machine gets {fallback or 'none'}, "
            "which is new hardware to the guest"
        )
        return fallback

    def only(self, what: str, value: object, expected: object) -> None:
        """Note a setting that the target can't change from ``expected``."""
        if value != expected:
            self.notes.append(f"{self.title} can't be told of {what} {value}")


def mebibytes(machine: Machine, multiple: int = 1) -> int:
    """The memory in MiB, rounded up to a multiple."""
    return ceil_div(machine.memory.value, multiple * MIB) * multiple


def mac_address(mac: bytes, prefix: str, separator: str = ":") -> str:
    """Six octets in hexadecimal, the first three the vendor's."""
    digits = prefix.replace(":", "") + mac[3:].hex()
    return separator.join(digits[index : index + 2] for index in range(0, 12, 2)).lower()


def described(machine: Machine) -> tuple[tuple[str, str], ...]:
    """The machine as (word, value) pairs for people."""
    return (
        ("system", machine.system.value),
        ("firmware", machine.firmware.value),
        ("chipset", machine.chipset.value),
        ("processor", f"{machine.cpus.value} x {machine.cpu.value}"),
        ("memory", f"{mebibytes(machine)} MiB"),
        ("boot disk", machine.controller.value),
        ("network", f"{machine.network.value}, unplugged" if machine.network.value != "none" else "none"),
        ("display", machine.display.value),
        ("sound", machine.sound.value),
        ("pointer", machine.pointer.value),
        ("clock", machine.clock.value),
    )

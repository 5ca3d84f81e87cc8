"""What can't work for a guest on a machine, with the STOP or the loss that it would cause. Pure.

Controllers are judged by the audit's own rules PORT-001 to PORT-004, so that audit and machine never disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

from byre.audit.finding import Finding
from byre.audit.portable import check
from byre.machine.controllers import PLATFORMS
from byre.machine.evidence import ACPI_HALS, APIC_HALS, Evidence
from byre.machine.hardware import Machine
from byre.machine.systems import SYSTEMS
from byre.units import format_size

_CONTROLLER_RULES = frozenset({"PORT-001", "PORT-002", "PORT-003", "PORT-004"})
_NT = frozenset({"nt4", "win2000", "winxp", "winxp64", "win2003"})


@dataclass(frozen=True, slots=True)
class Impossible:
    """One setting that the guest can't live with. ``consequence`` says what would happen; ``certain`` is False where
    the facts don't suffice to tell."""

    setting: str
    value: str
    consequence: str
    remedy: str
    certain: bool = True


def controller_problem(evidence: Evidence, controller: str) -> Impossible | None:
    """Why the guest wouldn't find its disk on this controller; None where it would, or has no facts to ask."""
    if evidence.facts is None:
        return None
    platform = PLATFORMS[controller]
    unsure: Impossible | None = None
    for said in check(evidence.facts, platform):
        if said.rule not in _CONTROLLER_RULES:
            continue
        if isinstance(said, Finding):
            return Impossible("controller", controller, f"{said.consequence}: {said.evidence}", platform.advice)
        unsure = Impossible("controller", controller, f"can't be told: {said.reason}", platform.advice, certain=False)
    return unsure


def problems(evidence: Evidence, machine: Machine) -> tuple[Impossible, ...]:
    """Everything about this machine that the guest can't live with, the uncertain last."""
    found = [controller_problem(evidence, machine.controller.value)]
    found += [_architecture(evidence, machine), _firmware(evidence, machine), _chipset(machine), _memory(machine)]
    found += _hal(evidence, machine)
    found.append(_pointer(evidence, machine))
    return tuple(sorted((each for each in found if each is not None), key=lambda each: not each.certain))


def _architecture(evidence: Evidence, machine: Machine) -> Impossible | None:
    if evidence.architecture != "x86_64":
        return None
    wrong = "architecture" if machine.architecture.value == "i386" else None
    if "lm" in machine.hidden.value:
        wrong = "hidden"
    if machine.cpu.value in ("qemu32", "pentium", "pentium2", "pentium3", "486", "kvm32"):
        wrong = "cpu"
    if wrong is None:
        return None
    said = str(getattr(machine, wrong).value)
    return Impossible(wrong, said, "the loader refuses: its kernel is for 64-bit processors", "leave it x86_64")


def _firmware(evidence: Evidence, machine: Machine) -> Impossible | None:
    if machine.firmware.value == "uefi" and machine.system.value in (*_NT, "reactos", "dos"):
        title = SYSTEMS[machine.system.value].title
        return Impossible("firmware", "uefi", f"nothing starts: {title} is started by a BIOS", "set firmware=bios")
    if machine.firmware.value == "bios" and evidence.efi_only:
        return Impossible("firmware", "bios", "nothing starts: the disk is made for UEFI", "set firmware=uefi")
    return None


def _chipset(machine: Machine) -> Impossible | None:
    if machine.chipset.value != "q35":
        return None
    if machine.system.value in _NT:
        because = "STOP 0x000000A5, because its ACPI tables are newer than the guest"
        return Impossible("chipset", "q35", because, "set chipset=i440fx")
    if machine.controller.value == "piix3-ide":
        return Impossible("controller", "piix3-ide", "q35 has no such controller", "set controller=ich9-ahci")
    return None


def _memory(machine: Machine) -> Impossible | None:
    habits = SYSTEMS[machine.system.value]
    if machine.memory.value >= habits.least:
        return None
    stops = "STOP 0x0000007D, or it doesn't start at all" if machine.system.value in _NT else "it doesn't start"
    least = format_size(habits.least)
    because = f"{stops}: {habits.title} needs {least}"
    return Impossible("memory", format_size(machine.memory.value), because, f"set memory={least.replace(' ', '')}")


def _hal(evidence: Evidence, machine: Machine) -> list[Impossible | None]:
    hal = evidence.hal
    found: list[Impossible | None] = []
    if hal in ACPI_HALS and not machine.acpi.value:
        because = f"STOP 0x000000A5 or a hang, because its HAL ({hal}) needs ACPI"
        found.append(Impossible("acpi", "off", because, "set acpi=on"))
    if hal in APIC_HALS and not machine.apic.value:
        because = f"STOP 0x00000079 or a hang, because its HAL ({hal}) needs an APIC"
        found.append(Impossible("apic", "off", because, "set apic=on"))
    return found


def _pointer(evidence: Evidence, machine: Machine) -> Impossible | None:
    if machine.pointer.value != "usb-tablet" or not evidence.windows or "hidusb" in evidence.drivers:
        return None
    because = "the pointer stays where it is, because the guest has no driver for USB pointing devices"
    return Impossible("pointer", "usb-tablet", because, "set pointer=ps2")

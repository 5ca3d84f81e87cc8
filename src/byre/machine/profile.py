"""From a guest's facts to the machine that it wants: every setting with its reason. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from byre.machine.controllers import offered
from byre.machine.evidence import APIC_HALS, Evidence
from byre.machine.hardware import Choice, Machine
from byre.machine.impossible import controller_problem
from byre.machine.overrides import Value, override
from byre.machine.systems import MIB, SYSTEMS, Habits
from byre.units import align_up, format_size

_NT5 = frozenset({"nt4", "win2000", "winxp", "winxp64", "win2003", "reactos"})
_NETWORK_NAMES = (
    ("rtl8139", "rtl8139"),
    ("rtl8029", "ne2k_pci"),
    ("pcnet", "pcnet"),
    ("pro/1000 mt", "e1000"),
    ("82540em", "e1000"),
    ("82574", "e1000e"),
    ("virtio", "virtio-net"),
)
"""What an adapter's description says, and the card that it is."""
_NETWORK_DRIVERS = (("netkvm", "virtio-net"), ("rtl8139", "rtl8139"), ("pcnet", "pcnet"), ("e1000", "e1000"))
_DISPLAY_NAMES = (("cirrus", "cirrus"), ("vmware svga", "vmware"))


def profile(
    evidence: Evidence, target: str = "qemu", overrides: Mapping[str, Value] | Sequence[tuple[str, Value]] = ()
) -> Machine:
    """The machine for this disk on this target; ``overrides`` (field → value) win over what the facts say.

    Raises UsageError for a target or a setting that doesn't exist. What is impossible for the guest is not looked
    at here: see ``impossible.problems``.
    """
    habits = SYSTEMS[evidence.system]
    machine = Machine(
        name=machine_name(evidence.name),
        system=Choice(evidence.system, evidence.why),
        architecture=_architecture(evidence),
        firmware=_firmware(evidence),
        chipset=Choice("i440fx", "every system knows it; q35 is stopped at by NT 5 (STOP 0xA5)"),
        cpu=_cpu(evidence),
        hidden=_hidden(evidence),
        cpus=Choice(1, "one is what its HAL is sure to know" if evidence.windows else "as little as will do"),
        memory=_memory(evidence, habits),
        controller=_controller(evidence, target),
        network=_network(evidence, habits),
        display=_display(evidence, habits),
        sound=Choice(habits.sound, _brings(habits, habits.sound)),
        pointer=_pointer(evidence),
        clock=_clock(habits),
        acpi=_acpi(evidence),
        apic=_apic(evidence),
        hpet=Choice(False, "these systems don't use it, and it costs time slices"),
    )
    if target == "qemu:q35" or (target == "kubevirt"):
        machine = replace(machine, chipset=Choice("q35", f"{target} has no other"))
    for name, value in dict(overrides).items():
        machine = override(machine, name, value)
    return machine


def machine_name(text: str) -> str:
    """A name that is safe in file names, in XML and in DNS: letters, digits and inner hyphens, at most 40."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40].strip("-")
    return stem or "machine"


def settings(machine: Machine) -> list[tuple[str, Choice[object]]]:
    """(field, choice) in the order of the type, without the name."""
    return [(field.name, getattr(machine, field.name)) for field in fields(machine) if field.name != "name"]


def _architecture(evidence: Evidence) -> Choice[str]:
    if evidence.architecture == "i386":
        return Choice("i386", "its kernel is for 32-bit processors")
    if evidence.architecture == "x86_64":
        return Choice("x86_64", "its kernel is for 64-bit processors")
    if evidence.system in ("nt4", "win2000", "reactos", "dos"):
        return Choice("i386", f"{SYSTEMS[evidence.system].title} is a 32-bit system")
    return Choice("x86_64", "its kernel can't be read; a 64-bit processor runs 32-bit systems too")


def _firmware(evidence: Evidence) -> Choice[str]:
    if evidence.efi_only:
        return Choice("uefi", "there is an EFI system partition, and nothing that a BIOS would start")
    return Choice(
        "bios", f"the partition table is {evidence.scheme.upper()}" if evidence.windows else "the usual one"
    )


def _cpu(evidence: Evidence) -> Choice[str]:
    if _architecture(evidence).value == "i386":
        return Choice("qemu32", "a plain 32-bit processor that nothing of its age stumbles over")
    return Choice("qemu64", "a plain 64-bit processor")


def _hidden(evidence: Evidence) -> Choice[tuple[str, ...]]:
    if evidence.system in _NT5 and _architecture(evidence).value == "i386":
        why = "without NX the loader needs no other kernel (ntkrnlpa.exe), and 64-bit mode is of no use here"
        return Choice(("nx", "lm"), why)
    return Choice((), "nothing has to be hidden")


def _memory(evidence: Evidence, habits: Habits) -> Choice[int]:
    guest = evidence.guest
    if guest is not None and guest.hibernation is not None and guest.hibernation.in_use:
        size = align_up(max(guest.hibernation.size, habits.least), MIB)
        if size <= 4096 * MIB:
            return Choice(size, "it is hibernated, and wakes only with the memory that it had: hiberfil.sys says so")
    if habits is SYSTEMS["unknown"]:
        return Choice(habits.memory, "enough for most systems of the BIOS's age")
    return Choice(habits.memory, f"{habits.title} is at ease with it; {format_size(habits.least)} are the least")


def _controller(evidence: Evidence, target: str) -> Choice[str]:
    names = offered(target)
    if not evidence.windows:
        return Choice(names[0], f"the usual one of {target}; the BIOS reads from it, whatever the guest")
    lacks: list[str] = []
    for name in names:
        problem = controller_problem(evidence, name)
        if problem is None:
            why = f"the guest boots from {name}" + (f" (not from {', '.join(lacks)})" if lacks else "")
            return Choice(name, why)
        if not problem.certain and not lacks:
            return Choice(name, f"the usual one of {target}; whether the guest knows it can't be told")
        lacks.append(name)
    return Choice(names[0], f"the usual one of {target}, but the guest boots from none of {', '.join(names)}")


def _network(evidence: Evidence, habits: Habits) -> Choice[str]:
    guest = evidence.guest
    for text in (guest.network_adapters.value or ()) if guest is not None else ():
        card = next((card for part, card in _NETWORK_NAMES if part in text.lower()), None)
        if card is not None:
            return Choice(card, f"the guest has been set up with {text!r}")
    if habits.network not in ("rtl8139", "pcnet", "e1000") or not evidence.windows:
        return Choice(habits.network, _brings(habits, habits.network))
    for service, card in _NETWORK_DRIVERS:
        if service in evidence.drivers:
            return Choice(card, f"the guest has its driver ({service})")
    return Choice(habits.network, f"drivers for it come with {habits.title}")


def _display(evidence: Evidence, habits: Habits) -> Choice[str]:
    guest = evidence.guest
    for text in (guest.display_adapters.value or ()) if guest is not None else ():
        card = next((card for part, card in _DISPLAY_NAMES if part in text.lower()), None)
        if card is not None:
            return Choice(card, f"the guest has been set up with {text!r}")
    if "cirrus" in evidence.drivers:
        return Choice("cirrus", "the guest has its driver (cirrus)")
    why = "standard VGA with VESA modes, which every system drives"
    return Choice(habits.display, why if habits.display == "std" else _brings(habits, habits.display))


def _brings(habits: Habits, device: str) -> str:
    if habits is SYSTEMS["unknown"]:
        return "nothing is known to need it" if device == "none" else "a card that many systems have drivers for"
    return f"{habits.title} has no need of it" if device == "none" else f"drivers for it come with {habits.title}"


def _pointer(evidence: Evidence) -> Choice[str]:
    if not evidence.windows:
        return Choice("ps2", "works everywhere; whether the guest has drivers for USB can't be told")
    has = {"hidusb", "mouhid"} <= evidence.drivers and bool({"usbuhci", "uhcd"} & evidence.drivers)
    if has:
        return Choice("usb-tablet", "the guest has drivers for USB pointing devices (usbuhci, hidusb, mouhid)")
    return Choice("ps2", "the guest lacks drivers for USB pointing devices (usbuhci, hidusb, mouhid)")


def _clock(habits: Habits) -> Choice[str]:
    if habits is SYSTEMS["unknown"]:
        return Choice("localtime", "most systems of the BIOS's age take the hardware clock for local time")
    if habits.local_time:
        return Choice("localtime", f"{habits.title} takes the hardware clock for local time")
    return Choice("utc", f"{habits.title} takes the hardware clock for UTC")


def _acpi(evidence: Evidence) -> Choice[bool]:
    hal = evidence.hal
    if hal in ("hal.dll", "halapic.dll", "halmps.dll") and evidence.system not in ("vista", "win7", "reactos"):
        return Choice(False, f"its HAL ({hal}) was installed on a machine without ACPI")
    if hal is not None:
        return Choice(True, f"its HAL ({hal}) needs it")
    if evidence.system in ("nt4", "dos"):
        return Choice(False, f"{SYSTEMS[evidence.system].title} knows nothing of it")
    return Choice(True, "every system since 2000 expects it")


def _apic(evidence: Evidence) -> Choice[bool]:
    hal = evidence.hal
    if hal in APIC_HALS:
        return Choice(True, f"its HAL ({hal}) needs it")
    return Choice(True, "does no harm where it isn't used")

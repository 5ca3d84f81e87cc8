"""Which HAL a system has, and where it starts: told, never exchanged.

Source: Microsoft KB 309283 (HAL options after Windows XP or Server 2003 Setup), KB 299340 (how the names on the media
belong to the kinds of computers); which kernel goes with which HAL: Bug Check 0x79 MISMATCHED_HAL.
"""

from __future__ import annotations

from dataclasses import dataclass

from byre.lite.mending.plan import Patient, Plan, Refusal

RULES = ("PORT-005", "PORT-010", "PORT-011")
_SET = (
    "hal.dll, ntoskrnl.exe and ntkrnlpa.exe of one set from the same service pack's media: a repair installation, or"
)
_EXCHANGE = f"{_SET} 'byre put' under those names, and the computer's driver in Device Manager afterwards"


@dataclass(frozen=True, slots=True)
class Hal:
    """One kind: its title in Device Manager, whether it is for several processors, where it starts."""

    title: str
    several: bool
    suits: str
    everywhere: bool = True


_KINDS = {
    "hal.dll": Hal("Standard PC", False, "starts on every target, with one processor; it doesn't switch off"),
    "halacpi.dll": Hal("ACPI PC", False, "starts on every target with ACPI on, with one processor"),
    "halaacpi.dll": Hal(
        "ACPI uniprocessor PC", False, "needs ACPI and an I/O APIC: QEMU, Proxmox, VMware and Hyper-V have it, in "
        "VirtualBox it must be switched on (--ioapic on)"
    ),
    "halmacpi.dll": Hal(
        "ACPI multiprocessor PC", True, "needs ACPI and an I/O APIC, and the kernel for several processors; one is "
        "enough: QEMU, Proxmox, VMware and Hyper-V have both, in VirtualBox --ioapic on"
    ),
    "halapic.dll": Hal("MPS uniprocessor PC", False, "starts only where the firmware has MPS tables", False),
    "halmps.dll": Hal("MPS multiprocessor PC", True, "starts only where the firmware has MPS tables", False),
    "halsp.dll": Hal("Compaq SystemPro", True, "starts on no hypervisor", False),
}  # fmt: skip
_KERNELS = {"ntoskrnl.exe": False, "ntkrnlpa.exe": False, "ntkrnlmp.exe": True, "ntkrpamp.exe": True}


def plan(patient: Patient) -> Plan:
    """Notes about the HAL; refusals where it doesn't suit, with what would help."""
    if patient.facts.guest is None:
        return Plan()
    if patient.facts.kind == "nt6":
        said = "Windows Vista and 7 have a HAL for ACPI machines: every target with ACPI on and an I/O APIC"
        return Plan(notes=(said,))
    if patient.facts.kind not in ("nt5", "reactos"):
        return Plan()
    name, kernel = _original(patient, "hal.dll"), _original(patient, "ntoskrnl.exe")
    if name is None:
        reason = "hal.dll isn't there, or doesn't say which one it is"
        return Plan((), (Refusal("the HAL", reason, _EXCHANGE),)) if patient.facts.kind == "nt5" else Plan()
    kind = _KINDS.get(name)
    if kind is None:
        reason = f"{name} is none that Windows installs on these machines: made for one maker's hardware"
        return Plan((), (Refusal("the HAL", reason, _EXCHANGE),))
    found = Plan(notes=(f"hal.dll is {name}, {kind.title}: {kind.suits}",))
    if not kind.everywhere:
        reason = f"{name} is made for other machines than hypervisors offer; Byre exchanges no HAL"
        found += Plan((), (Refusal("the HAL", reason, _EXCHANGE),))
    if kernel in _KERNELS and _KERNELS[kernel] != kind.several:
        several = "several processors" if kind.several else "one processor"
        reason = f"the kernel is {kernel}, the HAL is for {several}: STOP 0x00000079"
        found += Plan((), (Refusal("kernel and HAL", reason, _EXCHANGE),))
    if patient.facts.kind == "nt5" and kind.everywhere:
        note = "the HAL follows from the machine at Setup: to switch ACPI or the I/O APIC off later stops the start"
        found += Plan(notes=(note,))
    return found


def _original(patient: Patient, name: str) -> str | None:
    """The name that a file was built under, in lower case."""
    file = patient.facts.files.get(f"{patient.root}/system32/{name}".lower())
    original = file.pe.original_filename if file is not None and file.pe is not None else None
    return original.lower() if original else None

"""The table of targets: what each is called, its forms, and the module that writes it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import cast

from byre.errors import UsageError
from byre.machine.export.plan import Exporter


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """One target. ``forms`` are the kinds it can be written in, the default first; ``snapshots`` the forms that can
    take internal snapshots along."""

    name: str
    title: str
    forms: tuple[str, ...]
    snapshots: tuple[str, ...] = ()

    def load(self) -> Exporter:
        return cast(Exporter, import_module(f"byre.machine.export.{self.name}"))

    def form(self, wanted: str | None, output: str | None, *, with_snapshots: bool = False) -> str:
        """The form to write: as said, else as the output's name ends, else the first that does. Raises UsageError."""
        if wanted is not None:
            if wanted not in self.forms:
                raise UsageError(
                    f"{self.title} has no form {wanted!r}", expected=" or ".join(self.forms), hint="See --form."
                )
            return wanted
        if output is not None and output.lower().endswith(".ova"):
            if "ova" not in self.forms:
                raise UsageError(f"{self.title} takes no .ova from Byre", path=output)
            return "ova"
        return self.snapshots[0] if with_snapshots and self.snapshots else self.forms[0]


EXPORT_TARGETS = (
    ExportTarget("libvirt", "libvirt (virsh, virt-manager)", ("kvm", "qemu"), ("kvm", "qemu")),
    ExportTarget("proxmox", "Proxmox VE", ("qm",)),
    ExportTarget("virtualbox", "VirtualBox", ("ova", "vbox"), ("vbox",)),
    ExportTarget("vmware", "VMware Workstation, Player, Fusion", ("vmx", "ova")),
    ExportTarget("esxi", "VMware ESXi, vSphere", ("ova",)),
    ExportTarget("hyperv", "Hyper-V", ("vhdx", "vhd")),
    ExportTarget("utm", "UTM on macOS", ("utm",), ("utm",)),
    ExportTarget("kubevirt", "KubeVirt, OpenShift Virtualization", ("containerdisk",)),
    ExportTarget("qemu", "QEMU, as a shell script", ("sh",), ("sh",)),
    ExportTarget("vagrant", "Vagrant", ("libvirt", "virtualbox")),
)


def export_target(name: str) -> ExportTarget:
    """The target of this name; UsageError where there is none."""
    for target in EXPORT_TARGETS:
        if target.name == name.lower():
            return target
    known = ", ".join(target.name for target in EXPORT_TARGETS)
    raise UsageError(f"there is no target {name!r} to export to", expected=known)

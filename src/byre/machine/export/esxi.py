"""VMware ESXi and vSphere: an .ova with a stream-optimised VMDK. ESXi up to 6.0 wants SHA-1 in the manifest."""

from __future__ import annotations

from byre.machine.export import ovf, vmware
from byre.machine.export.plan import ExportPlan, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import plain_name
from byre.machine.export.words import described

TITLE = "VMware ESXi"


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    words = ovf.translated(subject, TITLE)
    if subject.digest == "sha256":
        words.notes.append("ESXi 6.0 and before verify SHA-1 only: --digest sha1")
    if machine.network.value != "none":
        words.notes.append("the network card starts unplugged")
    lines = (
        f"ovftool --datastore=datastore1 --network='VM Network' {name}.ova vi://root@esxi.example/",
        f"# or in the host's web page: Create/Register VM, Deploy from an OVF or OVA file, {name}.ova",
    )
    return ExportPlan(
        target="esxi",
        title=TITLE,
        name=f"{name}.ova",
        shape="ova",
        disk=ovf.disk_file(subject),
        texts=(f"{name}.ovf",),
        controller=vmware.seen(machine),
        settings=described(machine),
        lines=lines,
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    name = plain_name(subject.machine.name)
    return (ovf.envelope(subject, disk, plan(subject).lines, f"{name}.ovf"),)

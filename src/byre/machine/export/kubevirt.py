"""KubeVirt: a containerDisk (a Dockerfile and the disk) and the manifest of a virtual machine.

KubeVirt has no IDE and only q35 machines: a guest without an AHCI driver stops at its start with 0x0000007B there.
Source: KubeVirt's admission rules ("IDE bus is not supported") and user guide; not run.
"""

from __future__ import annotations

from typing import Any

from byre.machine.export.plan import DiskFile, ExportPlan, Refusal, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name, yaml
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import QEMU_CARDS, Translation, described, mebibytes

TITLE = "KubeVirt"
BUSES = {"ich9-ahci": "sata", "virtio-blk": "virtio", "virtio-scsi": "scsi"}
IMAGE = "registry.example/{name}:latest"


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name).lower()
    words = Translation(TITLE)
    if BUSES.get(machine.controller.value, "sata") == "sata":
        words.refusals += _without_ide(subject)
    words.comfort("network card", machine.network, QEMU_CARDS, "e1000e")
    words.only("a sound card", machine.sound.value, "none")
    words.only("a display", machine.display.value, "std")
    words.notes.append("the machine is not started when it is made, and its network is the pod's only once it is")
    words.notes.append("a containerDisk is thrown away with its pod: for a disk that lasts, import it with CDI")
    image = IMAGE.format(name=name)
    return ExportPlan(
        target="kubevirt",
        title=TITLE,
        name=f"{name}-kubevirt",
        shape="folder",
        disk=DiskFile(f"{name}.qcow2", "kubevirt", "qcow2"),
        texts=("Dockerfile", "vm.yaml", PATH),
        controller=machine.controller.value if machine.controller.value in BUSES else "ich9-ahci",
        settings=described(machine),
        lines=(f"docker build -t {image} . && docker push {image}", "kubectl apply -f vm.yaml"),
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def _without_ide(subject: Subject) -> list[Refusal]:
    reason = "KubeVirt has no IDE, and the guest has no driver for AHCI: it would stop with STOP 0x0000007B"
    if subject.ahci is False:
        return [Refusal(reason, forceable=False)]
    if subject.ahci is None and subject.machine.system.value != "linux":
        return [Refusal("KubeVirt has no IDE, and whether the guest has a driver for AHCI can't be told")]
    return []


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    return (
        # 107 is the user that KubeVirt's QEMU runs as.
        TextFile("Dockerfile", f"FROM scratch\nADD --chown=107:107 {made.disk.path} /disk/\n"),
        TextFile("vm.yaml", yaml(manifest(subject))),
        readme(subject, TITLE, made.lines, made.notes),
    )


def manifest(subject: Subject) -> dict[str, Any]:
    """The VirtualMachine."""
    machine = subject.machine
    name = plain_name(machine.name).lower()
    bus = BUSES.get(machine.controller.value, "sata")
    card = QEMU_CARDS.get(machine.network.value, "e1000e")
    devices: dict[str, Any] = {"disks": [{"name": "boot", "bootOrder": 1, "disk": {"bus": bus}}], "interfaces": []}
    if card:
        devices["interfaces"] = [{"name": "default", "model": card, "masquerade": {}}]
    else:
        devices["autoattachPodInterface"] = False
    devices["autoattachMemBalloon"] = False
    if machine.pointer.value == "usb-tablet":
        devices["inputs"] = [{"name": "tablet", "type": "tablet", "bus": "usb"}]
    domain = {
        "machine": {"type": "q35"},
        "cpu": _cpu(subject),
        "memory": {"guest": f"{mebibytes(machine)}Mi"},
        "resources": {"requests": {"memory": f"{mebibytes(machine)}Mi"}},
        "firmware": {
            "bootloader": {"efi": {"secureBoot": False}} if machine.firmware.value == "uefi" else {"bios": {}}
        },
        "features": {"acpi": {"enabled": machine.acpi.value}, "apic": {"enabled": machine.apic.value}},
        "clock": {
            "timezone" if machine.clock.value == "localtime" else "utc": (
                "Etc/UTC" if machine.clock.value == "localtime" else {}
            ),
            "timer": {
                "hpet": {"present": machine.hpet.value},
                "pit": {"tickPolicy": "delay"},
                "rtc": {"tickPolicy": "catchup"},
            },
        },
        "devices": devices,
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {
            "name": name,
            "annotations": {"byre/exported-from": one_line(f"{subject.title}: {subject.source}")},
        },
        "spec": {
            "runStrategy": "Halted",
            "template": {
                # A 64-bit hole above 4 GiB is more than a legacy guest's PCI code takes.
                "metadata": {"annotations": {"kubevirt.io/disablePCIHole64": "true"}, "labels": {"byre/vm": name}},
                "spec": {
                    "domain": domain,
                    "networks": [{"name": "default", "pod": {}}] if card else [],
                    "volumes": [{"name": "boot", "containerDisk": {"image": IMAGE.format(name=name)}}],
                },
            },
        },
    }


def _cpu(subject: Subject) -> dict[str, Any]:
    machine = subject.machine
    made: dict[str, Any] = {"cores": machine.cpus.value}
    if machine.cpu.value == "host":
        made["model"] = "host-passthrough"
    else:
        made["model"] = one_line(machine.cpu.value)
    if machine.hidden.value:
        made["features"] = [{"name": one_line(each), "policy": "disable"} for each in machine.hidden.value]
    return made

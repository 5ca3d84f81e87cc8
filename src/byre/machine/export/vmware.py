"""VMware Workstation, Player and Fusion: a .vmx beside a monolithicSparse VMDK, or an .ova.

Hardware version 7 is the first with IDE disks, and every product since Workstation 7 takes it. Source: .vmx files and
public documentation of their keys; not run.
"""

from __future__ import annotations

from byre.machine.export import ovf
from byre.machine.export.plan import DiskFile, ExportPlan, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name, vmx_text
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import Translation, described, mebibytes
from byre.machine.hardware import Machine

TITLE = "VMware Workstation, Player or Fusion"
GUESTS = {
    "nt4": "winnt",
    "win2000": "win2000pro",
    "winxp": "winxppro",
    "winxp64": "winxppro-64",
    "win2003": "winnetstandard",
    "vista": "winvista",
    "win7": "windows7",
    "reactos": "other",
    "linux": "otherlinux",
    "dos": "dos",
    "unknown": "other",
}
DISKS = {
    "piix4-ide": ("ide0:0", "ide", None),
    "piix3-ide": ("ide0:0", "ide", None),
    "lsi53c1030": ("scsi0:0", "lsilogic", "lsilogic"),
    "buslogic": ("scsi0:0", "buslogic", "buslogic"),
}
"""The slot, the adapter that the VMDK names, the virtual device of the controller."""
NETWORK_CARDS = {"pcnet": "vlance", "e1000": "e1000", "e1000e": "e1000e", "none": ""}
SOUND_CARDS = {"es1370": "es1371", "ac97": "es1371", "sb16": "sb16", "hda": "hdaudio", "none": ""}


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    ova = subject.form == "ova"
    words = ovf.translated(subject, TITLE) if ova else translated(machine)
    if machine.controller.value == "piix3-ide":
        words.notes.append("VMware's IDE controller is a PIIX4, whatever the guest had")
    lines = (
        (f"ovftool {name}.ova {name}/{name}.vmx", f'vmrun start "$PWD/{name}/{name}.vmx"')
        if ova
        else (f'vmrun start "$PWD/{name}.vmx"', f"# or: File, Open, {name}.vmx")
    )
    return ExportPlan(
        target="vmware",
        title=TITLE,
        name=f"{name}.ova" if ova else f"{name}-vmware",
        shape="ova" if ova else "folder",
        disk=ovf.disk_file(subject) if ova else _disk(subject),
        texts=(f"{name}.ovf",) if ova else (f"{name}.vmx", PATH),
        controller=seen(machine),
        settings=described(machine),
        lines=lines,
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    name = plain_name(subject.machine.name)
    if subject.form == "ova":
        return (ovf.envelope(subject, disk, made.lines, f"{name}.ovf"),)
    rows = "".join(f'{key} = "{vmx_text(value)}"\n' for key, value in settings(subject))
    return (TextFile(f"{name}.vmx", rows), readme(subject, TITLE, made.lines, made.notes))


def seen(machine: Machine) -> str:
    """The boot controller that a guest sees on VMware: its IDE is a PIIX4, and it has no other."""
    name = machine.controller.value
    return name if name in ("lsi53c1030", "buslogic") else "piix4-ide"


def _disk(subject: Subject) -> DiskFile:
    adapter = DISKS.get(subject.machine.controller.value, DISKS["piix4-ide"])[1]
    options = {
        "subformat": "monolithicSparse",
        "adapter_type": adapter,
        "hw_version": "7",
        "uuid": str(subject.identity.disk),
    }
    return DiskFile(f"{plain_name(subject.machine.name)}.vmdk", "vmware", "vmdk", options)


def translated(machine: Machine) -> Translation:
    """What a .vmx can't say of the machine, or says otherwise."""
    words = Translation(TITLE)
    words.boots_with("controller", machine.controller, {name: name for name in DISKS}, "piix4-ide")
    words.comfort("network card", machine.network, NETWORK_CARDS, "vlance")
    words.comfort("sound card", machine.sound, SOUND_CARDS, "")
    if machine.sound.value == "ac97":
        words.notes.append("the sound card is an Ensoniq ES1371 there, not AC'97")
    if machine.hidden.value:
        words.notes.append(f"processor features stay as the host has them ({', '.join(machine.hidden.value)} too)")
    words.notes.append("the clock is the host's local time for Windows guests, whatever is said")
    return words


def settings(subject: Subject) -> list[tuple[str, str]]:
    """The keys and values of the .vmx, unquoted."""
    machine = subject.machine
    name = plain_name(machine.name)
    slot, _, device = DISKS.get(machine.controller.value, DISKS["piix4-ide"])
    rows = [
        (".encoding", "UTF-8"),
        ("config.version", "8"),
        ("virtualHW.version", "7"),
        ("displayName", name),
        ("annotation", one_line(f"{subject.title}. Exported by Byre from {subject.source}.")),
        ("guestOS", GUESTS.get(machine.system.value, "other")),
        ("memsize", str(mebibytes(machine, 4))),
        ("numvcpus", str(machine.cpus.value)),
        ("pciBridge0.present", "TRUE"),
        ("hpet0.present", "TRUE" if machine.hpet.value else "FALSE"),
        ("nvram", f"{name}.nvram"),
        # Else the first start asks whether the machine was moved or copied.
        ("uuid.action", "create"),
    ]
    if machine.firmware.value == "uefi":
        rows.append(("firmware", "efi"))
    if device is not None:
        rows += [("scsi0.present", "TRUE"), ("scsi0.virtualDev", device)]
    rows += [(f"{slot}.present", "TRUE"), (f"{slot}.fileName", f"{name}.vmdk")]
    if slot.startswith("ide"):
        rows.append((f"{slot}.deviceType", "ata-hardDisk"))
    card = NETWORK_CARDS.get(machine.network.value, "vlance")
    if card:
        rows += [
            ("ethernet0.present", "TRUE"),
            ("ethernet0.virtualDev", card),
            ("ethernet0.connectionType", "nat"),
            ("ethernet0.startConnected", "FALSE"),
            ("ethernet0.addressType", "generated"),
        ]
    sound = SOUND_CARDS.get(machine.sound.value, "")
    if sound:
        rows += [("sound.present", "TRUE"), ("sound.virtualDev", sound), ("sound.startConnected", "FALSE")]
    if machine.pointer.value == "usb-tablet":
        rows.append(("usb.present", "TRUE"))
    return [*rows, *_closed()]


def _closed() -> list[tuple[str, str]]:
    """No clipboard, dragging or folders between host and guest."""
    return [
        ("isolation.tools.copy.disable", "TRUE"),
        ("isolation.tools.paste.disable", "TRUE"),
        ("isolation.tools.dnd.disable", "TRUE"),
        ("isolation.tools.hgfs.disable", "TRUE"),
        ("tools.syncTime", "FALSE"),
        ("floppy0.present", "FALSE"),
    ]

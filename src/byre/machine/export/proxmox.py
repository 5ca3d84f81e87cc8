"""Proxmox VE: a script of ``qm`` commands, the ``.conf`` it leads to, and the disk.

Source: qm's and qemu-server's documentation and source; 'import-from' takes a disk by its path. Not run: it needs a
whole Proxmox. The machine's version is pinned: Proxmox warns of Windows guests whose machine changes.
"""

from __future__ import annotations

from byre.machine.export.plan import DiskFile, ExportPlan, Refusal, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import conf_comment, plain_name, shell
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import QEMU_CARDS, Translation, described, mac_address, mebibytes
from byre.machine.hardware import Machine

TITLE = "Proxmox VE"
OS_TYPES = {
    "win2000": "w2k",
    "winxp": "wxp",
    "winxp64": "wxp",
    "win2003": "w2k3",
    "vista": "wvista",
    "win7": "win7",
    "linux": "l26",
    "reactos": "wxp",
}
MACHINES = {"i440fx": "pc-i440fx-7.2", "q35": "pc-q35-7.2"}
SLOTS = {
    "piix3-ide": ("ide0", None),
    "piix4-ide": ("ide0", None),
    "ich9-ahci": ("sata0", None),
    "lsi53c895a": ("scsi0", "lsi"),
    "virtio-blk": ("virtio0", None),
    "virtio-scsi": ("scsi0", "virtio-scsi-pci"),
}
CPUS = (
    "qemu32",
    "qemu64",
    "kvm32",
    "kvm64",
    "486",
    "pentium",
    "pentium2",
    "pentium3",
    "coreduo",
    "core2duo",
    "athlon",
    "host",
    "max",
)
DISPLAYS = {"std": "std", "cirrus": "cirrus", "vmware": "vmware", "virtio": "virtio"}
SOUND_CARDS = {"ac97": "AC97", "hda": "intel-hda", "none": ""}


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    words = _translated(machine)
    if machine.network.value != "none":
        words.notes.append("the network cable is unplugged (link_down=1), and the firewall is on")
    return ExportPlan(
        target="proxmox",
        title=TITLE,
        name=f"{name}-proxmox",
        shape="folder",
        disk=DiskFile(f"{name}.qcow2", "proxmox", "qcow2"),
        texts=("import.sh", f"{name}.conf", PATH),
        controller="piix3-ide" if machine.bus == "ide" else machine.controller.value,
        settings=described(machine),
        lines=(
            "scp -r . root@proxmox.example:/var/tmp/byre-import",
            "ssh root@proxmox.example sh /var/tmp/byre-import/import.sh 100 local-lvm",
        ),
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    return (
        TextFile("import.sh", script(subject), executable=True),
        TextFile(f"{plain_name(subject.machine.name)}.conf", configuration(subject)),
        readme(subject, TITLE, made.lines, made.notes),
    )


def _translated(machine: Machine) -> Translation:
    words = Translation(TITLE)
    words.boots_with("chipset", machine.chipset, MACHINES, "pc-i440fx-7.2")
    words.boots_with("controller", machine.controller, {name: name for name in SLOTS}, "piix3-ide")
    if machine.chipset.value == "q35" and machine.bus == "ide":
        words.notes.append("an IDE disk of a q35 machine hangs on AHCI in Proxmox too, unless it is ide0 to ide3")
    if machine.firmware.value == "uefi":
        words.refusals.append(Refusal("a UEFI guest needs an EFI disk, which Byre doesn't make for Proxmox"))
    words.comfort("network card", machine.network, QEMU_CARDS, "rtl8139")
    words.comfort("display", machine.display, DISPLAYS, "std")
    words.comfort("sound card", machine.sound, SOUND_CARDS, "")
    if machine.cpu.value not in CPUS:
        words.notes.append(f"Proxmox has no processor {machine.cpu.value}: the machine gets kvm32")
    if machine.hidden.value:
        words.notes.append(
            f"hidden processor features ({', '.join(machine.hidden.value)}) need 'args', which only root may set: "
            "they are left as they are"
        )
    return words


def options(subject: Subject) -> list[tuple[str, str]]:
    """What both the script and the API are told, the disk left out: names and values of ``qm create``."""
    machine = subject.machine
    slot, hardware = SLOTS.get(machine.controller.value, SLOTS["piix3-ide"])
    rows = [
        ("name", plain_name(machine.name)),
        ("ostype", OS_TYPES.get(machine.system.value, "other")),
        ("machine", MACHINES.get(machine.chipset.value, MACHINES["i440fx"])),
        ("cpu", machine.cpu.value if machine.cpu.value in CPUS else "kvm32"),
        ("sockets", "1"),
        ("cores", str(machine.cpus.value)),
        ("memory", str(mebibytes(machine))),
        ("balloon", "0"),
        ("acpi", str(int(machine.acpi.value))),
        ("localtime", str(int(machine.clock.value == "localtime"))),
        ("tablet", str(int(machine.pointer.value == "usb-tablet"))),
        ("agent", "0"),
        ("boot", f"order={slot}"),
        ("vga", DISPLAYS.get(machine.display.value, "std")),
    ]
    if hardware is not None:
        rows.append(("scsihw", hardware))
    card = QEMU_CARDS.get(machine.network.value, "rtl8139")
    if card:
        mac = mac_address(subject.identity.mac, "52:54:00").upper()
        rows.append(("net0", f"{card}={mac},bridge=vmbr0,firewall=1,link_down=1"))
    sound = SOUND_CARDS.get(machine.sound.value, "")
    if sound:
        rows.append(("audio0", f"device={sound},driver=none"))
    return rows


def slot(subject: Subject) -> str:
    """Where the boot disk goes: ``ide0``."""
    return SLOTS.get(subject.machine.controller.value, SLOTS["piix3-ide"])[0]


def script(subject: Subject) -> str:
    """The commands. The machine's number and the storage are the user's, and are looked at before they are used."""
    name = plain_name(subject.machine.name)
    rows = " \\\n".join(f"    --{option} {shell(value)}" for option, value in options(subject))
    return f"""\
#!/bin/sh
# Makes the machine on a Proxmox VE host:  sh import.sh VMID STORAGE
set -eu
vmid=${{1:?usage: sh import.sh VMID STORAGE}}
storage=${{2:?usage: sh import.sh VMID STORAGE}}
case $vmid in *[!0-9]*) echo "VMID is a number: $vmid" >&2; exit 64 ;; esac
case $storage in *[!A-Za-z0-9._-]*) echo "this is no storage's name: $storage" >&2; exit 64 ;; esac
folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
case $folder in *,*) echo "no comma may be in the folder's name: $folder" >&2; exit 64 ;; esac
qm create "$vmid" \\
    --{slot(subject)} "$storage:0,import-from=$folder/{name}.qcow2" \\
{rows}
echo "{name} is machine $vmid. Start it with: qm start $vmid"
"""


def configuration(subject: Subject) -> str:
    """The .conf as it will stand in /etc/pve/qemu-server, for those who write it by hand."""
    rows = [*options(subject), (slot(subject), "local-lvm:vm-100-disk-0")]
    listed = "".join(f"{option}: {value}\n" for option, value in sorted(rows))
    return conf_comment(f"{subject.title}. Exported by Byre from {subject.source}.") + "\n" + listed

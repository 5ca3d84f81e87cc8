"""Vagrant: a box for the libvirt provider (a qcow2 image) or for VirtualBox (an OVF with its VMDK).

Source: vagrant-libvirt's "Box format" and HashiCorp's pages on boxes; not run. A box's Vagrantfile is Ruby: the only
text in it that isn't ours is a plain name.
"""

from __future__ import annotations

import json

from byre.machine.export import libvirt, ovf
from byre.machine.export.plan import DiskFile, ExportPlan, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import plain_name
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import QEMU_CARDS, Translation, described, mac_address, mebibytes
from byre.units import GIB, ceil_div

TITLE = "Vagrant"
BUSES = {"piix3-ide": "ide", "piix4-ide": "ide", "ich9-ahci": "sata", "virtio-blk": "virtio"}


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    box = f"{name}-{subject.form}.box"
    if subject.form == "virtualbox":
        words = ovf.translated(subject, "Vagrant with VirtualBox")
        texts: tuple[str, ...] = ("metadata.json", "Vagrantfile", "box.ovf", PATH)
        disk = ovf.disk_file(subject)
        seen = machine.controller.value if machine.controller.value in ovf.CONTROLLERS else "piix4-ide"
    else:
        words = Translation("Vagrant with libvirt")
        words.boots_with("controller", machine.controller, BUSES, "ide")
        words.boots_with("chipset", machine.chipset, libvirt.CHIPSETS, "pc")
        words.comfort("network card", machine.network, QEMU_CARDS, "rtl8139")
        words.comfort("sound card", machine.sound, libvirt.SOUND_CARDS, "")
        texts = ("metadata.json", "Vagrantfile", PATH)
        disk = DiskFile("box.img", "qemu", "qcow2")
        seen = "piix3-ide" if machine.bus == "ide" else machine.controller.value
    words.notes.append(
        "Vagrant logs in by SSH with its own well-known key: 'vagrant up' gives up on a guest without them after a "
        "minute, and the machine runs"
    )
    words.notes.append("Vagrant plugs the network in: the guest reaches the host's network")
    return ExportPlan(
        target="vagrant",
        title=TITLE,
        name=box,
        shape="box",
        disk=disk,
        texts=texts,
        controller=seen,
        settings=described(machine),
        lines=(
            f"vagrant box add --name {name} {box}",
            f"vagrant init {name} && vagrant up --provider {subject.form}",
        ),
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    about = readme(subject, TITLE, made.lines, made.notes)
    if subject.form == "virtualbox":
        return (
            TextFile("metadata.json", json.dumps({"provider": "virtualbox"}) + "\n"),
            TextFile("Vagrantfile", _vagrantfile(subject, _virtualbox(subject))),
            ovf.envelope(subject, disk, made.lines, "box.ovf"),
            about,
        )
    size = ceil_div(disk.size if disk else subject.disk_size, GIB)
    return (
        TextFile(
            "metadata.json", json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": size}) + "\n"
        ),
        TextFile("Vagrantfile", _vagrantfile(subject, _libvirt(subject))),
        about,
    )


def _vagrantfile(subject: Subject, lines: list[str]) -> str:
    system = "linux" if subject.machine.system.value == "linux" else "windows"
    return "\n".join(
        (
            'Vagrant.configure("2") do |config|',
            f"  config.vm.guest = :{system}",
            "  config.vm.boot_timeout = 60",
            '  config.vm.synced_folder ".", "/vagrant", disabled: true',
            *(f"  {line}" for line in lines),
            "end",
            "",
        )
    )


def _libvirt(subject: Subject) -> list[str]:
    machine = subject.machine
    card = QEMU_CARDS.get(machine.network.value, "rtl8139") or "rtl8139"
    values: list[tuple[str, str | int]] = [
        ("driver", "kvm"),
        ("machine_type", libvirt.CHIPSETS.get(machine.chipset.value, "pc")),
        ("cpus", machine.cpus.value),
        ("memory", mebibytes(machine)),
        ("disk_bus", BUSES.get(machine.controller.value, "ide")),
        ("nic_model_type", card),
        ("video_type", libvirt.DISPLAYS.get(machine.display.value, "vga")),
        ("graphics_type", "vnc"),
        ("graphics_ip", "127.0.0.1"),
        ("clock_offset", "localtime" if machine.clock.value == "localtime" else "utc"),
    ]
    sound = libvirt.SOUND_CARDS.get(machine.sound.value, "")
    if sound:
        values.append(("sound_type", sound))
    rows = [f"  libvirt.{name} = {value if isinstance(value, int) else json.dumps(value)}" for name, value in values]
    # json.dumps quotes Ruby's strings too, as long as nothing in them begins an interpolation: all are our own words.
    return ["config.vm.provider :libvirt do |libvirt|", *rows, "end"]


def _virtualbox(subject: Subject) -> list[str]:
    mac = mac_address(subject.identity.mac, "08:00:27", "").upper()
    return [
        f'config.vm.base_mac = "{mac}"',
        "config.vm.provider :virtualbox do |virtualbox|",
        "  virtualbox.check_guest_additions = false",
        f"  virtualbox.memory = {mebibytes(subject.machine, 4)}",
        f"  virtualbox.cpus = {subject.machine.cpus.value}",
        "end",
    ]

"""The command line is a pure function of the machine; nothing in a name becomes an option."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from byre.errors import UnsupportedError
from byre.machine.evidence import Evidence
from byre.machine.hardware import Choice, Machine
from byre.machine.overrides import override
from byre.machine.profile import profile
from byre.machine.qemu.command import SANDBOX, Options, Port, command_line, shell_line
from byre.machine.qemu.drive import chain_drive, nbd_drive, overlay_drive

MACHINE = profile(Evidence("xp", "winxp", "for the test", "i386"))
DRIVE = overlay_drive(Path("/run/over.qcow2"), chain_drive(((Path("/a,b/xp.qcow2"), "qcow2"),)))
OPTIONS = Options(folder=Path("/run/a,b"))


def words_after(words: tuple[str, ...], option: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def test_nothing_leaks_by_default() -> None:
    words = command_line(MACHINE, DRIVE, OPTIONS)
    assert words_after(words, "-sandbox") == [SANDBOX]
    assert words_after(words, "-netdev") == ["hubport,id=net0,hubid=0"]
    assert words_after(words, "-display") == ["none"]
    assert "-nodefaults" in words and "-no-user-config" in words
    assert not any("virtfs" in word or "spice" in word or "smb" in word for word in words)


def test_the_image_is_never_opened_for_writing_below_an_overlay() -> None:
    nodes = [json.loads(word) for word in words_after(command_line(MACHINE, DRIVE, OPTIONS), "-blockdev")]
    base = next(node for node in nodes if node["node-name"] == "disk0")
    assert base["read-only"] is True and base["file"]["read-only"] is True
    assert base["backing"] is None, "a name inside the image must open nothing"
    assert next(node for node in nodes if node["node-name"] == "overlay")["backing"] == "disk0"


def test_a_chain_is_spelled_out_and_only_its_top_is_written() -> None:
    drive = chain_drive(((Path("/top.qcow2"), "qcow2"), (Path("/base.vhd"), "vhd")), writable=True)
    low, top = drive.nodes
    assert (low["driver"], low["read-only"]) == ("vpc", True)
    assert (top["backing"], top["read-only"], drive.top) == ("disk1", False, "disk0")


def test_commas_in_paths_end_no_option() -> None:
    words = command_line(MACHINE, DRIVE, OPTIONS)
    assert all("path=/run/a,,b/" in word for word in words_after(words, "-chardev"))


def test_the_shell_line_reads_back_as_the_command() -> None:
    words = command_line(MACHINE, nbd_drive(Path("/tmp/it's $(here)/s")), OPTIONS)
    assert tuple(shlex.split(shell_line(words).replace(" \\\n", " "))) == words


@pytest.mark.parametrize(
    ("controller", "device"),
    [
        ("piix3-ide", "ide-hd,bus=ide.0"),
        ("piix4-ide", "ide-hd,bus=disks.0"),
        ("ich9-ahci", "ide-hd,bus=disks.0"),
        ("lsi53c895a", "scsi-hd,bus=disks.0"),
        ("virtio-blk", "virtio-blk-pci"),
        ("virtio-scsi", "scsi-hd,bus=disks.0"),
    ],
)
def test_the_disk_hangs_on_the_machines_controller(controller: str, device: str) -> None:
    words = command_line(override(MACHINE, "controller", controller), DRIVE, OPTIONS)
    assert any(word.startswith(device) for word in words_after(words, "-device"))


@pytest.mark.parametrize("controller", ["buslogic", "lsi53c1030"])
def test_a_controller_that_qemu_lacks_is_refused(controller: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        command_line(override(MACHINE, "controller", controller), DRIVE, OPTIONS)
    assert controller in caught.value.what


def settings_of(**changes: object) -> Machine:
    return replace(MACHINE, **{name: Choice(value, "test") for name, value in changes.items()})  # type: ignore[arg-type]


def test_the_cpu_hides_what_it_must_and_the_clock_is_local() -> None:
    words = command_line(settings_of(apic=False, cpus=2), DRIVE, OPTIONS)
    assert words_after(words, "-cpu") == ["qemu32,nx=off,lm=off,apic=off"]
    assert words_after(words, "-rtc") == ["base=localtime,driftfix=slew"]
    assert words_after(words, "-smp") == ["2"]


def test_ports_usb_discs_and_memory_files_go_where_they_belong() -> None:
    options = replace(
        OPTIONS,
        serial=(Port("serial", "/dev/ttyS0"), Port("file", "/tmp/a,b")),
        parallel=(Port("parallel", "/dev/parport0"),),
        usb=((0x0529, 0x0001),),
        disc=Path("/run/share.iso"),
        memory_file=Path("/dev/shm/x"),
        network="isolated",
        incoming=True,
        frozen=True,
        reboot=False,
    )
    words = command_line(settings_of(pointer="usb-tablet"), DRIVE, options)
    devices = words_after(words, "-device")
    assert "usb-host,vendorid=0x0529,productid=0x0001" in devices
    assert "isa-serial,chardev=serial1" in devices and "isa-parallel,chardev=parallel0" in devices
    assert "ide-cd,bus=ide.1,drive=disc,id=sharedisc" in devices
    assert any("dgram" in word and "net.sock" in word for word in words_after(words, "-netdev"))
    assert any("share=on" in word for word in words_after(words, "-object"))
    assert words_after(words, "-incoming") == ["defer"] and "-S" in words and "-no-reboot" in words

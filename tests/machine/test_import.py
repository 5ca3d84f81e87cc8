"""Machines of other hypervisors taken over: what we exported, what others wrote, and what was made to hurt."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from builders.machines import a_machine
from builders.qemu import qemu_img
from byre.disks.opening import open_disk
from byre.errors import (
    ByreError,
    CorruptImageError,
    MissingError,
    RefusedReferenceError,
    UnsupportedError,
)
from byre.machine.evidence import Evidence
from byre.machine.export.running import export, prepare
from byre.machine.export.targets import export_target
from byre.machine.hardware import Machine
from byre.machine.importing.running import Imported, Opened, import_machine, open_machine
from byre.machine.overrides import parse_file
from fuzzing import fuzz

EVIDENCE = Evidence("xp", "winxp", "made for the test")
SIZE = 4 << 20


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "xp.raw"
    path.write_bytes(bytes(range(256)) * 256 + bytes(SIZE - 65536 - 4) + b"end.")
    return path


def exported(image: Path, output: Path, target: str, form: str, machine: Machine) -> Path:
    with open_disk(image, format="raw") as disk:
        prepared = prepare(export_target(target), form, disk, machine, EVIDENCE, source=image.name)
        export(prepared, disk, output)
    descriptor = next((each for each in prepared.plan.texts if each.endswith((".xml", ".vbox", ".vmx"))), None)
    if descriptor is not None:
        return output / descriptor
    return output / f"{machine.name}.utm" if target == "utm" else output


def imported(path: Path, output: Path, **options: object) -> tuple[Opened, Imported]:
    with open_machine(path, **options) as opened:  # type: ignore[arg-type]
        return opened, import_machine(opened, output)


def read_whole(path: Path) -> bytes:
    with open_disk(path) as disk:
        return disk.read(0, disk.size)


ROUND_TRIPS = [
    ("libvirt", "kvm", a_machine(hidden=("nx", "lm"), pointer="usb-tablet", memory=384 << 20), set()),
    ("libvirt", "qemu", a_machine(controller="ich9-ahci", chipset="q35", network="e1000", sound="none"), set()),
    ("libvirt", "kvm", a_machine(controller="lsi53c895a", display="cirrus", clock="utc", network="none"), set()),
    ("utm", "utm", a_machine(hidden=("nx",), network="pcnet", sound="es1370"), {"system", "acpi", "apic", "hpet"}),
    ("utm", "utm", a_machine(display="vmware", pointer="usb-tablet"), {"system", "acpi", "apic", "hpet"}),
    ("virtualbox", "vbox", a_machine(controller="piix4-ide", network="pcnet", pointer="usb-tablet", hpet=True),
     {"cpu", "architecture", "hidden"}),
    ("virtualbox", "vbox", a_machine(controller="piix3-ide", network="e1000", sound="sb16", apic=False),
     {"cpu", "architecture", "hidden"}),
    ("virtualbox", "vbox", a_machine(controller="lsi53c1030", network="none", sound="none", clock="utc"),
     {"cpu", "architecture", "hidden"}),
    ("vmware", "vmx", a_machine(controller="buslogic", network="pcnet", sound="es1370", memory=64 << 20),
     {"cpu", "architecture", "hidden", "display", "clock", "acpi", "apic"}),
    ("vmware", "vmx", a_machine(controller="piix4-ide", network="e1000", sound="none", pointer="usb-tablet"),
     {"cpu", "architecture", "hidden", "display", "clock", "acpi", "apic"}),
    ("virtualbox", "ova", a_machine(controller="piix3-ide", network="pcnet", sound="none", memory=512 << 20, cpus=1),
     {"cpu", "architecture", "hidden", "display", "clock", "acpi", "apic", "hpet", "pointer", "chipset", "firmware"}),
    ("esxi", "ova", a_machine(system="win2003", controller="lsi53c1030", network="e1000e", sound="es1370"),
     {"cpu", "architecture", "hidden", "display", "clock", "acpi", "apic", "hpet", "pointer", "chipset", "firmware"}),
]  # fmt: skip
"""Target, form, machine; and the fields that the form has no word for, which are left to the guest's own facts."""


@pytest.mark.parametrize(("target", "form", "machine", "unsaid"), ROUND_TRIPS)
def test_a_machine_comes_back_as_it_went_with_the_same_bytes(
    image: Path, tmp_path: Path, target: str, form: str, machine: Machine, unsaid: set[str]
) -> None:
    path = exported(image, tmp_path / "out.ova" if form == "ova" else tmp_path / "out", target, form, machine)
    opened, done = imported(path, tmp_path / "in")
    said = {field.name for field in fields(Machine)} - {"name"} - unsaid
    assert set(opened.settings) == said
    assert {name: getattr(done.machine, name).value for name in said} == {
        name: getattr(machine, name).value for name in said
    }
    assert done.machine.name == machine.name == Path(done.images[0]).stem
    assert not opened.description.dropped
    back = read_whole(tmp_path / "in" / done.images[0])
    assert back[:SIZE] == image.read_bytes() and not any(back[SIZE:])
    listed = parse_file((tmp_path / "in" / "MACHINE.toml").read_bytes(), path="MACHINE.toml")
    assert {each.name for each in listed} == said


def test_snapshots_of_an_exported_disk_come_back(tmp_path: Path, image: Path) -> None:
    qemu_img("convert", "-O", "qcow2", image, tmp_path / "xp.qcow2")
    qemu_img("snapshot", "-c", "clean", tmp_path / "xp.qcow2")
    with open_disk(tmp_path / "xp.qcow2") as disk:
        entry = export_target("utm")
        prepared = prepare(entry, "utm", disk, a_machine(), EVIDENCE, source="xp.qcow2", with_snapshots=True)
        export(prepared, disk, tmp_path / "out")
    opened, _ = imported(tmp_path / "out" / "xp.utm" / "config.plist", tmp_path / "in")
    assert [state.name for state in opened.disks[0].states[:-1]] == ["clean"]
    assert "clean" in qemu_img("snapshot", "-l", tmp_path / "in" / "xp.qcow2")


VBOX = """<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
  <Machine uuid="{m}" name="Old XP" OSType="WindowsXP" currentSnapshot="{s}">
    <MediaRegistry><HardDisks>
      <HardDisk uuid="{a}" location="base.vdi" format="VDI" type="Normal">
        <HardDisk uuid="{b}" location="Snapshots/{b}.vdi" format="VDI"/>
      </HardDisk>
    </HardDisks></MediaRegistry>
    <ExtraData><ExtraDataItem name="VBoxInternal/Devices/x" value="1"/></ExtraData>
    <Snapshot uuid="{s}" name="before the visit" timeStamp="2020-01-02T03:04:05Z">
      <Hardware><StorageControllers><StorageController name="IDE" type="PIIX4">
        <AttachedDevice type="HardDisk"><Image uuid="{a}"/></AttachedDevice>
      </StorageController></StorageControllers></Hardware>
    </Snapshot>
    <Hardware>
      <CPU count="1"/><Memory RAMSize="192"/>
      <Network><Adapter slot="0" enabled="true" type="Am79C973"><BridgedInterface name="eth0"/></Adapter></Network>
      <SharedFolders><SharedFolder name="home" hostPath="/home/me"/></SharedFolders>
      <USB><DeviceFilters><DeviceFilter name="dongle"/></DeviceFilters></USB>
      <UART><Port slot="0" enabled="true" path="/dev/ttyS0"/></UART>
      <StorageControllers><StorageController name="IDE" type="PIIX4">
        <AttachedDevice type="HardDisk"><Image uuid="{b}"/></AttachedDevice>
        <AttachedDevice type="DVD"><Image uuid="{d}"/></AttachedDevice>
      </StorageController></StorageControllers>
    </Hardware>
  </Machine>
</VirtualBox>
"""


def test_a_virtualbox_machine_with_a_differencing_disk_keeps_its_snapshot(tmp_path: Path) -> None:
    """The chain is ours; the tree of media and snapshots as VirtualBox 7 writes it."""
    from byre.convert.convert import convert_states
    from byre.convert.states import states_of

    qemu_img("create", "-f", "qcow2", tmp_path / "xp.qcow2", "4M")
    with open_disk(tmp_path / "xp.qcow2", writable=True) as disk:
        disk.write(0, b"then" * 1000)  # type: ignore[attr-defined]
    qemu_img("snapshot", "-c", "one", tmp_path / "xp.qcow2")
    with open_disk(tmp_path / "xp.qcow2", writable=True) as disk:
        disk.write(1 << 20, b"now" * 1000)  # type: ignore[attr-defined]
    with open_disk(tmp_path / "xp.qcow2") as disk:
        convert_states(states_of(disk), tmp_path / "chain", "vdi")
    machine = tmp_path / "vm"
    (machine / "Snapshots").mkdir(parents=True)
    first, second = sorted((tmp_path / "chain").glob("*.vdi"))
    uuids = {}
    for key, path in (("a", first), ("b", second)):
        with open_disk(path, parents=[tmp_path / "chain"]) as disk:
            uuids[key] = "{" + str(disk.describe().details["uuid"]) + "}"
    first.rename(machine / "base.vdi")
    second.rename(machine / "Snapshots" / f"{uuids['b']}.vdi")
    text = VBOX.format(m="{1}", s="{2}", d="{3}", **uuids)
    (machine / "xp.vbox").write_text(text)
    opened, done = imported(machine / "xp.vbox", tmp_path / "in")
    assert done.images == ("Old-XP.qcow2",)
    assert (opened.settings["memory"], opened.settings["network"]) == (192 << 20, "pcnet")
    dropped = "\n".join(opened.description.dropped)
    for part in ("/home/me", "dongle", "/dev/ttyS0", "eth0", "VBoxInternal", "DVD"):
        assert part in dropped
    with open_disk(f"{tmp_path}/in/Old-XP.qcow2@before the visit") as disk:
        assert disk.read(0, 4) == b"then" and not any(disk.read(1 << 20, 3000))
    assert read_whole(tmp_path / "in" / "Old-XP.qcow2")[1 << 20 : (1 << 20) + 3] == b"now"


VMX = """.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "4"
displayName = "Caf|C3|A9 |22XP|22"
guestOS = "winxppro"
memsize = "256"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsilogic"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "xp-000001.vmdk"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-raw"
ide1:0.fileName = "/dev/sr0"
ethernet0.present = "TRUE"
ethernet0.connectionType = "bridged"
sharedFolder0.present = "TRUE"
sharedFolder0.hostPath = "C:\\Users\\me"
serial0.present = "TRUE"
serial0.fileName = "/dev/ttyS1"
"""
VMSD = """.encoding = "UTF-8"
snapshot.numSnapshots = "1"
snapshot0.uid = "1"
snapshot0.displayName = "after setup"
snapshot0.disk0.fileName = "xp.vmdk"
"""


def test_a_vmware_machine_keeps_its_snapshot_under_the_name_in_the_vmsd(tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    from byre.convert.convert import convert_image

    raw = tmp_path / "xp.raw"
    raw.write_bytes(b"then" * 1024 + bytes(SIZE - 4096))
    with open_disk(raw, format="raw") as disk:
        convert_image(disk, folder / "xp.vmdk", "vmdk")
    from programs import byre

    byre("create", folder / "xp-000001.vmdk", "--backing", folder / "xp.vmdk", "-F", "vmdk")
    (folder / "xp.vmx").write_text(VMX)
    (folder / "xp.vmsd").write_text(VMSD)
    opened, done = imported(folder / "xp.vmx", tmp_path / "in")
    assert opened.description.name == 'Café "XP"'
    assert opened.settings["controller"] == "lsi53c1030" and opened.settings["network"] == "pcnet"
    assert [state.name for state in opened.disks[0].states[:-1]] == ["after setup"]
    dropped = "\n".join(opened.description.dropped)
    for part in ("/dev/sr0", "C:\\Users\\me", "/dev/ttyS1", "bridged"):
        assert part in dropped
    assert read_whole(tmp_path / "in" / done.images[0])[:4] == b"then"


DOMAIN = """<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>x</name><memory unit="MiB">64</memory>
  <os><type arch="i686" machine="pc-i440fx-9.2">hvm</type></os>
  <devices>
    <disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="{disk}"/>
      <target dev="hda" bus="ide"/></disk>
    <disk type="block" device="disk"><source dev="/dev/sda"/></disk>
    <disk type="file" device="cdrom"><source file="/isos/xp.iso"/></disk>
    <hostdev mode="subsystem" type="pci"/><filesystem type="mount"><source dir="/"/></filesystem>
  </devices>
  <qemu:commandline><qemu:arg value="-fw_cfg"/><qemu:arg value="file=/etc/shadow"/></qemu:commandline>
</domain>
"""


def test_what_reaches_the_host_is_left_behind_and_listed(tmp_path: Path, image: Path) -> None:
    (tmp_path / "d.raw").write_bytes(image.read_bytes())
    (tmp_path / "x.xml").write_text(DOMAIN.format(disk="d.raw"))
    opened, done = imported(tmp_path / "x.xml", tmp_path / "in")
    dropped = "\n".join(opened.description.dropped)
    for part in (
        "-fw_cfg file=/etc/shadow",
        "hostdev subsystem",
        "a folder of the host",
        "xp.iso",
        "no file (block)",
    ):
        assert part in dropped.replace("hostdev pci", "hostdev subsystem")
    assert len(done.images) == 1 and done.machine.architecture.value == "i386"
    assert done.machine.memory.value == 64 << 20


def test_a_disk_outside_of_the_folder_is_refused_until_it_is_allowed(tmp_path: Path, image: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    for name in (str(image), f"../{image.parent.name}/{image.name}"):
        (folder / "x.xml").write_text(DOMAIN.format(disk=image if name.startswith("/") else "../other.raw"))
        (tmp_path / "other.raw").write_bytes(image.read_bytes())
        with pytest.raises(RefusedReferenceError) as caught, open_machine(folder / "x.xml"):
            pass
        assert caught.value.exit_code == 77 and "--allow-path" in (caught.value.hint or "")
        with open_machine(folder / "x.xml", allow_paths=[image.parent, tmp_path]) as opened:
            assert opened.disks[0].disk.size == SIZE


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, image: Path) -> None:
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "d.raw").symlink_to(image)
    (tmp_path / "vm" / "x.xml").write_text(DOMAIN.format(disk="d.raw"))
    with pytest.raises(RefusedReferenceError), open_machine(tmp_path / "vm" / "x.xml"):
        pass


def test_an_absolute_path_means_the_file_beside_the_descriptor(tmp_path: Path, image: Path) -> None:
    (tmp_path / "d.raw").write_bytes(image.read_bytes())
    for name in ("/somewhere/else/d.raw", "C:\\VMs\\d.raw"):
        (tmp_path / "x.xml").write_text(DOMAIN.format(disk=name))
        with open_machine(tmp_path / "x.xml") as opened:
            assert any("beside" in note for note in opened.notes)
    (tmp_path / "x.xml").write_text(DOMAIN.format(disk="other.raw"))
    with pytest.raises(MissingError), open_machine(tmp_path / "x.xml"):
        pass


@pytest.mark.parametrize("name", ["/dev/zero", "https://example.com/x.raw", ".", "x" * 5000])
def test_what_is_no_plain_file_is_no_disk(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.xml").write_text(DOMAIN.format(disk=name))
    with pytest.raises(ByreError) as caught, open_machine(tmp_path / "x.xml", allow_paths=["/dev"]):
        pass
    assert caught.value.exit_code in (65, 66, 69)


OVF = """<?xml version="1.0"?>
<Envelope ovf:version="1.0" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References><File ovf:href="d.vmdk" ovf:id="file1"/></References>
  <DiskSection><Info/><Disk ovf:capacity="4194304" ovf:diskId="vmdisk1" ovf:fileRef="file1"
    ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
  <VirtualSystem ovf:id="Old XP"><Info/>
    <OperatingSystemSection ovf:id="1"><Info/><Description>WindowsXP</Description>
      <vbox:OSType ovf:required="false">WindowsXP</vbox:OSType></OperatingSystemSection>
    <VirtualHardwareSection><Info/>
      <Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>192</rasd:VirtualQuantity></Item>
      <Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>PIIX3</rasd:ResourceSubType>
        <rasd:ResourceType>5</rasd:ResourceType></Item>
      <Item><rasd:HostResource>/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>PCNet32</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType></Item>
      <Item><rasd:InstanceID>6</rasd:InstanceID><rasd:ResourceSubType>E1000</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType></Item>
      <Item><rasd:InstanceID>7</rasd:InstanceID><rasd:ResourceType>21</rasd:ResourceType></Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>
      <vmw:ExtraConfig vmw:key="isolation.tools.copy.disable" vmw:value="FALSE"/>
    </VirtualHardwareSection>
    <vbox:Machine name="Old XP"/>
  </VirtualSystem>
</Envelope>
"""


def test_an_ovf_as_virtualbox_and_vmware_write_it_is_read_without_its_archive(
    ova: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "x.ovf").write_text(OVF)
    (tmp_path / "vm" / "d.vmdk").write_bytes(ova["xp-disk1.vmdk"])
    opened, done = imported(tmp_path / "vm" / "x.ovf", tmp_path / "in")
    assert opened.settings == {
        "system": "winxp",
        "network": "pcnet",
        "sound": "none",
        "cpus": 1,
        "memory": 192 << 20,
        "controller": "piix3-ide",
        "firmware": "bios",
    }
    dropped = "\n".join(opened.description.dropped)
    for part in ("a further network card (e1000)", "a serial port", "isolation.tools", "vbox:Machine"):
        assert part in dropped
    assert done.images == ("Old-XP.qcow2",)
    (tmp_path / "vm" / "x.mf").write_text(f"SHA256(d.vmdk)= {'0' * 64}\n")
    with pytest.raises(CorruptImageError), open_machine(tmp_path / "vm" / "x.ovf"):
        pass
    with open_machine(tmp_path / "vm" / "x.ovf", check_manifest=False) as opened:
        assert opened.verified == 0


def test_the_disk_with_the_lowest_boot_order_is_the_boot_disk(tmp_path: Path) -> None:
    disks = "".join(
        f'<disk type="file" device="disk"><driver type="raw"/><source file="{name}.raw"/>'
        f'<target dev="{device}" bus="{bus}"/><boot order="{order}"/></disk>'
        for name, device, bus, order in (("a", "sda", "sata", 2), ("b", "hda", "ide", 1))
    )
    for name in ("a", "b"):
        (tmp_path / f"{name}.raw").write_bytes(name.encode() * 512 + bytes(SIZE - 512))
    (tmp_path / "x.xml").write_text(f"<domain><name>two</name><devices>{disks}</devices></domain>")
    opened, done = imported(tmp_path / "x.xml", tmp_path / "in")
    assert done.images == ("two.qcow2", "two-disk2.qcow2")
    assert opened.settings["controller"] == "piix3-ide"
    assert read_whole(tmp_path / "in" / "two.qcow2")[:1] == b"b"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("doctype", [BOMB, OUTSIDE, '<!DOCTYPE domain SYSTEM "http://192.0.2.1/x.dtd">'])
@pytest.mark.parametrize("suffix", [".xml", ".vbox", ".ovf"])
def test_entities_and_document_types_are_refused(tmp_path: Path, doctype: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text(f"<?xml version='1.0'?>{doctype}<domain><name>&a;</name></domain>")
    with pytest.raises(UnsupportedError) as caught, open_machine(path):
        pass
    assert "<!DOCTYPE" in (caught.value.hint or "")


def test_entities_in_a_property_list_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.plist"
    path.write_text(f"<?xml version='1.0'?>{BOMB}<plist><dict><key>a</key><string>&b;</string></dict></plist>")
    with pytest.raises(CorruptImageError), open_machine(path):
        pass


def test_a_property_list_of_deep_or_odd_values_is_read_without_harm(tmp_path: Path) -> None:
    deep = "<array>" * 3000 + "</array>" * 3000
    rows = f"<key>AdditionalArguments</key><array>{deep}<string>-fw_cfg</string></array>"
    odd = "<key>MemorySize</key><integer>" + "9" * 4000 + "</integer><key>CPUCount</key><string>x</string>"
    text = (
        "<plist><dict><key>Backend</key><string>QEMU</string><key>ConfigurationVersion</key><integer>4</integer>"
        f"<key>QEMU</key><dict>{rows}</dict><key>System</key><dict>{odd}</dict><key>Drive</key><array><dict>"
        "<key>ImageType</key><string>Disk</string><key>ImageName</key><string>d.raw</string></dict></array>"
        "</dict></plist>"
    )
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data" / "d.raw").write_bytes(bytes(SIZE))
    (tmp_path / "config.plist").write_text(text)
    with open_machine(tmp_path / "config.plist") as opened:
        assert opened.description.dropped == ("an argument for QEMU: list", "an argument for QEMU: -fw_cfg")
        assert "memory" not in opened.settings and "cpus" not in opened.settings


def test_a_deep_or_wide_document_is_refused(tmp_path: Path) -> None:
    for text in ("<a>" * 5000, "<domain>" + "<a/>" * 200_000):
        (tmp_path / "x.xml").write_text(text)
        with pytest.raises(UnsupportedError), open_machine(tmp_path / "x.xml"):
            pass


@pytest.fixture
def ova(image: Path, tmp_path: Path) -> dict[str, bytes]:
    """The members of a sound archive."""
    machine = a_machine(controller="piix4-ide", network="pcnet")
    exported(image, tmp_path / "sound.ova", "virtualbox", "ova", machine)
    with tarfile.open(tmp_path / "sound.ova") as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]


def archive_of(members: dict[str, bytes], change: Callable[[tarfile.TarInfo], None] | None = None,
               format: int = tarfile.USTAR_FORMAT) -> bytes:  # fmt: skip
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if change is not None:
                change(info)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_a_changed_member_is_found_by_the_manifest(ova: dict[str, bytes], tmp_path: Path) -> None:
    changed = {**ova, "xp-disk1.vmdk": ova["xp-disk1.vmdk"][:-1] + b"x"}
    (tmp_path / "x.ova").write_bytes(archive_of(changed))
    with pytest.raises(CorruptImageError) as caught, open_machine(tmp_path / "x.ova"):
        pass
    assert caught.value.found == hashlib.sha256(changed["xp-disk1.vmdk"]).hexdigest()
    (tmp_path / "y.ova").write_bytes(archive_of({k: v for k, v in ova.items() if not k.endswith(".mf")}))
    with open_machine(tmp_path / "y.ova") as opened:
        assert opened.verified == 0 and any("no manifest" in note for note in opened.notes)
    (tmp_path / "z.ova").write_bytes(archive_of({**ova, "xp.mf": ova["xp.mf"] + b"SHA1(gone)= " + b"0" * 40 + b"\n"}))
    with pytest.raises(CorruptImageError) as caught, open_machine(tmp_path / "z.ova"):
        pass
    assert caught.value.expected == "gone"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "a\\b", "..", "./../x"])
def test_a_member_with_a_path_is_refused(ova: dict[str, bytes], tmp_path: Path, name: str) -> None:
    (tmp_path / "x.ova").write_bytes(archive_of({**ova, name: b"x"}))
    with pytest.raises(UnsupportedError), open_machine(tmp_path / "x.ova"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sound.ova", "x.ova"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S", b"L"])
def test_links_devices_and_sparse_members_are_refused(ova: dict[str, bytes], tmp_path: Path, kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        if info.name == "extra":
            info.type, info.linkname = kind, "/etc/passwd"

    (tmp_path / "x.ova").write_bytes(archive_of({**ova, "extra": b""}, change))
    with pytest.raises(UnsupportedError) as caught, open_machine(tmp_path / "x.ova"):
        pass
    assert caught.value.offset is not None


def test_a_sparse_file_said_in_an_extended_header_is_refused(ova: dict[str, bytes], tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        if info.name == "extra":
            info.pax_headers = {"GNU.sparse.realsize": str(1 << 60)}

    (tmp_path / "x.ova").write_bytes(archive_of({**ova, "extra": b"x"}, change, tarfile.PAX_FORMAT))
    with pytest.raises(UnsupportedError) as caught, open_machine(tmp_path / "x.ova"):
        pass
    assert "sparse" in caught.value.what


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_of_every_kind_of_tar_are_read(ova: dict[str, bytes], tmp_path: Path, format: int) -> None:
    (tmp_path / "x.ova").write_bytes(archive_of(ova, format=format))
    with open_machine(tmp_path / "x.ova") as opened:
        assert opened.verified == 2 and opened.disks[0].disk.size == SIZE


def test_two_members_of_one_name_are_refused(ova: dict[str, bytes], tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("xp.ovf", "XP.OVF"):
            info = tarfile.TarInfo(name)
            info.size = len(ova["xp.ovf"])
            archive.addfile(info, io.BytesIO(ova["xp.ovf"]))
    (tmp_path / "x.ova").write_bytes(out.getvalue())
    with pytest.raises(CorruptImageError) as caught, open_machine(tmp_path / "x.ova"):
        pass
    assert caught.value.found == "XP.OVF"


def test_a_disk_in_an_archive_can_not_name_a_file_of_the_host(ova: dict[str, bytes], tmp_path: Path) -> None:
    descriptor = (
        b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        b'RW 8 FLAT "/etc/passwd" 0\nddb.virtualHWVersion = "7"\n'
    )
    members = {"xp.ovf": ova["xp.ovf"], "xp-disk1.vmdk": descriptor.ljust(1024, b"\n")}
    (tmp_path / "x.ova").write_bytes(archive_of(members))
    with pytest.raises(ByreError) as caught, open_machine(tmp_path / "x.ova"):
        pass
    assert caught.value.exit_code in (65, 69, 77)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["x.ova", "x.ovf", "x.vbox", "x.vmx", "x.xml", "config.plist"])
def test_damaged_descriptors_are_errors_of_ours(image: Path, tmp_path: Path, kind: str) -> None:
    """Nothing but a ByreError comes out."""
    target, form = {
        "x.ova": ("virtualbox", "ova"),
        "x.ovf": ("virtualbox", "ova"),
        "x.vbox": ("virtualbox", "vbox"),
        "x.vmx": ("vmware", "vmx"),
        "x.xml": ("libvirt", "kvm"),
        "config.plist": ("utm", "utm"),
    }[kind]
    machine = a_machine(controller="piix4-ide", network="pcnet")
    path = exported(image, tmp_path / ("o.ova" if form == "ova" else "o"), target, form, machine)
    if kind == "x.ovf":
        with tarfile.open(path) as archive:
            data = archive.extractfile("xp.ovf").read()  # type: ignore[union-attr]
            archive.extract("xp-disk1.vmdk", tmp_path, filter="data")
    else:
        data = (path / "config.plist" if path.is_dir() else path).read_bytes()
    place = tmp_path / "in" / kind
    place.parent.mkdir()
    for disk in (path if path.is_dir() else path.parent).rglob("*"):
        if disk.suffix in (".vdi", ".vmdk", ".qcow2"):
            folder = place.parent / ("Data" if target == "utm" else ".")
            folder.mkdir(exist_ok=True)
            (folder / disk.name).write_bytes(disk.read_bytes())

    def case(dice: random.Random) -> bool:
        place.write_bytes(damaged(data, dice))
        try:
            # A manifest would find most of it before the parsers do.
            with open_machine(place, check_manifest=dice.random() < 0.2) as opened:
                return bool(opened.disks)
        except ByreError:
            return False

    assert fuzz(f"import {kind}", 150, case), "not one of them could still be read"


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Bytes changed, cut out, doubled and put in, in the first nine thousand."""
    broken = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(max(1, min(9000, len(broken))))
        act = dice.randrange(4)
        if act == 0 and broken:
            broken[at] = dice.randrange(256)
        elif act == 1:
            del broken[at : at + dice.randint(1, 200)]
        elif act == 2:
            broken[at:at] = broken[at : at + dice.randint(1, 200)]
        else:
            broken[at:at] = dice.choice([b"99999999999999999999", b"-1", b"\0", b"<a>", b"]]>", b"\xff\xfe", b'"'])
    return bytes(broken)

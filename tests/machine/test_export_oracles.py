"""Exports of a real disk, judged by programs that aren't ours, and started again under QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from builders.machines import a_machine
from builders.qemu import qemu_img
from byre.disks.opening import open_disk
from byre.errors import UnsupportedError, UsageError
from byre.machine import hardware
from byre.machine.evidence import Evidence
from byre.machine.export.running import Exported, Prepared, check_allowed, export, prepare
from byre.machine.export.targets import EXPORT_TARGETS, export_target
from byre.machine.hardware import Machine
from oracles import find_tool, require_tool, run_tool

SAID = "BYRE-BOOT-OK"
EVIDENCE = Evidence("boot", "unknown", "made for the test")


def boot_sector() -> bytes:
    """Prints a line to the first serial port, and stops. 16-bit code, our own."""
    before = bytes.fromhex("fafc31c08ed8baf803")  # cli, cld, ds = 0, dx = port of COM1
    loop = bytes.fromhex("ac84c07403eeebf8f4ebfd")  # lodsb, done at 0, out dx, al; then hlt for ever
    text = f"{SAID}\r\n\0".encode()
    start = 0x7C00 + len(before) + 3 + len(loop)
    code = before + b"\xbe" + start.to_bytes(2, "little") + loop + text
    return code.ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of 16 MiB with a boot sector, something in its middle and at its end."""
    path = tmp_path_factory.mktemp("image") / "boot.raw"
    data = bytearray(16 << 20)
    data[:512] = boot_sector()
    data[5 << 20 : (5 << 20) + 70_000] = bytes(range(250)) * 280
    data[-4:] = b"end."
    path.write_bytes(data)
    return path


def exported(
    image: Path, output: Path, target: str, form: str | None = None, **values: object
) -> tuple[Prepared, Exported]:
    entry = export_target(target)
    chosen = form or entry.forms[0]
    machine = values.pop("machine", None) or a_machine(name="boot", system="unknown")
    assert isinstance(machine, Machine)
    with open_disk(image, format=values.pop("format", "raw")) as disk:  # type: ignore[arg-type]
        prepared = prepare(entry, chosen, disk, machine, EVIDENCE, source=str(image), **values)  # type: ignore[arg-type]
        return prepared, export(prepared, disk, output)


@pytest.mark.oracle
@pytest.mark.parametrize("target", [target.name for target in EXPORT_TARGETS if target.name != "kubevirt"])
def test_the_exported_disk_reads_as_the_image_did_for_qemu_img(image: Path, tmp_path: Path, target: str) -> None:
    for form in export_target(target).forms:
        output = tmp_path / f"{target}-{form}"
        prepared, done = exported(image, output, target, form)
        disk = output / prepared.plan.disk.path
        if prepared.plan.shape != "folder":
            with tarfile.open(output) as archive:
                archive.extractall(tmp_path / "unpacked", filter="data")
            disk = tmp_path / "unpacked" / prepared.plan.disk.path
        assert done.disk.file_size == disk.stat().st_size
        known = {"vhd": "vpc"}.get(prepared.plan.disk.format, prepared.plan.disk.format)
        qemu_img("compare", "-f", "raw", "-F", known, image, disk)


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["kvm", "qemu"])
@pytest.mark.parametrize("pointer", ["ps2", "usb-tablet"])
@pytest.mark.parametrize("controller", ["piix3-ide", "ich9-ahci", "lsi53c895a", "virtio-blk"])
def test_libvirts_schema_takes_the_domain(
    image: Path, tmp_path: Path, form: str, pointer: str, controller: str
) -> None:
    machine = a_machine(name="boot", pointer=pointer, controller=controller, hidden=("nx",))
    exported(image, tmp_path / "x", "libvirt", form, machine=machine)
    run_tool("virt-xml-validate", tmp_path / "x" / "boot.xml", "domain")


HARDWARE = [
    *({"network": name} for name in hardware.NETWORK_CARDS),
    *({"display": name} for name in hardware.DISPLAYS),
    *({"sound": name} for name in hardware.SOUND_CARDS),
    {"controller": "virtio-scsi"},
    {"controller": "piix4-ide"},
    {"chipset": "q35", "controller": "ich9-ahci", "cpu": "host"},
    {"acpi": False, "apic": False, "hpet": True, "clock": "utc", "cpus": 2, "hidden": ("nx", "lm")},
]


@pytest.mark.oracle
@pytest.mark.parametrize("values", HARDWARE, ids=str)
def test_libvirts_schema_knows_every_word(image: Path, tmp_path: Path, values: dict[str, object]) -> None:
    exported(image, tmp_path / "x", "libvirt", machine=a_machine(name="boot", **values))
    run_tool("virt-xml-validate", tmp_path / "x" / "boot.xml", "domain")


@pytest.mark.oracle
@pytest.mark.parametrize("values", [*HARDWARE, {"controller": "lsi53c895a"}, {"controller": "virtio-blk"},
                                    {"controller": "ich9-ahci"}, {"pointer": "usb-tablet"}], ids=str)  # fmt: skip
def test_qemu_knows_every_word_of_the_script(image: Path, tmp_path: Path, values: dict[str, object]) -> None:
    """It builds the machine, stopped, and is told to quit."""
    require_tool("qemu-system-x86_64")
    exported(image, tmp_path / "x", "qemu", machine=a_machine(name="boot", **values))
    words = [tmp_path / "x" / "run-boot.sh", "-S", "-display", "none", "-monitor", "stdio"]
    done = subprocess.run(
        words,
        input="quit\n",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "ACCEL": "tcg"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.oracle
def test_virsh_defines_the_domain_on_its_test_driver(image: Path, tmp_path: Path) -> None:
    exported(image, tmp_path / "x", "libvirt")
    said = run_tool("virsh", "-c", "test:///default", "define", "--validate", tmp_path / "x" / "boot.xml")
    assert "boot" in said and "defined" in said


@pytest.mark.oracle
def test_libvirts_schema_takes_the_snapshots(image: Path, tmp_path: Path) -> None:
    qemu_img("convert", "-O", "qcow2", image, tmp_path / "boot.qcow2")
    for name in ("clean", "a <b> & 'c'"):
        qemu_img("snapshot", "-c", name, tmp_path / "boot.qcow2")
    exported(tmp_path / "boot.qcow2", tmp_path / "x", "libvirt", format=None, with_snapshots=True)
    for number in (1, 2):
        run_tool("virt-xml-validate", tmp_path / "x" / "snapshots" / f"{number:02d}.xml", "domainsnapshot")
    assert "clean" in qemu_img("snapshot", "-l", tmp_path / "x" / "boot.qcow2")


@pytest.mark.slow
def test_libvirtd_starts_the_domain_and_goes_back_to_its_snapshot(image: Path, tmp_path: Path) -> None:
    """Not among the oracles of every run: it wants libvirtd running as root, on this machine."""
    virsh = [require_tool("virsh"), "-c", "qemu:///system"]
    if subprocess.run([*virsh, "list"], capture_output=True, check=False).returncode:
        pytest.skip("libvirtd isn't running: install libvirt-daemon-driver-qemu, start virtlogd and libvirtd")
    qemu_img("convert", "-O", "qcow2", image, tmp_path / "boot.qcow2")
    qemu_img("snapshot", "-c", "clean", tmp_path / "boot.qcow2")
    exported(tmp_path / "boot.qcow2", tmp_path / "x", "libvirt", "qemu", format=None, with_snapshots=True)
    text = (tmp_path / "x" / "boot.xml").read_text()
    serial = tmp_path / "serial"
    # The test's own additions: where the disk lies, and a serial port into a file.
    text = text.replace("/var/lib/libvirt/images/", f"{tmp_path}/x/").replace("<name>boot", "<name>byre-test")
    port = f'<serial type="file"><source path="{serial}"/></serial><graphics'
    (tmp_path / "test.xml").write_text(text.replace("<graphics", port))
    subprocess.run([*virsh, "define", "--validate", tmp_path / "test.xml"], check=True, capture_output=True)
    try:
        subprocess.run([*virsh, "start", "byre-test"], check=True, capture_output=True)
        assert waited_for(serial)
        subprocess.run([*virsh, "destroy", "byre-test"], check=True, capture_output=True)
    finally:
        subprocess.run([*virsh, "destroy", "byre-test"], check=False, capture_output=True)
        subprocess.run([*virsh, "undefine", "byre-test"], check=False, capture_output=True)


def waited_for(serial: Path, seconds: float = 240) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if serial.exists() and SAID in serial.read_text(errors="replace"):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.oracle
def test_the_script_starts_the_exported_disk_under_qemu(image: Path, tmp_path: Path) -> None:
    require_tool("qemu-system-x86_64")
    exported(image, tmp_path / "it's $HOME", "qemu")
    serial = tmp_path / "serial"
    words = [
        tmp_path / "it's $HOME" / "run-boot.sh",
        "-display",
        "none",
        "-serial",
        f"file:{serial}",
    ]
    running = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "ACCEL": "tcg"}
    )
    try:
        assert waited_for(serial), running.stderr
    finally:
        running.terminate()
        running.communicate(timeout=120)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("target", "form"), [("vmware", "vmx"), ("virtualbox", "vbox"), ("hyperv", "vhd"), ("hyperv", "vhdx")]
)
def test_disks_in_other_formats_start_under_qemu_too(image: Path, tmp_path: Path, target: str, form: str) -> None:
    prepared, _ = exported(image, tmp_path / "x", target, form)
    known = {"vhd": "vpc"}.get(prepared.plan.disk.format, prepared.plan.disk.format)
    serial = tmp_path / "serial"
    drive = f"file={tmp_path / 'x' / prepared.plan.disk.path},format={known},if=ide"
    words = [require_tool("qemu-system-x86_64"), "-snapshot", "-m", "64", "-display", "none", "-serial",
             f"file:{serial}", "-drive", drive]  # fmt: skip
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert waited_for(serial)
    finally:
        running.terminate()
        running.communicate(timeout=120)


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["qemu", "proxmox"])
def test_shellcheck_has_nothing_to_say_of_the_scripts(image: Path, tmp_path: Path, target: str) -> None:
    _, done = exported(image, tmp_path / "x", target)
    script = next(tmp_path / "x" / name for name in done.files if name.endswith(".sh"))
    run_tool("shellcheck", script)
    assert os.access(script, os.X_OK)


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["vhdx", "vhd"])
def test_the_powershell_script_is_powershell(image: Path, tmp_path: Path, form: str) -> None:
    """Its syntax; that Hyper-V does what it says was not tried."""
    tree_sitter = pytest.importorskip("tree_sitter")
    powershell = pytest.importorskip("tree_sitter_powershell")
    machine = a_machine(name="it's", controller="piix4-ide")
    exported(image, tmp_path / "x", "hyperv", form, machine=machine)
    parser = tree_sitter.Parser(tree_sitter.Language(powershell.language()))
    text = next((tmp_path / "x").glob("*.ps1")).read_bytes()
    assert text.startswith(b"\xef\xbb\xbf") and b"\r\n" in text
    tree = parser.parse(text[3:])
    assert not tree.root_node.has_error
    assert parser.parse(text[3:].replace(b"param(", b"param((")).root_node.has_error


@pytest.mark.oracle
def test_vhdiinfo_and_vmdkinfo_read_the_disks(image: Path, tmp_path: Path) -> None:
    exported(image, tmp_path / "v", "hyperv", "vhd")
    assert "16777216 bytes" in run_tool("vhdiinfo", tmp_path / "v" / "boot.vhd")
    exported(image, tmp_path / "w", "vmware", "vmx")
    assert "16777216 bytes" in run_tool("vmdkinfo", tmp_path / "w" / "boot.vmdk")


def test_an_ova_is_a_ustar_with_the_ovf_first_and_a_manifest_that_is_true(image: Path, tmp_path: Path) -> None:
    import hashlib

    for target, digest in (("virtualbox", "sha256"), ("esxi", "sha1")):
        output = tmp_path / f"{target}.ova"
        exported(image, output, target, "ova", digest=digest)
        assert output.read_bytes()[257:265] == b"ustar\x0000" and output.stat().st_size % 10240 == 0
        with tarfile.open(output) as archive:
            names = archive.getnames()
            assert names == ["boot.ovf", "boot.mf", "boot-disk1.vmdk"]
            assert all(member.isreg() and member.mode == 0o644 and member.uid == 0 for member in archive)
            content = {name: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]
        lines = content["boot.mf"].decode().splitlines()
        for line, name in zip(lines, ("boot.ovf", "boot-disk1.vmdk"), strict=True):
            assert line == f"{digest.upper()}({name})= {hashlib.new(digest, content[name]).hexdigest()}"


def test_cot_reads_the_ova_and_finds_no_fault(image: Path, tmp_path: Path) -> None:
    """An OVF tool that isn't ours. It knows SHA-1 only, and always ends with status 0."""
    cot = find_tool("cot") or shutil.which("cot", path=os.path.dirname(os.sys.executable))  # type: ignore[attr-defined]  # noqa: PTH120
    if cot is None:
        pytest.skip("cot is missing: pip install cot (it brings pyvmomi, too much for every run)")
    exported(image, tmp_path / "x.ova", "esxi", "ova", digest="sha1")
    done = subprocess.run([cot, "info", tmp_path / "x.ova"], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "ERROR" not in said and "WARNING" not in said
    assert "harddisk @ IDE 0:0" in said and "PCNet32" in said and "vmx-07" in said


def test_virt_v2v_reads_the_ova_and_the_vmx_without_a_warning(image: Path, tmp_path: Path) -> None:
    """It verifies the manifest's digests. Not among the oracles of every run: it brings a kernel and 400 MB."""
    tool = find_tool("virt-v2v")
    if tool is None:
        pytest.skip("virt-v2v is missing: install virt-v2v")
    machine = a_machine(name="boot", controller="piix4-ide", network="pcnet")
    exported(image, tmp_path / "x.ova", "virtualbox", "ova", machine=machine)
    exported(image, tmp_path / "x", "vmware", "vmx", machine=machine)
    for kind, path in (("ova", tmp_path / "x.ova"), ("vmx", tmp_path / "x" / "boot.vmx")):
        words = [tool, "-i", kind, path, "--print-source", "-o", "null"]
        environment = {**os.environ, "LIBGUESTFS_BACKEND": "direct"}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=600)
        assert done.returncode == 0 and "warning" not in done.stdout + done.stderr
        assert "memory: 268435456 (bytes)" in done.stdout and "0 [ide]" in done.stdout


def test_the_ovf_fits_dmtfs_schema(image: Path, tmp_path: Path) -> None:
    """The schema may not be handed on with Byre: name a folder that has it in BYRE_OVF_SCHEMA."""
    schema = Path(os.environ.get("BYRE_OVF_SCHEMA", "")) / "dsp8023_1.1.1.xsd"
    if not schema.is_file():
        pytest.skip("BYRE_OVF_SCHEMA names no folder with dsp8023_1.1.1.xsd and what it includes")
    exported(image, tmp_path / "x.ova", "virtualbox", "ova")
    with tarfile.open(tmp_path / "x.ova") as archive:
        archive.extract("boot.ovf", tmp_path, filter="data")
    run_tool("xmllint", "--nonet", "--noout", "--schema", schema, tmp_path / "boot.ovf")


@pytest.mark.oracle
def test_xmllint_reads_every_xml_that_is_written(image: Path, tmp_path: Path) -> None:
    exported(image, tmp_path / "a", "virtualbox", "vbox")
    exported(image, tmp_path / "b", "utm")
    run_tool("xmllint", "--nonet", "--noout", tmp_path / "a" / "boot.vbox")
    run_tool("xmllint", "--nonet", "--noout", "--nowarning", tmp_path / "b" / "boot.utm" / "config.plist")


def test_nothing_is_left_when_an_export_fails(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from byre.machine.export import running

    def fail(*arguments: object, **named: object) -> None:
        raise UnsupportedError("the disk is full, let's say")

    monkeypatch.setattr(running, "convert_image", fail)
    for target, form in (("vmware", "vmx"), ("vmware", "ova")):
        with pytest.raises(UnsupportedError):
            exported(image, tmp_path / "x", target, form)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_an_error_that_force_lifts_where_it_may(image: Path) -> None:
    with open_disk(image, format="raw") as disk:
        soft = prepare(export_target("vmware"), "vmx", disk, a_machine(controller="virtio-blk"), EVIDENCE, source="x")
        hard = prepare(export_target("libvirt"), "kvm", disk, a_machine(chipset="q35"), EVIDENCE, source="x")
    with pytest.raises(UnsupportedError) as caught:
        check_allowed(soft, force=False)
    assert "virtio-blk" in caught.value.what and "--force" in (caught.value.hint or "")
    check_allowed(soft, force=True)
    with pytest.raises(UnsupportedError) as caught:
        check_allowed(hard, force=True)
    assert caught.value.hint == "Nothing was written."


def test_snapshots_go_only_where_they_can(image: Path) -> None:
    with open_disk(image, format="raw") as disk, pytest.raises(UsageError) as caught:
        prepare(export_target("proxmox"), "qm", disk, a_machine(), EVIDENCE, source="x", with_snapshots=True)
    assert "IMAGE@SNAPSHOT" in (caught.value.hint or "")


def test_an_address_leaves_no_secret_in_what_is_written(image: Path) -> None:
    address = "https://user:hunter2@example.com/disks/xp.qcow2?token=hunter3"
    with open_disk(image, format="raw") as disk:
        prepared = prepare(export_target("proxmox"), "qm", disk, a_machine(), EVIDENCE, source=address)
    said = "".join(text.text for text in prepared.texts())
    assert "hunter" not in said and prepared.subject.source == "xp.qcow2"


def test_what_can_not_be_told_of_the_guest_is_a_doubt_and_no_refusal(image: Path) -> None:
    from builders.audited import Plant, facts_of
    from byre.windows.fact import unknown

    facts = facts_of(Plant())
    assert facts.guest is not None
    blind = replace(facts, guest=replace(facts.guest, critical_devices=unknown("the hive can't be read")))
    evidence = Evidence("xp", "winxp", "made for the test", facts=blind)
    with open_disk(image, format="raw") as disk:
        prepared = prepare(export_target("qemu"), "sh", disk, a_machine(), evidence, source="x")
    assert prepared.refusals == ()
    assert len(prepared.doubts) == 1 and "the hive can't be read" in prepared.doubts[0]

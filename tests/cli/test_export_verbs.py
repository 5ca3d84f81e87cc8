"""``byre export`` and ``byre import`` as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import byre as package
from builders.qemu import qemu_img
from byre.machine.export.targets import EXPORT_TARGETS
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copyfile(SPECIMEN, tmp_path / "specimen.qcow2")
    return tmp_path


@pytest.mark.parametrize("target", [target.name for target in EXPORT_TARGETS if target.name != "kubevirt"])
def test_the_specimen_goes_to_every_target_and_the_plan_is_what_is_written(folder: Path, target: str) -> None:
    image = folder / "specimen.qcow2"
    out = folder / ("out.ova" if target in ("virtualbox", "esxi") else "out")
    plan = byre_json("export", image, "--to", target, "-o", out, "--dry-run")
    assert not out.exists() and plan["refusals"] == [] and len(plan["import"]) >= 2
    done = byre("export", image, "--to", target, "-o", out, "--json").stdout
    payload = json.loads(done)
    assert payload["schema"] == "byre/export/1" and payload["output"] == str(out)
    assert set(payload["files"]) >= {*plan["texts"], plan["disk"]["path"]}
    if out.is_dir():
        there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        assert there == set(payload["files"])


def test_an_ova_needs_its_suffix(folder: Path) -> None:
    done = byre("export", folder / "specimen.qcow2", "--to", "esxi", "-o", folder / "out", status=64)
    assert "out.ova" in done.stderr and not (folder / "out").exists()


def test_kubevirt_is_refused_for_a_guest_without_an_ahci_driver_whatever_is_forced(folder: Path) -> None:
    for more in ((), ("--force",)):
        done = byre("export", folder / "specimen.qcow2", "--to", "kubevirt", *more, status=69, folder=folder)
        assert "0x0000007B" in done.stderr and "Nothing was written" in done.stderr
    assert [path.name for path in folder.iterdir()] == ["specimen.qcow2"]


def test_a_start_that_would_fail_is_said_with_its_stop_and_needs_force(folder: Path) -> None:
    words = [
        "export",
        folder / "specimen.qcow2",
        "--to",
        "vmware",
        "--set",
        "controller=buslogic",
        "-o",
        folder / "x",
    ]
    done = byre(*words, status=69)
    assert "0x0000007B" in done.stderr and "--force" in done.stderr
    assert not (folder / "x").exists()
    assert "0x0000007B" in byre(*words, "--force").stdout
    assert 'scsi0.virtualDev = "buslogic"' in (folder / "x" / "specimen.vmx").read_text()


def test_a_snapshot_is_exported_as_the_disk_was(folder: Path) -> None:
    byre("export", f"{folder / 'specimen.qcow2'}@infected", "--to", "qemu", "-o", folder / "x")
    done = byre("compare", folder / "x" / "specimen.qcow2", f"{folder / 'specimen.qcow2'}@infected")
    assert "the same" in done.stdout
    byre("compare", folder / "x" / "specimen.qcow2", folder / "specimen.qcow2", status=1)


def test_snapshots_go_along_and_come_back(folder: Path) -> None:
    image = folder / "specimen.qcow2"
    byre("export", image, "--to", "libvirt", "--with-snapshots", "-o", folder / "x")
    assert (folder / "x" / "snapshots" / "02.xml").exists()
    payload = byre_json("import", folder / "x" / "specimen.xml", "-o", folder / "y")
    assert payload["disks"][0]["snapshots"] == ["clean", "infected"]
    said = qemu_img("snapshot", "-l", folder / "y" / "specimen.qcow2")
    assert "clean" in said and "infected" in said
    done = byre("compare", f"{folder / 'y' / 'specimen.qcow2'}@clean", f"{image}@clean")
    assert "the same" in done.stdout


def test_virtualbox_gets_an_image_for_each_snapshot_and_all_come_back(folder: Path) -> None:
    image = folder / "specimen.qcow2"
    payload = byre_json("export", image, "--to", "virtualbox", "--with-snapshots", "-o", folder / "x")
    assert payload["form"] == "vbox" and payload["snapshots"] == ["clean", "infected"]
    there = {str(path.relative_to(folder / "x")) for path in (folder / "x").rglob("*") if path.is_file()}
    assert there == set(payload["files"]) and "disks/01-clean.vdi" in there
    back = byre_json("import", folder / "x" / "specimen.vbox", "-o", folder / "y")
    assert back["disks"][0]["snapshots"] == ["clean", "infected"] and back["notes"] == []
    for name in ("", "@clean", "@infected"):
        assert "the same" in byre("compare", f"{folder}/y/specimen.qcow2{name}", f"{image}{name}").stdout


def test_machine_toml_of_an_import_is_what_the_next_export_writes(folder: Path) -> None:
    byre("export", folder / "specimen.qcow2", "--to", "libvirt", "-o", folder / "x", "--set", "memory=200MiB",
         "--set", "nic=pcnet")  # fmt: skip
    byre("import", folder / "x" / "specimen.xml", "-o", folder / "y")
    byre("export", folder / "y" / "specimen.qcow2", "--to", "libvirt", "-o", folder / "z")
    first, second = ((folder / name / "specimen.xml").read_text().splitlines() for name in ("x", "z"))
    differ = [line for line, other in zip(first, second, strict=True) if line != other]
    assert all(word in "".join(differ) for word in ("<uuid>", "<mac ")) and len(differ) == 2
    assert '<memory unit="KiB">204800</memory>' in "\n".join(second) and 'type="pcnet"' in "\n".join(second)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "xen"], "there is no target 'xen'"),
        (["--to", "hyperv", "--form", "ova"], "no form 'ova'"),
        (["--to", "esxi", "--with-snapshots"], "IMAGE@SNAPSHOT"),
        (["--to", "virtualbox", "--form", "ova", "--with-snapshots"], "IMAGE@SNAPSHOT"),
        (["--to", "libvirt", "--vmid", "3"], "--host"),
        (["--to", "libvirt", "--threads", "0"], "1 to 64"),
        (["--to", "libvirt", "--set", "nic=token-ring"], "network"),
    ],
)
def test_requests_that_make_no_sense_are_usage_errors(folder: Path, words: list[str], said: str) -> None:
    done = byre("export", folder / "specimen.qcow2", *words, status=64, folder=folder)
    assert said in done.stderr


def test_nothing_that_is_there_is_replaced(folder: Path) -> None:
    (folder / "x.ova").write_text("mine")
    done = byre("export", folder / "specimen.qcow2", "--to", "esxi", "-o", folder / "x.ova", "--force", status=73)
    assert "-o" in done.stderr and (folder / "x.ova").read_text() == "mine"
    done = byre("export", folder / "specimen.qcow2", "--to", "esxi", "-o", folder / "y.ova")
    assert "VM Network' y.ova vi://" in done.stdout
    (folder / "specimen").mkdir()
    byre("import", folder / "y.ova", folder=folder, status=73)
    byre("import", folder / "y.ova", "--dry-run", "-o", folder / "z")
    assert not (folder / "z").exists()


@pytest.mark.parametrize("name", ["it's; $(id).qcow2", "--help.qcow2", "\u202eevil.qcow2", "...qcow2"])
def test_the_names_of_images_become_harmless_names(folder: Path, name: str) -> None:
    shutil.copyfile(folder / "specimen.qcow2", folder / name)
    done = byre("export", "--to", "proxmox", "--dry-run", "--json", f"./{name}", folder=folder)
    payload = json.loads(done.stdout)
    assert all(part.isascii() and "$" not in part and " " not in part for part in payload["files"])


def test_what_is_no_machine_is_said_to_be_an_image(folder: Path) -> None:
    done = byre("import", folder / "specimen.qcow2", status=69, folder=folder)
    assert "byre convert" in done.stderr
    byre("import", folder / "gone.ova", status=66)

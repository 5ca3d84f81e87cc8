"""Targets: their rules over real files and over facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builders.qemu import qemu_img
from builders.written import write_image
from byre.convert.convert import convert_image
from byre.convert.target_profiles import TARGETS
from byre.convert.target_rules import FileFacts, Target
from byre.convert.targets import target_named, verify, verify_for_target
from byre.disks.formats import format_named
from byre.disks.opening import open_disk
from byre.errors import UsageError

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


def footer(size: int, kind: int = 2) -> bytes:
    made = bytearray(512)
    made[:8] = b"conectix"
    made[48:56] = size.to_bytes(8, "big")
    made[60:64] = kind.to_bytes(4, "big")
    return bytes(made)


def facts(**changes: object) -> FileFacts:
    """A fixed VHD of 10 GiB that Azure takes."""
    size = 10 * GIB
    good = FileFacts(
        name="xp.vhd",
        format="vhd",
        subformat="fixed",
        virtual_size=size,
        sector_size=512,
        file_size=size + 512,
        has_holes=False,
        backing=None,
        data_file=None,
        encrypted=False,
        snapshots=0,
        head=bytes(4096),
        tail=bytes(512) + footer(size),
    )
    return replace(good, **changes)  # type: ignore[arg-type]


def failing(found: FileFacts, target: str) -> set[str]:
    return {result.rule.id for result in verify(found, target_named(target)).having("fail")}


def test_good_azure_file_passes_every_rule() -> None:
    report = verify(facts(), target_named("azure"))
    assert report.passed and report.exit_status == 0


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"format": "vhdx"}, "azure.format"),
        ({"subformat": "dynamic"}, "azure.fixed"),
        ({"virtual_size": 10 * GIB + 512}, "azure.whole-mib"),
        ({"file_size": 10 * GIB}, "azure.footer"),
        ({"tail": bytes(1024)}, "azure.footer"),
        ({"tail": bytes(512) + footer(10 * GIB, 3)}, "azure.footer"),
        ({"virtual_size": 8 * MIB}, "azure.smallest"),
        ({"virtual_size": 33 * TIB}, "azure.largest"),
        ({"name": "xp.img"}, "azure.suffix"),
        ({"sector_size": 4096}, "azure.sectors"),
        ({"backing": "base.vhd"}, "azure.whole"),
        ({"encrypted": True}, "azure.plain"),
    ],
)
def test_each_azure_rule_can_fail(changes: dict[str, object], rule: str) -> None:
    assert rule in failing(facts(**changes), "azure")


def test_size_that_qemu_rounds_to_geometry_fails_for_azure() -> None:
    assert failing(facts(virtual_size=10_737_893_376), "azure") == {"azure.whole-mib"}


def test_unknown_is_neither_pass_nor_fail() -> None:
    report = verify(facts(has_holes=None), target_named("hyperv"))
    assert [result.rule.id for result in report.having("unknown")] == ["hyperv.not-sparse"]
    assert not report.passed and report.exit_status == 1


def test_holes_fail_for_hyperv() -> None:
    assert failing(facts(has_holes=True), "hyperv") == {"hyperv.not-sparse"}


def test_stream_optimized_must_end_with_its_marker_and_be_version_3() -> None:
    head = (b"KDMV" + (3).to_bytes(4, "little")).ljust(4096, b"\0")
    tail = b"KDMV".ljust(512, b"\0") + bytes(512)
    good = facts(name="xp.vmdk", format="vmdk", subformat="streamOptimized", head=head, tail=tail)
    assert failing(good, "esxi") == set()
    assert failing(replace(good, tail=bytes(1024)), "esxi") == {"esxi.end-marker"}
    older = head[:4] + (1).to_bytes(4, "little") + head[8:]
    assert failing(replace(good, head=older), "esxi") == {"esxi.header-version"}
    assert failing(replace(good, subformat="monolithicSparse"), "esxi") == {"esxi.subformat"}


@pytest.mark.oracle
def test_qemu_imgs_stream_optimized_file_is_caught_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"x" * 3 * MIB)
    image = tmp_path / "a.vmdk"
    qemu_img("convert", "-O", "vmdk", "-o", "subformat=streamOptimized", tmp_path / "a.raw", image)
    data = image.read_bytes()
    found = facts(format="vmdk", subformat="streamOptimized", name="a.vmdk", head=data[:4096], tail=data[-1024:])
    assert "esxi.end-marker" in failing(found, "esxi") or data[-1024:-1020] == b"KDMV"


def test_vdi_without_uuid_fails_for_virtualbox() -> None:
    vdi = facts(name="xp.vdi", format="vdi", subformat="dynamic")
    assert failing(vdi, "virtualbox") == {"virtualbox.uuid"}
    head = bytearray(4096)
    head[0x188:0x198] = bytes(range(16))
    assert failing(replace(vdi, head=bytes(head)), "virtualbox") == set()


def test_real_vhdx_for_hyperv_and_for_azure(tmp_path: Path) -> None:
    image = tmp_path / "xp.vhdx"
    write_image(image, "vhdx", {0: b"x"}, 64 * MIB)
    data = image.read_bytes()
    image.write_bytes(data)  # written out whole: no holes
    report = verify_for_target(image, "hyperv")
    assert report.passed, report.having("fail")
    azure = verify_for_target(image, "azure")
    assert azure.exit_status == 2
    assert {"azure.format", "azure.footer"} <= {result.rule.id for result in azure.having("fail")}
    assert azure.as_json()["passed"] is False


def test_differencing_image_is_not_whole_without_its_parent(tmp_path: Path) -> None:
    write_image(tmp_path / "base.vhdx", "vhdx", {}, 4 * MIB)
    options = {"subformat": "differencing", "backing_file": "base.vhdx"}
    write_image(tmp_path / "child.vhdx", "vhdx", {}, 4 * MIB, **options)
    report = verify_for_target(tmp_path / "child.vhdx", "hyperv")
    assert "hyperv.whole" in {result.rule.id for result in report.having("fail")}


def test_every_rule_is_named_after_its_target_and_tells_its_source() -> None:
    seen = set()
    for target in TARGETS:
        assert target.rules
        assert target.format in ("qcow2", "vdi", "vmdk", "vhd", "vhdx")
        for rule in target.rules:
            assert rule.id.startswith(f"{target.name}.")
            assert rule.id not in seen
            assert rule.says and rule.reason and rule.source
            assert rule.checked in ("read", "ran", "unchecked")
            seen.add(rule.id)


def test_every_target_that_the_issue_names_is_there() -> None:
    names = "qemu proxmox virtualbox vmware esxi hyperv azure aws utm kubevirt"
    assert [target.name for target in TARGETS] == names.split()
    with pytest.raises(UsageError) as caught:
        target_named("xen")
    assert "azure" in str(caught.value.expected)


def test_sizes_are_rounded_up_as_the_target_demands() -> None:
    assert target_named("azure").round_size(10 * GIB + 1) == 10 * GIB + MIB
    assert target_named("qemu").round_size(1025) == 1536


def test_options_of_a_target_are_ones_that_its_format_takes() -> None:
    for target in TARGETS:
        assert set(target.options) <= set(format_named(target.format).options), target.name
        assert format_named(target.format).writes


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_made_for_a_target_passes_its_rules(tmp_path: Path, target: Target) -> None:
    raw = tmp_path / "a.raw"
    raw.write_bytes(b"begin".ljust(24 * MIB - 5, b"\0") + b"end")
    image = tmp_path / f"xp{target.suffix}"
    with open_disk(raw) as disk:
        assert target.round_size(disk.size) == disk.size
        convert_image(disk, image, target.format, target.options)
    report = verify_for_target(image, target.name)
    assert report.passed, [(result.rule.id, result.found) for result in report.results if result.verdict != "pass"]

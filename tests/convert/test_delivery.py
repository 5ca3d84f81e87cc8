"""Images made for a place: what is chosen, what is verified, what is refused; and what is said on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.mixture import mixture, write_sparse
from builders.written import write_image
from byre.cli.main import main
from byre.convert.target_profiles import TARGETS
from byre.convert.target_rules import Target
from byre.convert.targets import verify_for_target
from byre.disks.opening import open_disk

SIZE = (21 << 20) + 3 * 512


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sparse(tmp_path_factory.mktemp("raw") / "disk.raw", mixture(SIZE, 11))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_made_for_a_place_keeps_all_its_rules(
    raw: Path, tmp_path: Path, target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"disk{target.suffix}"
    assert main(["convert", str(raw), str(out), "--for", target.name]) == 0
    said = capsys.readouterr().err
    assert verify_for_target(out, target.name).passed
    with open_disk(out) as disk:
        assert disk.size == target.round_size(SIZE)
        assert disk.read(0, SIZE) == raw.read_bytes()
        assert not any(disk.read(SIZE, disk.size - SIZE))
    assert ("bytes of zeros are added" in said) == (target.round_size(SIZE) != SIZE)
    if not target.sparse:
        assert out.stat().st_blocks * 512 >= out.stat().st_size
    assert main(["check", str(out), "--for", target.name]) == 0


def test_a_suffix_that_the_place_takes_decides_the_format(raw: Path, tmp_path: Path) -> None:
    assert main(["convert", str(raw), str(tmp_path / "d.vhd"), "--for", "hyperv"]) == 0
    with open_disk(tmp_path / "d.vhd") as disk:
        assert disk.describe().format == "vhd"
    assert verify_for_target(tmp_path / "d.vhd", "hyperv").passed


def test_a_suffix_that_the_place_does_not_take_is_refused(raw: Path, tmp_path: Path) -> None:
    assert main(["convert", str(raw), str(tmp_path / "d.vhdx"), "--for", "azure"]) == 64
    assert not list(tmp_path.iterdir())


def test_a_broken_rule_leaves_nothing_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = write_sparse(tmp_path / "small.raw", mixture(1 << 20, 12))
    assert main(["convert", str(small), str(tmp_path / "d.vhd"), "--for", "azure"]) == 69
    assert "azure.smallest" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["small.raw"]


def test_check_for_says_each_rule_and_its_reason(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(raw), "--for", "azure"]) == 2
    text = capsys.readouterr().out
    assert "fail    azure.format" in text and "VHDX is not taken" in text and "would not take it" in text
    assert main(["check", str(raw), "--for", "azure", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "byre/check-for/1" and not report["passed"]
    assert {rule["verdict"] for rule in report["rules"]} == {"pass", "fail"}


@pytest.mark.parametrize("format", ["vdi", "vhd", "vhdx", "vmdk"])
def test_keep_uuid_gives_the_copy_the_sources_identity(tmp_path: Path, format: str) -> None:
    key = {"vdi": "uuid", "vhd": "uuid", "vhdx": "disk_guid", "vmdk": "ddb"}[format]
    source, kept, new = (tmp_path / f"{name}.{format}" for name in ("source", "kept", "new"))
    write_image(source, format, b"x" * (4 << 20))
    assert main(["convert", str(source), str(kept), "--keep-uuid"]) == 0
    assert main(["convert", str(source), str(new)]) == 0
    found = []
    for path in (source, kept, new):
        with open_disk(path) as disk:
            value = disk.describe().details[key]
            found.append(value["ddb.uuid"] if isinstance(value, dict) else value)
    assert found[0] == found[1] != found[2]


def test_keep_uuid_is_refused_where_there_is_none(raw: Path, tmp_path: Path) -> None:
    assert main(["convert", str(raw), str(tmp_path / "d.vdi"), "--keep-uuid"]) == 64
    assert main(["convert", str(raw), str(tmp_path / "d.qcow2"), "--keep-uuid"]) == 64
    assert not list(tmp_path.iterdir())


def test_a_header_in_a_file_named_raw_is_said_and_the_format_option_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_image(tmp_path / "disk.img", "vdi", b"x" * (4 << 20))
    assert main(["info", str(path), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["format"] == "vdi"
    assert "there is a vdi header inside" in said.err and "-f raw" in said.err
    assert main(["info", str(path), "--json", "-f", "raw"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["format"] == "raw"
    assert "read as raw, as it was stated" in said.err


def test_a_header_inside_a_raw_backing_image_is_said_and_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_image(tmp_path / "base.raw", "vdi", b"x" * (4 << 20))
    over = tmp_path / "over.qcow2"
    assert main(["create", str(over), "-b", str(base.name), "-F", "raw"]) == 0
    capsys.readouterr()
    assert main(["convert", str(over), str(tmp_path / "out.raw")]) == 0
    assert "as the image above states" in capsys.readouterr().err
    assert (tmp_path / "out.raw").read_bytes() == base.read_bytes()


def test_sectors_of_4096_are_kept_or_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_image(tmp_path / "s.vhdx", "vhdx", b"x" * (4 << 20), sector_size=4096)
    assert main(["convert", str(source), str(tmp_path / "o.vdi")]) == 0
    assert "won't find its partitions" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "o.vhdx")]) == 0
    assert "partitions" not in capsys.readouterr().err
    with open_disk(tmp_path / "o.vhdx") as disk:
        assert disk.sector_size == 4096
    assert main(["convert", str(source), str(tmp_path / "a.vhd"), "--for", "azure", "-o", "subformat=fixed"]) == 69

"""Converting to formats that have UUIDs and parents: what is kept, what is made new, what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from builders.written import write_image
from byre.cli.main import main
from byre.convert.convert import convert_image
from byre.disks.opening import open_disk
from byre.errors import RefusedReferenceError, UsageError

SIZE = 5 << 20


@pytest.mark.parametrize("format", ["vdi", "vhd"])
def test_a_whole_disk_is_not_put_over_a_parent_that_would_show_through(tmp_path: Path, format: str) -> None:
    write_image(tmp_path / f"base.{format}", format, b"a" * SIZE)
    write_image(tmp_path / f"zeros.{format}", format, {}, SIZE)
    with open_disk(tmp_path / f"zeros.{format}") as source, pytest.raises(UsageError):
        convert_image(source, tmp_path / f"out.{format}", format, {"backing_file": f"base.{format}"})
    assert not (tmp_path / f"out.{format}").exists()


@pytest.mark.parametrize("format", ["vdi", "vhd"])
def test_keep_backing_writes_a_child_of_the_same_parent(tmp_path: Path, format: str) -> None:
    data = bytearray(random.Random(1).randbytes(SIZE))
    write_image(tmp_path / f"base.{format}", format, bytes(data))
    data[:512] = b"x" * 512
    data[2 << 20 : 4 << 20] = bytes(2 << 20)
    over = {0: bytes(data[: 1 << 20]), 2 << 20: bytes(2 << 20)}
    child = write_image(
        tmp_path / f"child.{format}", format, over, SIZE, backing_file=f"base.{format}", block_size=1 << 20
    )
    out = tmp_path / f"out.{format}"
    with open_disk(child) as source:
        assert source.read(0, SIZE) == data
        convert_image(source, out, format, {}, keep_backing=True)
        name = source.describe().backing
    with open_disk(out) as disk:
        assert disk.read(0, SIZE) == data
        assert disk.describe().backing == name
    (tmp_path / f"base.{format}").unlink()
    with open_disk(out, with_backing=False) as disk:
        assert disk.read(0, 512) == b"x" * 512


@pytest.mark.parametrize(("format", "leave"), [("vdi", "--parent"), ("qcow2", "--allow-path")])
def test_keep_backing_into_a_subfolder_needs_the_leave_that_reading_it_needs(
    tmp_path: Path, format: str, leave: str
) -> None:
    write_image(tmp_path / f"base.{format}", format, b"a" * SIZE)
    below = {"backing_file": f"base.{format}", **({"backing_format": format} if format == "qcow2" else {})}
    child = write_image(tmp_path / f"child.{format}", format, {0: b"b" * (1 << 20)}, SIZE, **below)
    (tmp_path / "sub").mkdir()
    out = tmp_path / "sub" / f"out.{format}"
    with open_disk(child) as source, pytest.raises(RefusedReferenceError) as caught:
        convert_image(source, out, format, {}, keep_backing=True)
    assert caught.value.found == tmp_path / f"base.{format}" and "--allow-path" in (caught.value.hint or "")
    assert not list(out.parent.iterdir())
    words = [leave, str(tmp_path)]
    assert main(["convert", str(child), str(out), "--keep-backing", *words]) == 0
    assert main(["compare", str(child), str(out), *words]) == 0


@pytest.mark.parametrize(("source_format", "format"), [("vdi", "vdi"), ("vhd", "vhd"), ("vdi", "vhd")])
def test_the_uuid_is_new_unless_it_is_to_be_kept(tmp_path: Path, source_format: str, format: str) -> None:
    path = write_image(tmp_path / f"s.{source_format}", source_format, b"x" * SIZE)
    with open_disk(path) as source:
        own = source.describe().details["uuid"]
        convert_image(source, tmp_path / f"new.{format}", format)
        convert_image(source, tmp_path / f"kept.{format}", format, {"keep_uuid": "on"})
    with open_disk(tmp_path / f"new.{format}") as new, open_disk(tmp_path / f"kept.{format}") as kept:
        assert new.describe().details["uuid"] != own
        assert kept.describe().details["uuid"] == own
        assert kept.read(0, SIZE) == b"x" * SIZE


def test_a_size_rounded_up_to_geometry_reads_zeros_past_the_source(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(SIZE + 1536)
    path = write_image(tmp_path / "s.vdi", "vdi", data)
    with open_disk(path) as source:
        for subformat in ("fixed", "dynamic"):
            options = {"size_rule": "geometry", "subformat": subformat}
            convert_image(source, tmp_path / f"{subformat}.vhd", "vhd", options)
            with open_disk(tmp_path / f"{subformat}.vhd") as disk:
                assert disk.size > len(data)
                assert disk.read(0, disk.size) == data + bytes(disk.size - len(data))

"""slim --boot on machines that really start, or don't: their boot code prints a line of one of the guest's files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import byre as package
from builders.qemu import assert_sound
from builders.stub_machines import needs_sector
from byre.disks.opening import open_disk
from byre.filesystems.opening import open_volumes
from byre.lite.starting import compare_starts
from byre.machine.watch.observation import BootResult, Stop, Verdict
from oracles import require_tool
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
KEPT, LOADED = "/WINDOWS/inf/layout.inf", "/WINDOWS/Temp/setup.log"
"""What slimming leaves alone, and what the profile safe takes."""
QUICK = ("--boot", "--boot-accel", "tcg", "--boot-timeout", "600")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    require_tool("qemu-system-x86_64")
    with tempfile.TemporaryDirectory(prefix="byre", dir="/tmp") as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setenv("BYRE_RUNTIME_DIR", f"{folder}/run")
        monkeypatch.setenv("TMPDIR", folder)
        yield


def machine_that_needs(path: str, folder: Path) -> Path:
    """The specimen, whose boot code needs the first line of a file."""
    image = Path(shutil.copyfile(SPECIMEN, folder / "machine.qcow2"))
    byre("snapshot", "revert", image, "clean")
    with open_disk(image, writable=True) as disk:
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        place = int(files.extents(files.lookup(path))["disk"][0])
        disk.write(0, needs_sector(place // 512))  # type: ignore[attr-defined]
    return image


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.usefixtures("runtime")
def test_a_result_that_starts_is_written(tmp_path: Path) -> None:
    image, out, page = machine_that_needs(KEPT, tmp_path), tmp_path / "out.qcow2", tmp_path / "page.html"
    said = byre_json("slim", image, "-o", out, *QUICK, "--boot-expect", "text:[SourceDisksFiles]", "--report", page)
    assert said["boot"]["outcome"] == "starts" and said["boot"]["image"] is None
    assert said["boot"]["result"]["met"] and "[SourceDisksFiles]" in said["boot"]["sentence"]
    assert_sound(out)
    assert "[SourceDisksFiles]" in page.read_text() and "data:image/png;base64," in page.read_text()


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.usefixtures("runtime")
def test_a_result_that_starts_no_more_is_not_written(tmp_path: Path) -> None:
    image, out = machine_that_needs(LOADED, tmp_path), tmp_path / "out.qcow2"
    before = image.read_bytes()
    words = (*QUICK, "--boot-expect", "text:a temporary file")
    said = byre_json("slim", image, "-o", out, *words, status=1)
    assert said["refused"] and said["boot"]["outcome"] == "worse" and said["output"] is None
    assert said["boot"]["image"]["met"] and not said["boot"]["result"]["met"]
    assert not out.exists() and image.read_bytes() == before
    told = byre("slim", image, "-o", out, *words, status=1).stdout
    assert (
        "boot test: the image starts, and its result doesn't" in told and "refused: the result starts no more" in told
    )


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.usefixtures("runtime")
def test_where_neither_starts_it_is_written_and_told(tmp_path: Path) -> None:
    image, out = machine_that_needs(KEPT, tmp_path), tmp_path / "out.qcow2"
    said = byre_json("slim", image, "-o", out, *QUICK, "--boot-expect", "desktop", status=2)
    assert said["boot"]["outcome"] == "unproven" and said["output"] == str(out)
    assert said["boot"]["image"]["verdict"] == said["boot"]["result"]["verdict"] == "hang"
    assert_sound(out)


@pytest.mark.parametrize(
    "words", [("--dry-run",), ("-o", "x.qcow2", "--boot-expect", "heaven")], ids=["nothing to boot", "no such end"]
)
def test_what_cant_be_tried_is_told_before_any_work(words: tuple[str, ...]) -> None:
    byre("slim", SPECIMEN, "--boot", *words, status=64)
    byre("slim", SPECIMEN, "-o", "x.qcow2", "--boot-timeout", "9", status=64)


def result(kind: str, stage: str, code: int | None = None) -> BootResult:
    stop = Stop(code, ()) if code is not None else None
    met = kind == "desktop"
    return BootResult("x", "m", "qemu", "tcg", 9, "desktop", met, Verdict(kind, stage, f"a {kind}", stop=stop), ())


@pytest.mark.parametrize(
    ("before", "after", "outcome"),
    [
        (("stop", "kernel", 0x7B), ("desktop", "desktop", None), "starts"),
        (("desktop", "desktop", None), ("stop", "kernel", 0x7B), "worse"),
        (("desktop", "desktop", None), ("timeout", "desktop", None), "worse"),
        (("stop", "kernel", 0x7B), ("stop", "kernel", 0x7B), "unproven"),
        (("stop", "kernel", 0x7B), ("stop", "kernel", 0x50), "worse"),
        (("stop", "kernel", 0x7B), ("message", "loader", None), "worse"),
        (("message", "loader", None), ("stop", "kernel", 0x7B), "unproven"),
        (("hang", "logon", None), ("timeout", "logon", None), "worse"),
    ],
)
def test_two_boots_held_against_each_other(
    before: tuple[str, str, int | None], after: tuple[str, str, int | None], outcome: str
) -> None:
    proof = compare_starts(result(*after), result(*before))
    assert proof.outcome == outcome
    assert f"a {after[0]}" in proof.sentence

"""ISO 9660 against genisoimage and xorriso."""

from __future__ import annotations

from pathlib import Path

import pytest

import byre
from builders.opened import kept_open
from byre.filesystems import FileSystem, open_filesystem
from byre.filesystems.iso9660 import Iso9660FileSystem
from byre.volumes import whole
from oracles import run_tool

pytestmark = pytest.mark.oracle


def master(tree: Path, image: Path, *options: str) -> Path:
    run_tool("genisoimage", "-quiet", "-V", "BYRE_DISC", *options, "-o", image, tree)
    return image


def open_image(image: Path) -> FileSystem:
    return open_filesystem(kept_open(byre.open_disk(image, format="raw")))


def contents(fs: FileSystem) -> dict[str, bytes]:
    return {entry.path: fs.read(entry) for entry in fs.walk() if not entry.is_dir}


def wanted(tree: Path) -> dict[str, bytes]:
    return {
        "/" + str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize(
    ("options", "names"), [(("-J",), "joliet"), (("-R",), "rockridge"), (("-J", "-R"), "joliet")]
)
def test_long_names_and_bytes(source_tree: Path, tmp_path: Path, options: tuple[str, ...], names: str) -> None:
    fs = open_image(master(source_tree, tmp_path / "disc.iso", *options))
    assert contents(fs) == wanted(source_tree)
    facts = fs.facts()
    assert (facts.label, facts.details["names"], facts.free) == ("BYRE_DISC", names, 0)
    assert not fs.problems


def test_plain_names_lose_their_versions(source_tree: Path, tmp_path: Path) -> None:
    fs = open_image(master(source_tree, tmp_path / "disc.iso", "-iso-level", "2"))
    assert {"/SETUP.EXE", "/EMPTY.TXT", "/I386/TXTSETUP.SIF"} <= set(contents(fs))
    assert fs.read(fs.lookup("D:\\i386\\txtsetup.sif")).startswith(b"[SourceDisksFiles]")


def test_names_can_be_chosen(source_tree: Path, tmp_path: Path) -> None:
    disk = kept_open(byre.open_disk(master(source_tree, tmp_path / "disc.iso", "-J", "-R"), format="raw"))
    assert Iso9660FileSystem(whole(disk), names="rockridge").names == "rockridge"
    plain = Iso9660FileSystem(whole(disk), names="plain")
    assert plain.lookup("/SETUP.EXE").size == 25_600


def test_el_torito_boot_image(source_tree: Path, tmp_path: Path) -> None:
    options = ("-b", "boot.bin", "-no-emul-boot", "-boot-load-size", "4", "-c", "boot.cat", "-J")
    image = master(source_tree, tmp_path / "boot.iso", *options)
    fs = open_image(image)
    assert isinstance(fs, Iso9660FileSystem)
    [boot] = fs.boot_images
    assert (boot.platform, boot.bootable, boot.media, boot.length) == ("x86", True, "no-emulation", 2048)
    assert boot.offset == int(fs.extents(fs.lookup("/boot.bin"))["disk"][0])


def test_links_and_deep_directories_of_rock_ridge(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    deep = tree.joinpath(*"abcdef")
    deep.mkdir(parents=True)
    (deep / "bottom.txt").write_bytes(b"bottom")
    (tree / ("n" * 200)).write_bytes(b"long")
    (tree / "link").symlink_to("a/b/../b/c")
    image = tmp_path / "rock.iso"
    run_tool("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", image, tree)
    fs = open_image(image)
    link = fs.lookup("/link")
    assert link.reparse is not None and link.reparse.target == "a/b/../b/c"
    assert fs.read(fs.lookup("/a/b/c/d/e/f/bottom.txt")) == b"bottom"
    assert fs.lookup("/" + "N" * 200).size == 4

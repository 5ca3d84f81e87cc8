"""Random FAT volumes, randomly changed: a dictionary, fsck.fat, The Sleuth Kit and mtools agree on the outcome."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.changed_volumes import change, holds, reading
from builders.random_trees import Item, Plan, Tree, crowd, edits, options, place_of, trees
from oracles import run_tool

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

KINDS = ("folder", "folder", "file", "file", "file", "crowd")
SIZES = {12: 4 << 20, 16: 16 << 20, 32: 36 << 20}


def _build(image: Path, bits: int, items: list[Item]) -> Plan:
    """A volume with the items in it, copied there by mtools; the plan that starts from there."""
    plan = Plan(Tree())
    source = image.with_suffix(".files")
    source.mkdir()
    for item in items:
        path = place_of(plan.tree, item, sensitive=False)
        if path is None:
            continue
        here = Path(f"{source}{path}")
        if item.kind == "file":
            here.write_bytes(item.data())
            plan.tree.add(path, item.data())
            continue
        here.mkdir()
        plan.tree.add(path, None)
        for name, data in crowd(item, path, 120) if item.kind == "crowd" else ():
            Path(f"{source}{name}").write_bytes(data)
            plan.tree.add(name, data)
    with image.open("wb") as file:
        file.truncate(SIZES[bits])
    run_tool("mkfs.fat", "-F", str(bits), *(("-s", "1") if bits == 32 else ()), image)
    for number in range(9):
        (source / f"filler {number}").write_bytes(bytes(9000))
    _mtools("mcopy", image, "-s", *sorted(source.glob("filler*")), "::/")
    for number in range(0, 9, 2):
        (source / f"filler {number}").unlink()
    _mtools("mdel", image, *(f"::/filler {number}" for number in range(9)))
    rest = [each for each in sorted(source.iterdir()) if not each.name.startswith("filler")]
    if rest:
        _mtools("mcopy", image, "-s", "-D", "s", *rest, "::/", status=None)  # what clashes is left out
    shutil.rmtree(source)
    plan.tree = Tree()  # as it is there: mtools writes a few letters in a way of its own
    for path, data in holds(image).items():
        plan.tree.add(path, data)
    with reading(image) as files:
        for entry in files.walk():
            if entry.short_name:
                plan.aliases[entry.path] = f"{entry.path.rpartition('/')[0]}/{entry.short_name}"
            if entry.size:
                plan.plain.add(entry.path)
    return plan


def _mtools(command: str, image: Path, *arguments: str | Path, status: int | None = 0) -> None:
    """With names as UTF-8 whatever the shell has set."""
    before = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = "C.UTF-8"
    try:
        run_tool(command, "-i", image, *arguments, status=status)
    finally:
        os.environ.pop("LC_ALL")
        if before is not None:
            os.environ["LC_ALL"] = before


def _by_fls(path: str) -> str:
    """As The Sleuth Kit shows it: what isn't ASCII in a short name as "^", and the longest names cut off."""
    return "/".join("".join(each if each.isascii() else "^" for each in name)[:200] for name in path.split("/"))


def _judge(image: Path, tree: Tree, folder: Path) -> None:
    wanted = tree.holds()
    assert holds(image) == wanted
    run_tool("fsck.fat", "-n", image)  # exit status 1 where there is anything to mend
    rows = [row.split("\t", 1)[1] for row in run_tool("fls", "-r", "-p", "-u", image).splitlines() if "\t" in row]
    rows = [f"/{name}" for name in rows if not name.startswith("$") and "Volume Label" not in name]
    assert sorted(map(_by_fls, rows)) == sorted(map(_by_fls, wanted))
    if wanted:
        out = folder / "copied"
        out.mkdir()
        _mtools("mcopy", image, "-s", "-n", "::/*", out)
        copied = sorted(each.read_bytes() for each in out.rglob("*") if each.is_file())
        assert copied == sorted(data for data in wanted.values() if data is not None)
        shutil.rmtree(out)


@options(8)
@given(st.sampled_from(sorted(SIZES)), trees(KINDS), edits())
def test_what_is_left_is_what_a_dictionary_would_hold(
    tmp_path_factory: pytest.TempPathFactory, bits: int, items: list[Item], asked: list[Item]
) -> None:
    folder = tmp_path_factory.mktemp("case")
    image, out = folder / "volume.img", folder / "out.img"
    plan = _build(image, bits, items)
    for each in asked:
        plan.take(each)
    change(image, plan.changes, out)
    _judge(out, plan.tree, folder)
    image.unlink()
    out.unlink()

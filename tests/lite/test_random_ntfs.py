"""Random NTFS volumes, randomly changed: a dictionary, The Sleuth Kit, ntfs-3g and our check agree on the outcome."""

from __future__ import annotations

import errno
import os
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given

from builders.changed_volumes import change, holds, reading
from builders.ntfs_volumes import mkntfs, mounted, need, set_attributes, text_like
from builders.random_trees import Item, Plan, Tree, crowd, edits, options, place_of, trees
from oracles import run_tool

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

KINDS = ("folder", "folder", "file", "file", "compressed", "sparse", "streams", "link", "short", "junction", "crowd")


def _build(image: Path, items: list[Item]) -> Plan:
    """A volume with the items in it; the plan that starts from there."""
    mkntfs(image, 12 << 20)
    plan = Plan(Tree(), sensitive=True)
    with mounted(image) as root:
        for item in items:
            path = place_of(plan.tree, item, sensitive=True)
            if path is not None:
                _make(plan, item, path, root)
    return plan


def _make(plan: Plan, item: Item, path: str, root: Path) -> None:
    tree = plan.tree
    here = Path(f"{root}{path}")
    files = [each for each in tree.files() if each not in tree.points]
    match item.kind:
        case "folder" | "crowd":
            here.mkdir()
            tree.add(path, None)
            for name, data in crowd(item, path, 120) if item.kind == "crowd" else ():
                Path(f"{root}{name}").write_bytes(data)
                tree.add(name, data)
        case "link" if files:
            first = files[item.size % len(files)]
            here.hardlink_to(f"{root}{first}")
            tree.names[path] = tree.names[first]
            plan.plain.discard(first)
        case "junction":
            here.mkdir()
            target = "\\??\\C:\\WINDOWS".encode("utf-16-le")
            body = struct.pack("<HHHH", 0, len(target), len(target) + 2, 0) + target + bytes(4)
            os.setxattr(here, "system.ntfs_reparse_data", struct.pack("<IHH", 0xA0000003, len(body), 0) + body)
            tree.add(path, None)
            tree.points.add(path)
        case _:
            _make_file(plan, item, path, here)


def _make_file(plan: Plan, item: Item, path: str, here: Path) -> None:
    data = item.data()
    if item.kind == "compressed":
        here.touch()
        set_attributes(here, 0x820)
        data = text_like(random.Random(item.seed), len(data))
        here.write_bytes(data)
    elif item.kind == "sparse":
        with here.open("wb") as file:
            for number in range(40):
                file.seek(number * 8192)
                file.write(data[:100])
            file.truncate(400_000)
        data = here.read_bytes()
    else:
        here.write_bytes(data)
        plan.plain.add(path)
    number = plan.tree.add(path, data)
    assert number is not None
    if item.kind == "streams":
        for name, more in (("note", b"short"), ("Long Stream Name", data[:9000])):
            Path(f"{here}:{name}").write_bytes(more)
            plan.tree.streams[number, name] = more
    if item.kind == "short":
        short = f"SHORT~{item.seed % 10}.{item.size % 100}"
        typed = f"{path.rpartition('/')[0]}/{short}"
        if not any(each.upper() == typed.upper() for each in (*plan.tree.names, *plan.aliases.values())):
            try:
                os.setxattr(here, "system.ntfs_dos_name", short.encode())
            except OSError as error:  # ntfs-3g gives none to a file that is called like one of DOS's devices
                assert error.errno == errno.EINVAL
            else:
                plan.aliases[path] = typed


def _judge(image: Path, tree: Tree, folder: Path) -> None:
    wanted = tree.holds()
    assert holds(image) == wanted
    with reading(image) as files:
        for path, number in tree.names.items():
            if number is None:
                continue
            entry = files.lookup(path)
            streams = {each.name: files.read(entry, each.name) for each in entry.streams}
            assert streams == {name: data for (owner, name), data in tree.streams.items() if owner == number}
        assert {entry.path for entry in files.walk() if entry.reparse} == tree.points
    run_tool("ntfsfix", "-n", image)
    rows = run_tool("fls", "-r", "-p", "-u", image).splitlines()
    names = {"/" + row.split("\t", 1)[1] for row in rows if "\t" in row and not row.split("\t", 1)[1].startswith("$")}
    assert {name for name in names if ":" not in name} == set(tree.names)
    with mounted(image) as root:
        for path, data in wanted.items():
            here = Path(f"{root}{path}")
            assert here.is_dir() if data is None else here.read_bytes() == data, path
        assert sum(len(each[1]) + len(each[2]) for each in os.walk(root)) == len(tree.names)


@options(10)
@given(trees(KINDS), edits())
def test_what_is_left_is_what_a_dictionary_would_hold(
    tmp_path_factory: pytest.TempPathFactory, items: list[Item], asked: list[Item]
) -> None:
    need("mkntfs", "ntfs-3g", "fls", "ntfsfix")
    folder = tmp_path_factory.mktemp("case")
    image, out = folder / "volume.img", folder / "out.img"
    plan = _build(image, items)
    for each in asked:
        plan.take(each)
    change(image, plan.changes, out)
    _judge(out, plan.tree, folder)
    image.unlink()
    out.unlink()

"""docs/architecture.md is true: the rooms are those of the tree, and imports point the way it draws."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import byre

PACKAGE = Path(byre.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "samples" / "__init__.py")

PROGRAMS = {PACKAGE / "lite" / "ntfs_helper.py"}
"""Programs of their own, started by a module and never imported."""
STARTERS = {
    "lite/ntfs_program.py": "our own NTFS helper, apart for its safety",
    "lite/fat_reader.py": "fsck.fat, where it is installed, as a second reader of what we changed",
    "machine/qemu/process.py": "QEMU",
}


def drawn_rooms() -> list[str]:
    """The rooms in the order of the page, lowest first."""
    block = PAGE.read_text().split("## Rooms", 1)[1].split("```")[1]
    return [match[1] for line in block.splitlines() if (match := re.match(r"(\w+)(?:\.py|/) ", line))]


def room_of(dotted: str) -> str:
    """``byre.disks.raw`` -> ``disks``; the package itself and its entry point are no rooms."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of our own, also those inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "byre")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            if node.module and node.module.split(".")[0] == "byre":
                for alias in node.names:
                    below = PACKAGE.joinpath(*node.module.split(".")[1:], alias.name)
                    whole = below.is_dir() or below.with_suffix(".py").exists()
                    yield node.lineno, f"{node.module}.{alias.name}" if whole else node.module


def test_the_rooms_are_those_of_the_tree() -> None:
    there = {
        path.stem if path.is_file() else path.name
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or path.is_dir()) and not path.name.startswith("__")
    }
    drawn = drawn_rooms()
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == there, "docs/architecture.md, 'Rooms': add or remove the line, at the height of its imports"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_rooms_drawn_above(path: Path) -> None:
    order = {room: height for height, room in enumerate(drawn_rooms())}
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own.startswith("__"):
        return
    for line, name in imports(path):
        room = room_of(name)
        if room:
            assert order[room] <= order[own], f"{path.relative_to(PACKAGE)}:{line} imports {name} from below"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] in ("cli", "__main__.py") or path in PROGRAMS:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "exit", "quit", "sys.exit", "os._exit"), f"{path}:{node.lineno}: {called}"


def test_no_other_program_is_started() -> None:
    """The promise of the README's first lines. What starts one is named here, with the program."""
    for path in MODULES:
        if str(path.relative_to(PACKAGE)) in STARTERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"subprocess", "pty"} & set(names), f"{path}:{node.lineno}"


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`([a-z0-9_]+/[a-z0-9_/]+\.py)`", PAGE.read_text()):
        root = PAGE.parents[1] if name.startswith("tests/") else PACKAGE
        assert (root / name).exists(), name


def test_the_modules_of_qcow2_that_the_page_names_are_there() -> None:
    section = PAGE.read_text().split("## qcow2, inside")[1].split("##")[0]
    stems = {path.stem for path in (PACKAGE / "disks" / "qcow2").iterdir()}
    for name in re.findall(r"`([a-z_0-9]+)`", section):
        assert any(stem.startswith(name) for stem in stems), name

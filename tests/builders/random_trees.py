"""Trees of files that hypothesis makes up, a dictionary that knows what is in them, and random changes to both."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from byre.filesystems.capitals import capitals
from byre.lite.changes import Change, Content, MakeFolder, Overwrite, Put, Remove

VARIANTS = (
    "a",
    "A",
    "STRASSE",
    "straße",
    "Straße",
    "strasse",
    "ARATHE~1.TEX",
    "A rather long name.text",
    "PROGRA~1",
    "Program Files",
    "fin",
    "ﬁn",
    "ÿ",
    "Ÿ",
)
"""Names that tell a careless comparison from a careful one: case, capitals of other lengths, 8.3 clashes."""

NAMES = (
    "readme.txt",
    "µ",
    "ı",
    "i",
    "日本語.txt",
    "emoji 😀",
    "several.dots.in it.tar.gz",
    ".hidden",
    "with space",
    "plus+comma,[x];=",
    "x" * 255,
    "ünï" * 40,
    "con fig",
    "file.longext",
    "FILE~1.LON",
    "mixedCase.Txt",
    "UPPER.low",
)

_NUMBER = st.one_of(st.integers(0, 3), st.integers(0, 2**16))
SIZES = (0, 1, 4, 300, 690, 760, 4095, 4096, 4097, 20_000, 70_001, 200_000)


def options(cases: int) -> settings:
    """So many cases, or ``BYRE_CHANGE_CASES``. A case runs programs for a second: what fails isn't made smaller, but
    for ``BYRE_CHANGE_SHRINK``, since that takes minutes."""
    phases = list(Phase) if os.environ.get("BYRE_CHANGE_SHRINK") else [Phase.explicit, Phase.generate]
    return settings(
        max_examples=int(os.environ.get("BYRE_CHANGE_CASES") or cases),
        phases=phases,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )


@dataclass
class Tree:
    """What a volume holds. ``names``: path to the number of a file, None for a folder, so that hard links share one;
    ``points`` are paths of reparse points. Paths as in byre."""

    names: dict[str, int | None] = field(default_factory=dict)
    bytes: dict[int, bytes] = field(default_factory=dict)
    streams: dict[tuple[int, str], bytes] = field(default_factory=dict)
    points: set[str] = field(default_factory=set)

    def copy(self) -> Tree:
        return Tree(dict(self.names), dict(self.bytes), dict(self.streams), set(self.points))

    def folders(self) -> list[str]:
        return ["", *(path for path, number in self.names.items() if number is None and path not in self.points)]

    def files(self) -> list[str]:
        return [path for path, number in self.names.items() if number is not None]

    def holds(self) -> dict[str, bytes | None]:
        """Every path but reparse points with its bytes, None for a folder."""
        return {
            path: None if number is None else self.bytes[number]
            for path, number in self.names.items()
            if path not in self.points
        }

    def add(self, path: str, data: bytes | None) -> int | None:
        if data is None:
            self.names[path] = None
            return None
        number = max(self.bytes, default=0) + 1
        self.names[path] = number
        self.bytes[number] = data
        return number

    def remove(self, path: str) -> None:
        for each in [name for name in self.names if name == path or name.startswith(path + "/")]:
            del self.names[each]
            self.points.discard(each)


@dataclass(frozen=True)
class Item:
    """One thing to be made in a volume: ``kind`` says which, ``folder`` and ``size`` choose by remainder."""

    kind: str
    folder: int
    name: str
    size: int
    seed: int

    def data(self) -> bytes:
        return random.Random(self.seed).randbytes(SIZES[self.size % len(SIZES)])


def _names(pool: Sequence[str]) -> st.SearchStrategy[str]:
    letters = st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_characters='\\/:*?"<>|\x7f')
    odd = st.text(letters, min_size=1, max_size=20).filter(_usable)
    return st.one_of(st.sampled_from(VARIANTS), st.sampled_from(VARIANTS), st.sampled_from(pool), odd)


def _usable(name: str) -> bool:
    return name[-1] not in " ." and name not in (".", "..") and not any(0x7F <= ord(each) < 0xA0 for each in name)


def trees(kinds: Sequence[str], *, names: Sequence[str] = NAMES, most: int = 40) -> st.SearchStrategy[list[Item]]:
    number = _NUMBER
    item = st.builds(Item, st.sampled_from(kinds), number, _names(names), number, number)
    return st.lists(item, min_size=12, max_size=most)


def edits(*, names: Sequence[str] = NAMES, most: int = 24) -> st.SearchStrategy[list[Item]]:
    number = _NUMBER
    kinds = ("remove", "remove", "remove", "put", "put", "put over", "folder", "overwrite", "alias")
    item = st.builds(Item, st.sampled_from(kinds), number, _names(names), number, number)
    return st.lists(item, min_size=6, max_size=most)


@dataclass
class Plan:
    """Random edits as changes that can be made, and the tree as it is afterwards. ``aliases``: path to the short
    path by which the volume knows it as well."""

    tree: Tree
    aliases: dict[str, str] = field(default_factory=dict)
    sensitive: bool = False
    """Whether names that differ in case alone are two."""
    changes: list[Change] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)

    def take(self, item: Item) -> None:
        """Add the change that an edit stands for, if there is one."""
        match item.kind:
            case "remove" | "alias":
                self._remove(item, short=item.kind == "alias")
            case "put":
                self._new(item, item.data())
            case "folder":
                self._new(item, None)
            case "put over":
                self._put_over(item)
            case "overwrite":
                self._overwrite(item)

    def _remove(self, item: Item, *, short: bool) -> None:
        there = [path for path in self.tree.names if not any(f"{new}/".startswith(f"{path}/") for new in self.made)]
        if not there:
            return
        path = there[item.size % len(there)]
        self.changes.append(Remove(self.aliases.get(path, path) if short else path))
        self.tree.remove(path)

    def _new(self, item: Item, data: bytes | None) -> None:
        folder = _pick(self.tree.folders(), item.folder)
        path = f"{folder}/{item.name}"
        if self._clashes(path):
            return
        self.tree.add(path, data)
        self.made.add(path)
        above = self.aliases.get(folder, folder) if item.seed % 2 else folder
        typed = f"{above}/{item.name}"
        self.changes.append(MakeFolder(typed) if data is None else Put(typed, Content.of(data)))

    def _clashes(self, path: str) -> bool:
        known = {*self.tree.names, *self.aliases.values()}
        return folded(path) in {folded(each) for each in known}

    def _put_over(self, item: Item) -> None:
        there = [path for path in self.tree.files() if path not in self.made and path not in self.tree.points]
        if not there:
            return
        path = there[item.folder % len(there)]
        number = self.tree.names[path]
        assert number is not None
        self.tree.bytes[number] = item.data()
        self.touched.add(path)
        self.changes.append(Put(path, Content.of(item.data())))

    def _overwrite(self, item: Item) -> None:
        """Only of a file that nothing else touches: overwriting comes before everything else."""
        there = [path for path in self.tree.files() if path not in self.made | self.touched | self.tree.points]
        plain = [path for path in there if self.overwritable(path)]
        if not plain:
            return
        path = plain[item.folder % len(plain)]
        number = self.tree.names[path]
        assert number is not None
        data = random.Random(item.seed).randbytes(len(self.tree.bytes[number]))
        self.tree.bytes[number] = data
        self.changes.append(Overwrite(path, data))

    def overwritable(self, path: str) -> bool:
        number = self.tree.names[path]
        links = sum(each == number for each in self.tree.names.values())
        return number is not None and len(self.tree.bytes[number]) > 1024 and links == 1 and path in self.plain

    plain: set[str] = field(default_factory=set)
    """Files whose bytes lie on the disk as they are."""


def folded(path: str) -> str:
    """A path in capitals, as Windows has them. That these are Windows' is held against mkntfs's table elsewhere."""
    return capitals(path)


def _pick(listed: list[str], number: int) -> str:
    return listed[number % len(listed)]


def place_of(tree: Tree, item: Item, *, sensitive: bool) -> str | None:
    """Where an item is made; None where the name is taken."""
    folder = _pick(tree.folders(), item.folder)
    path = f"{folder}/{item.name}"
    taken = tree.names if sensitive else {folded(each) for each in tree.names}
    return None if (path if sensitive else folded(path)) in taken or path.count("/") > 6 else path


def crowd(item: Item, path: str, count: int) -> Iterator[tuple[str, bytes]]:
    """Names enough to split a folder's index."""
    for number in range(count):
        yield f"{path}/{item.name[:20]} {number:04}.dat", str(number).encode()

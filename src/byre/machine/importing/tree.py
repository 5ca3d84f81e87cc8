"""XML from strangers, read by expat into a small tree: no entities but XML's own, nothing external, all capped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from byre.errors import CorruptImageError, UnsupportedError
from byre.windows.guarded_xml import SEPARATOR, feed_xml

MAX_BYTES = 4 << 20
MAX_ELEMENTS = 100_000
MAX_DEPTH = 100


@dataclass(slots=True)
class Node:
    """An element. Names are local ones; ``namespace`` its address. Mutable while it is built."""

    tag: str
    namespace: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        return self.attributes.get(name)

    def find(self, path: str) -> Node | None:
        return next(self.all(path), None)

    def all(self, path: str) -> Iterator[Node]:
        """Every element at ``a/b/c`` below this one, in order."""
        first, _, rest = path.partition("/")
        for child in self.children:
            if child.tag == first:
                if rest:
                    yield from child.all(rest)
                else:
                    yield child

    def text_at(self, path: str) -> str | None:
        found = self.find(path)
        return None if found is None else found.text.strip()

    def attribute_at(self, path: str, name: str) -> str | None:
        found = self.find(path)
        return None if found is None else found.get(name)


def parse_xml(data: bytes, *, path: str) -> Node:
    """The root of a document. Raises CorruptImageError, UnsupportedError."""
    if len(data) > MAX_BYTES:
        raise UnsupportedError("the description is too large", path=path, expected=f"at most {MAX_BYTES} bytes")
    return _Builder(path).build(data)


class _Builder:
    """Expat's handlers. Mutable: the open elements."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._root = Node("", "", {})
        self._open = [self._root]
        self._count = 0

    def build(self, data: bytes) -> Node:
        try:
            feed_xml(data, self)
        except expat.ExpatError as error:
            raise CorruptImageError(
                f"isn't well-formed XML: {expat.errors.messages[error.code]}",
                path=self._path,
                found=f"line {error.lineno}",
            ) from error
        except (ValueError, LookupError) as error:  # an encoding that nobody knows
            raise CorruptImageError("isn't XML in an encoding that can be read", path=self._path) from error
        return self._root.children[0]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) > MAX_DEPTH:
            raise UnsupportedError("the description has too many elements", path=self._path)
        namespace, _, tag = name.rpartition(SEPARATOR)
        plain: dict[str, str] = {}
        for key, value in attributes.items():
            plain.setdefault(key.rpartition(SEPARATOR)[2], value)
        node = Node(tag, namespace, plain)
        self._open[-1].children.append(node)
        self._open.append(node)

    def end(self, name: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        self._open[-1].text += data

    def refuse(self, *_: object) -> NoReturn:
        raise UnsupportedError(
            "has a document type or entities of its own, which no machine needs and attacks do",
            path=self._path,
            hint="Remove the <!DOCTYPE ...> from it, if you trust where it is from.",
        )

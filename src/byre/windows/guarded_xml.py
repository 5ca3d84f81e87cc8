"""XML that an attacker may have written, read without what XML can do beyond elements and text."""

from __future__ import annotations

from typing import NoReturn, Protocol
from xml.parsers import expat

SEPARATOR = "}"
"""Stands between a namespace and a name, as no name can hold it."""


class XmlHandler(Protocol):
    """What is told of a document as it goes by. Any of them may raise, which ends the reading."""

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, data: str) -> None: ...

    def refuse(self, *_: object) -> NoReturn:
        """A document type or an entity was declared or named: raises, for neither is ever followed."""


def feed_xml(data: bytes, handler: XmlHandler) -> None:
    """Tell the handler of the document in ``data``, names as ``namespace}name``.

    Raises what the handler does, and expat's own: ExpatError for what isn't well-formed, ValueError and LookupError
    for an encoding that nobody knows.
    """
    parser = expat.ParserCreate(namespace_separator=SEPARATOR)
    parser.buffer_text = True
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = handler.refuse
    parser.EntityDeclHandler = handler.refuse
    parser.ExternalEntityRefHandler = handler.refuse
    parser.Parse(data, True)

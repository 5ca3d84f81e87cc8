"""Scheduled tasks of Vista and later: XML files below ``system32\\Tasks``. Pure.

Source: [MS-TSCH] 2.5, "Task Definition Schema". The parser is the standard library's expat, with every document type
refused: without one there are no entities to expand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from byre.errors import CorruptImageError
from byre.windows.guarded_xml import SEPARATOR, feed_xml

MAX_TASK = 1 << 20
MAX_DEPTH = 32
MAX_TEXT = 32768
MAX_ACTIONS = 64
"""Windows itself takes 32 actions and 48 triggers."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a task runs: a program with its arguments, or (``class_id``) the server of a COM class."""

    command: str = ""
    arguments: str = ""
    class_id: str = ""


@dataclass(frozen=True, slots=True)
class XmlTask:
    """One task. ``triggers`` are the schema's names without ``Trigger``: ``Logon``, ``Boot``, ``Calendar``, …;
    those that are switched off are left out."""

    author: str
    user: str
    enabled: bool
    hidden: bool
    triggers: tuple[str, ...]
    actions: tuple[Action, ...]


def parse_xml_task(data: bytes, *, path: str) -> XmlTask:
    """The task in an XML file. Raises CorruptImageError."""
    if len(data) > MAX_TASK:
        raise CorruptImageError("the task is too large", path=path, found=len(data), expected=f"at most {MAX_TASK}")
    reader = _Reader(path)
    try:
        feed_xml(data, reader)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise CorruptImageError(f"the task isn't well-formed XML: {error}", path=path) from error
    if not reader.is_task:
        raise CorruptImageError("the XML isn't a task", path=path)
    return reader.task()


@dataclass(slots=True)
class _Reader:
    """Gathers a task's texts while expat goes by. Mutable: it knows where it is."""

    path: str
    is_task: bool = False
    texts: dict[str, str] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list)
    _size: int = 0
    _action: dict[str, str] = field(default_factory=dict)
    _trigger_on: bool = True

    def refuse(self, *_: object) -> NoReturn:
        raise CorruptImageError("the task declares a document type, which no task does", path=self.path)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._names.append(name.rpartition(SEPARATOR)[2])
        if len(self._names) > MAX_DEPTH:
            raise CorruptImageError("the task's XML is nested too deep", path=self.path)
        self._parts, self._size = [], 0
        if len(self._names) == 1:
            self.is_task = self._names[0] == "Task"
        elif len(self._names) == 3:
            self._action, self._trigger_on = {}, True

    def text(self, data: str) -> None:
        if self._size < MAX_TEXT:
            self._parts.append(data[: MAX_TEXT - self._size])
            self._size += len(data)

    def end(self, _: str) -> None:
        below = "/".join(self._names[1:])
        text = "".join(self._parts).strip()
        self._parts, self._size = [], 0
        group = self._names[1] if len(self._names) > 1 else ""
        if len(self._names) == 4 and group == "Actions":
            self._action[self._names[3]] = text
        elif len(self._names) == 4 and group == "Triggers" and self._names[3] == "Enabled":
            self._trigger_on = text.lower() not in ("false", "0")
        elif len(self._names) == 3 and group == "Actions" and len(self.actions) < MAX_ACTIONS:
            self._end_action(self._names[2])
        elif len(self._names) == 3 and group == "Triggers" and len(self.triggers) < MAX_ACTIONS:
            if self._trigger_on:
                self.triggers.append(self._names[2].removesuffix("Trigger"))
        elif below in _TEXTS:
            self.texts.setdefault(below, text)
        self._names.pop()

    def _end_action(self, kind: str) -> None:
        known = self._action
        if kind == "Exec":
            self.actions.append(Action(known.get("Command", ""), known.get("Arguments", "")))
        elif kind == "ComHandler":
            self.actions.append(Action(class_id=known.get("ClassId", "")))

    def task(self) -> XmlTask:
        def is_on(name: str, default: str) -> bool:
            return self.texts.get(name, default).lower() in ("true", "1")

        principal = self.texts.get("Principals/Principal/UserId") or self.texts.get("Principals/Principal/GroupId")
        return XmlTask(
            author=self.texts.get("RegistrationInfo/Author", ""),
            user=principal or "",
            enabled=is_on("Settings/Enabled", "true"),
            hidden=is_on("Settings/Hidden", "false"),
            triggers=tuple(self.triggers),
            actions=tuple(self.actions),
        )


_TEXTS = frozenset(
    {
        "RegistrationInfo/Author",
        "Principals/Principal/UserId",
        "Principals/Principal/GroupId",
        "Settings/Enabled",
        "Settings/Hidden",
    }
)

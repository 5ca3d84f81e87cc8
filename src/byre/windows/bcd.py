"""Boot configuration data of Vista and later: a hive of objects with numbered elements.

Source: Microsoft's "BCD reference" (element types, boot manager and OS loader objects).
"""

from __future__ import annotations

from dataclasses import dataclass

from byre.windows.registry import Hive, Key, Value

BOOT_MANAGER = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
OS_LOADER_TYPE = 0x10200003
_APPLICATION_PATH, _DESCRIPTION, _SYSTEM_ROOT = "12000002", "12000004", "22000002"
_DEFAULT, _DISPLAY_ORDER, _TIMEOUT = "23000003", "24000001", "25000004"
MAX_OBJECTS = 1000


@dataclass(frozen=True, slots=True)
class BcdEntry:
    """One system that the boot manager can start. ``path`` is its loader, ``folder`` the Windows folder."""

    id: str
    title: str | None
    path: str | None
    folder: str | None


@dataclass(frozen=True, slots=True)
class Bcd:
    """``timeout`` in seconds; ``default`` the id of the entry that starts when nobody touches a key."""

    timeout: int | None
    default: str | None
    order: tuple[str, ...]
    entries: tuple[BcdEntry, ...]

    @property
    def chosen(self) -> BcdEntry | None:
        """The default entry, or else the first of the menu, or else the first."""
        by_id = {entry.id.lower(): entry for entry in self.entries}
        for wanted in (self.default, *self.order):
            if wanted is not None and wanted.lower() in by_id:
                return by_id[wanted.lower()]
        return self.entries[0] if self.entries else None


def read_bcd(hive: Hive) -> Bcd | None:
    """The boot manager's choices; None where the hive holds no BCD objects."""
    objects = hive.key("Objects")
    if objects is None:
        return None
    entries = []
    manager: Key | None = None
    for key in objects.subkeys()[:MAX_OBJECTS]:
        if key.name.lower() == BOOT_MANAGER:
            manager = key
        described = key.at("Description")
        kind = described.value("Type") if described else None
        if kind is not None and kind.number == OS_LOADER_TYPE:
            title, path, folder = (_text(key, name) for name in (_DESCRIPTION, _APPLICATION_PATH, _SYSTEM_ROOT))
            entries.append(BcdEntry(key.name, title, path, folder))
    order = _element(manager, _DISPLAY_ORDER)
    timeout = _element(manager, _TIMEOUT)
    return Bcd(
        timeout=int.from_bytes(timeout.data[:8], "little") if timeout is not None and timeout.data else None,
        default=_text(manager, _DEFAULT),
        order=tuple(order.strings) if order is not None else (),
        entries=tuple(entries),
    )


def _element(key: Key | None, name: str) -> Value | None:
    element = key.at(f"Elements\\{name}") if key else None
    return element.value("Element") if element else None


def _text(key: Key | None, name: str) -> str | None:
    value = _element(key, name)
    return value.text if value is not None else None

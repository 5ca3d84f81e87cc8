"""What ``create`` may be asked for, checked and with VMware's defaults."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from byre.disks.formats import format_named
from byre.disks.vmdk.descriptor import NO_PARENT
from byre.errors import UsageError
from byre.units import KIB, MIB, is_power_of_two, parse_size

SUBFORMATS = ("monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse")
ADAPTERS = ("ide", "buslogic", "lsilogic", "pvscsi", "legacyESX")


@dataclass(frozen=True, slots=True)
class VmdkOptions:
    """The options of one new VMDK. ``grain_size`` in bytes; ``level`` None: the fastest compression."""

    subformat: str
    adapter_type: str
    hw_version: str
    grain_size: int
    header_version: int
    cid: int
    uuid: bytes
    level: int | None = None
    backing_file: str | None = None
    parent_cid: int = NO_PARENT


def parse_options(options: Mapping[str, object], *, path: str) -> VmdkOptions:
    """Raises UsageError that names the option."""
    known = format_named("vmdk").options
    for name in options:
        if name not in known:
            raise UsageError(f"vmdk has no option {name!r}", path=path, expected=", ".join(known))
    subformat = _choice(options, "subformat", SUBFORMATS, path=path)
    stream = subformat == "streamOptimized"
    grain = options.get("grain_size") or 64 * KIB
    grain_size = grain if isinstance(grain, int) else parse_size(str(grain))
    if not is_power_of_two(grain_size) or not 4 * KIB <= grain_size <= MIB:
        raise _wrong(options, "grain_size", "a power of two from 4K to 1M", path=path)
    backing = options.get("backing_file")
    if backing is not None and subformat not in ("monolithicSparse", "twoGbMaxExtentSparse"):
        raise UsageError(f"a {subformat} VMDK can't have a parent", path=path, hint="Use subformat=monolithicSparse.")
    if options.get("backing_format") not in (None, "vmdk"):
        raise _wrong(options, "backing_format", "vmdk: a VMDK's parent is known by its content identifier", path=path)
    level = options.get("level")
    uuid = options.get("uuid")
    return VmdkOptions(
        subformat=subformat,
        adapter_type=_choice(options, "adapter_type", ADAPTERS, path=path),
        hw_version=str(_number(options, "hw_version", 7, 1, 99, path=path)),
        grain_size=grain_size,
        # ESXi takes a stream for upload with header version 3; everything hosted is 1, or 2 with zeroed grains.
        header_version=_number(options, "header_version", 3 if stream else 1, 1, 3 if stream else 2, path=path),
        cid=_cid(options, "cid", path=path, default=new_cid()),
        uuid=_uuid(uuid, options, path=path),
        level=None if level is None else _number(options, "level", 1, 1, 12, path=path),
        backing_file=None if backing is None else str(backing),
        parent_cid=_cid(options, "parent_cid", path=path, default=NO_PARENT),
    )


def new_cid() -> int:
    """A content identifier: random, and neither of the two values that mean something."""
    return secrets.randbelow(0xFFFFFFFE - 1) + 1


def _choice(options: Mapping[str, object], name: str, allowed: tuple[str, ...], *, path: str) -> str:
    value = options.get(name)
    if value is None:
        return allowed[0]
    for known in allowed:
        if str(value).lower() == known.lower():
            return known
    raise _wrong(options, name, " or ".join(allowed), path=path)


def _number(options: Mapping[str, object], name: str, default: int, low: int, high: int, *, path: str) -> int:
    value = options.get(name)
    if value is None:
        return default
    try:
        number = int(str(value))
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise _wrong(options, name, f"{low} to {high}", path=path)
    return number


def _cid(options: Mapping[str, object], name: str, *, path: str, default: int) -> int:
    value = options.get(name)
    if value is None:
        return default
    try:
        number = value if isinstance(value, int) else int(str(value), 16)
    except ValueError:
        number = -1
    if not 0 <= number < NO_PARENT:
        raise _wrong(options, name, "eight hexadecimal digits, not ffffffff", path=path)
    return number


def _uuid(value: object, options: Mapping[str, object], *, path: str) -> bytes:
    if value is None:
        return secrets.token_bytes(16)
    try:
        return (value if isinstance(value, UUID) else UUID(str(value))).bytes
    except ValueError:
        raise _wrong(options, "uuid", "a UUID", path=path) from None


def _wrong(options: Mapping[str, object], name: str, expected: str, *, path: str) -> UsageError:
    return UsageError(
        f"the option {name!r} doesn't take this value", path=path, found=repr(options[name]), expected=expected
    )

"""Local accounts from the SAM hive: who is there, not what their passwords are.

Of each account's secrets only two things are told: whether it has a password at all, and when it was last set.
Hashes are never read out of the value, let alone kept. Source: public descriptions of the SAM's F and V values;
the offsets were measured on the field hives.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.windows.registry import Hive
from byre.windows.registry.layout import filetime_to_rfc3339

_ACCOUNTS = r"SAM\Domains\Account\Users"
_DOMAIN = r"SAM\Domains\Account"
_ALIASES = r"SAM\Domains\Builtin\Aliases"
_ADMINISTRATORS = 544
_NT_LENGTH = 0xAC
_DISABLED, _NO_PASSWORD_NEEDED = 0x01, 0x04


@dataclass(frozen=True, slots=True)
class Account:
    """One local account. ``blank_password`` None: it can't be told."""

    rid: int
    name: str
    full_name: str
    disabled: bool
    administrator: bool | None
    blank_password: bool | None
    password_not_required: bool
    last_logon: str | None
    password_set: str | None
    logons: int


def read_accounts(sam: Hive) -> tuple[Account, ...]:
    """The accounts by RID; what can't be read of one is left at its default."""
    users = sam.key(_ACCOUNTS)
    if users is None:
        return ()
    domain = sam.key(_DOMAIN)
    own = domain.value("V") if domain else None
    administrators = _alias_members(sam, _ADMINISTRATORS, own.data[-12:] if own and len(own.data) >= 12 else None)
    found = []
    for key in users.subkeys():
        try:
            rid = int(key.name, 16)
        except ValueError:
            continue
        fixed, variable = key.value("F"), key.value("V")
        if fixed is None or variable is None or len(fixed.data) < 0x44 or len(variable.data) < 0xCC:
            sam.report(key.cell, f"the account {key.name} can't be read")
            continue
        found.append(_account(rid, fixed.data, variable.data, administrators))
    return tuple(sorted(found, key=lambda account: account.rid))


def _account(rid: int, fixed: bytes, variable: bytes, administrators: frozenset[int] | None) -> Account:
    last_logon, password_set = struct.unpack_from("<Q", fixed, 8)[0], struct.unpack_from("<Q", fixed, 24)[0]
    flags = struct.unpack_from("<H", fixed, 0x38)[0]
    nt_length = struct.unpack_from("<I", variable, _NT_LENGTH)[0]
    return Account(
        rid=rid,
        name=_string(variable, 0x0C),
        full_name=_string(variable, 0x18),
        disabled=bool(flags & _DISABLED),
        administrator=None if administrators is None else rid in administrators,
        # 4 bytes are the header of an empty hash; 20 hold one. Vista and later pad to 24 with a salt.
        blank_password=nt_length in (0, 4, 24) if nt_length < 60 else None,
        password_not_required=bool(flags & _NO_PASSWORD_NEEDED),
        last_logon=filetime_to_rfc3339(last_logon),
        password_set=filetime_to_rfc3339(password_set),
        logons=struct.unpack_from("<H", fixed, 0x42)[0],
    )


def _string(variable: bytes, at: int) -> str:
    offset, length = struct.unpack_from("<II", variable, at)
    start = offset + 0xCC
    return variable[start : start + (length & 0xFFFE)].decode("utf-16-le", "replace")


def _alias_members(sam: Hive, alias: int, machine: bytes | None) -> frozenset[int] | None:
    """The RIDs of a built-in group's members; None where its record can't be read. ``machine``: the three numbers
    of this machine's SID, so that a domain's user of the same RID isn't taken for a local one."""
    key = sam.key(f"{_ALIASES}\\{alias:08X}")
    value = key.value("C") if key else None
    if value is None or len(value.data) < 0x34:
        return None
    offset, length, count = struct.unpack_from("<III", value.data, 0x28)
    at, end = offset + 0x34, min(offset + 0x34 + length, len(value.data))
    members = set()
    for _ in range(min(count, 4096)):
        if at + 8 > end:
            break
        subauthorities = value.data[at + 1]
        size = 8 + 4 * subauthorities
        if at + size > end or subauthorities == 0:
            break
        if machine is None or value.data[at + size - 16 : at + size - 4] == machine:
            members.add(struct.unpack_from("<I", value.data, at + size - 4)[0])
        at += size
    return frozenset(members)

"""What no verb changes: where passwords lie, and what product activation rests on. Pure.

Byre mends and slims systems for their owners; it is no way round a logon or a licence.
"""

from __future__ import annotations

import re

from byre.errors import UnsupportedError
from byre.lite.changes import Change, MakeFolder
from byre.windows.secrets import is_secret

_FILES = re.compile(
    r"/[^/]+/system32/(?:config/(?:sam|security)(?:\.log[12]?)?|wpa\.(?:dbl|bak)|oembios\.\w+|licdll\.dll|pidgen\.dll"
    r"|winlogon\.exe|msgina\.dll|lsasrv\.dll|msv1_0\.dll|samsrv\.dll)"
)
_HIVES = {"SAM": "accounts and their passwords", "SECURITY": "stored passwords"}
_ACTIVATION = re.compile(r"(?:wpa(?:\\.*)?|microsoft\\windows nt\\currentversion\\wpaevents(?:\\.*)?)", re.IGNORECASE)


def refuse_files(changes: tuple[Change, ...] | list[Change], *, image: str) -> None:
    """UnsupportedError where a change would touch a file that guards a logon or a licence."""
    for change in changes:
        path = "/" + "/".join(part for part in re.split(r"[\\/]+", re.sub(r"^[A-Za-z]:", "", change.path)) if part)
        if not isinstance(change, MakeFolder) and _FILES.fullmatch(path.lower()):
            raise UnsupportedError(
                "Byre doesn't change what guards a logon or a licence",
                path=image,
                found=change.path,
                hint="Set passwords and activate from inside the guest.",
            )


def refuse_registry(kind: str, key: str, name: str | None, *, image: str) -> None:
    """UnsupportedError where an edit of hive ``kind`` (as ``secrets`` wants it) touches passwords or activation;
    ``key`` is the path in the hive, ``name`` None for a whole key."""
    reason = _HIVES.get(kind.upper())
    if reason is None and _ACTIVATION.fullmatch(key):
        reason = "product activation"
    if reason is None and name is not None and is_secret(kind, key, name):
        reason = "a secret"
    if reason is not None:
        raise UnsupportedError(
            f"Byre doesn't change {reason}",
            path=image,
            found=key,
            hint="Set passwords and activate from inside the guest.",
        )

"""Registry keys that belong to no component alone: all of Windows, or of a program's neighbours, lies below. Pure."""

from __future__ import annotations

import re

_ANY = "<any>"
_SOFTWARE = (
    ("classes",),
    *(("classes", name) for name in ("*", "appid", "clsid", "interface", "mime", "protocols", "typelib")),
    ("microsoft",),
    *(("microsoft", name) for name in ("active setup", "cryptography", "internet explorer", "ole", "rpc")),
    ("microsoft", "active setup", "installed components"),
    *(("microsoft", name) for name in ("windows", "windows nt")),
    *(("microsoft", name, "currentversion") for name in ("windows", "windows nt")),
    *(
        ("microsoft", "windows", "currentversion", name)
        for name in ("app paths", "explorer", "policies", "run", "runonce", "setup", "shell extensions", "uninstall")
    ),
    *(
        ("microsoft", "windows nt", "currentversion", name)
        for name in ("drivers32", "fonts", "fontsubstitutes", "profilelist", "svchost", "windows", "winlogon")
    ),
    ("policies",),
    ("wow6432node",),
)
_SHARED = (
    ("ntuser", _ANY),
    ("system", _ANY),
    ("system", "control", _ANY),
    ("system", "services", _ANY),
    *((*top, *names) for top in (("software",), ("ntuser", "software")) for names in _SOFTWARE),
)
"""Name by name, lower case. A service's own key is among them: ``services`` names it, where it is asked what depends
on it."""


def is_shared(key: str) -> bool:
    """Whether a key as components name it, or one that its ``*`` and ``?`` fit, is such a key."""
    names = key.lower().split("\\")
    return any(len(each) == len(names) and all(map(_fits, names, each)) for each in _SHARED)


def _fits(pattern: str, name: str) -> bool:
    if name == _ANY:
        return True
    parts = ({"*": ".*", "?": "."}.get(mark, re.escape(mark)) for mark in pattern)
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None

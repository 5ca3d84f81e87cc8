"""Where programs lie and what they are called: what stands out of it. Pure; guest paths with ``/``."""

from __future__ import annotations

import re

_ODD = (
    (re.compile(r"/(?:recycler|recycled|\$recycle\.bin)/"), "in the recycle bin"),
    (re.compile(r"/system volume information/"), "among the restore points"),
    (re.compile(r"/(?:temp|tmp)/|/temporary internet files/"), "in a folder for temporary files"),
    (re.compile(r"^/[^/]+/(?:fonts|cursors|media|help|tasks|prefetch|debug|wallpaper)/"), "where no programs belong"),
    (re.compile(r"/system32/(?:config|catroot|catroot2|logfiles)/"), "where no programs belong"),
    (re.compile(r"/system32/drivers/.*\.(?:exe|scr|com|bat|cmd)$"), "a program among the drivers"),
)
_DOCUMENT = re.compile(
    r"\.(?:docx?|xlsx?|pptx?|pdf|txt|rtf|jpe?g|gif|bmp|png|avi|mpe?g|mp3|wav|zip|rar|html?)"
    r"\s*\.(?:exe|scr|com|pif|bat|cmd)$"
)
_SPACES = re.compile(r"\s{3,}\.\w+$")
OWN = {
    "svchost.exe": "system32",
    "services.exe": "system32",
    "lsass.exe": "system32",
    "csrss.exe": "system32",
    "smss.exe": "system32",
    "winlogon.exe": "system32",
    "spoolsv.exe": "system32",
    "userinit.exe": "system32",
    "explorer.exe": "",
}
"""Programs of Windows itself that intruders like to be called, and their folder below the Windows folder."""
_IMITATED = (*OWN, "rundll32.exe", "iexplore.exe", "taskmgr.exe", "ctfmon.exe", "wuauclt.exe", "dllhost.exe")
_REAL = {"service.exe", "taskman.exe", "dllhst3g.exe", "explorer.scf", "conhost.exe"}
_LOOKS = str.maketrans("015", "ols")
_COPIES = re.compile(
    r"/(?:dllcache|servicepackfiles|driver cache|winsxs|softwaredistribution|lastgood|erdnt|i386|amd64|"
    r"\$ntuninstall[^/]*|\$ntservicepackuninstall\$|\$hf_mig\$|syswow64|system volume information)/"
)
"""Folders in which Windows itself keeps copies of its programs."""


def odd_place(path: str) -> str | None:
    """Why a program that starts by itself shouldn't lie there, or None."""
    lower = path.lower()
    if ":" in lower:
        return "in a named stream beside another file"
    return next((why for pattern, why in _ODD if pattern.search(lower)), None)


def deceptive_name(path: str, root: str) -> str | None:
    """What a program's name pretends, or None. ``root`` is the Windows folder."""
    lower = path.lower()
    folder, _, name = lower.rpartition("/")
    if _DOCUMENT.search(name):
        return "two extensions, the first of which is a document's"
    if _SPACES.search(name) or "\u202e" in name:
        return "its extension is hidden"
    if name in OWN and not _COPIES.search(lower):
        home = f"{root.lower()}/{OWN[name]}".rstrip("/")
        if folder != home:
            return f"called like Windows' own {name}, which lies in {home}"
    imitated = _imitates(name)
    return None if imitated is None else f"looks like {imitated}"


def _imitates(name: str) -> str | None:
    """The program of Windows that a name differs from by a letter only."""
    if name in _IMITATED or name in _REAL or not name.endswith(".exe"):
        return None
    plain = name.translate(_LOOKS).replace("vv", "w").replace("rn", "m")
    if plain != name and plain in _IMITATED:
        return plain
    return next((each for each in _IMITATED if len(each) > 9 and _one_letter_off(name, each)), None)


def _one_letter_off(one: str, other: str) -> bool:
    """One letter more, less or another, or two swapped."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    short, long = sorted((one, other), key=len)
    at = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) != len(long):
        return short[at:] == long[at + 1 :]
    swapped = long[:at] + long[at + 1 : at + 2] + long[at : at + 1] + long[at + 2 :]
    return short[at + 1 :] == long[at + 1 :] or swapped == short

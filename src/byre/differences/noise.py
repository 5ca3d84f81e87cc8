"""What every boot changes and nobody asks for: folded away unless all is asked for.

Each function gives the reason in a few words, or None for what is worth telling.
"""

from __future__ import annotations

import re

_FILES: tuple[tuple[str, str], ...] = (
    (r"/[^/]+/system32/config/[^/]+\.evt", "event log"),
    (r"/[^/]+/system32/winevt/logs/[^/]+\.evtx", "event log"),
    (r"/[^/]+/prefetch/[^/]+\.(pf|ini|db)", "prefetch"),
    (r"/(pagefile|hiberfil|swapfile)\.sys", "page or hibernation file"),
    (r"/[^/]+/system32/config/[^/]+\.(log|log1|log2|sav|blf|regtrans-ms)", "registry log"),
    (r"/.+/(ntuser\.dat|usrclass\.dat)[^/]*\.(log|log1|log2|blf|regtrans-ms)", "registry log"),
    (r"/system volume information/tracking\.log", "link tracking"),
    (r"/\$extend/.*|/\$(mft|mftmirr|logfile|volume|attrdef|bitmap|badclus|secure|upcase|extend)", "file system"),
)
_FILE = tuple((re.compile(pattern, re.DOTALL), reason) for pattern, reason in _FILES)

_VALUES: tuple[tuple[str, str, str], ...] = (
    ("SOFTWARE", r"microsoft\\cryptography\\rng", r"seed"),
    ("SOFTWARE", r"microsoft\\windows nt\\currentversion\\prefetcher", r".*"),
    ("SOFTWARE", r"microsoft\\wbem\\.*", r".*time.*"),
    ("SYSTEM", r"controlset\d+\\control\\windows", r"shutdowntime"),
    ("SYSTEM", r"controlset\d+\\services\\[^\\]+\\parameters\\tcpip", r"(lease|t1|t2).*"),
    ("SYSTEM", r"controlset\d+\\services\\tcpip\\parameters\\interfaces\\[^\\]+", r"(lease|t1|t2).*"),
)
_VALUE = tuple((hive, re.compile(key), re.compile(name, re.DOTALL)) for hive, key, name in _VALUES)


def file_noise(path: str) -> str | None:
    """Why a change of this file's bytes says nothing. ``path`` is a guest path with ``/``."""
    folded = path.casefold()
    return next((reason for pattern, reason in _FILE if pattern.fullmatch(folded)), None)


def value_noise(hive: str, key: str, value: str) -> str | None:
    """Why a change of this registry value says nothing. ``key`` is a path below the hive's root."""
    folded, name = key.casefold(), value.casefold()
    for where, pattern, names in _VALUE:
        if where == hive and pattern.fullmatch(folded) and names.fullmatch(name):
            return "changes at every boot"
    return None

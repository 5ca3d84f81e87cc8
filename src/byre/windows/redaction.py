r"""Secrets inside texts: user info and query strings of URLs, and passwords on command lines. Pure.

For texts that a fact shows (a command that starts by itself, a value that changed). What a whole value is, and
whether it may be shown at all, is the question of ``secrets``. As there, hiding too much costs a look at the value
with ``byre reg``; hiding too little can't be taken back.
"""

from __future__ import annotations

import re

from byre.windows.secrets import HIDDEN

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{1,20}://)(?P<user>[^\s/?#\"'<>@]*(?:@[^\s/?#\"'<>@]*)*@)?"
    r"(?P<rest>[^\s?#\"'<>|]*)(?P<query>\?[^\s#\"'<>|]*)?(?P<fragment>#[^\s\"'<>|]*)?",
    re.IGNORECASE,
)
_WORD = (
    r"pass(?:word|wd|phrase|code)?|pwd|passw|token|secret|api[-_]?key|access[-_]?key|auth(?:orization)?|psk|"
    r"credentials?|sig(?:nature)?|product[-_]?key|pid[-_]?key|serial"
)
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&]+)"
_SEPARATED = re.compile(
    rf"(?P<name>\b[a-z0-9_.-]{{0,32}}?(?:{_WORD})\d?\s*[=:]\s*)(?P<value>{_VALUE})", re.IGNORECASE
)
"""``/password:x``, ``--token=x``, ``PWD=x``."""
_FOLLOWING = re.compile(rf"(?P<name>(?<!\S)(?:--?|/)(?:{_WORD}|rp|pw)\s+)(?P<value>{_VALUE})", re.IGNORECASE)
"""``-password x``, ``/rp x`` of schtasks."""
_SHORT = re.compile(rf"(?P<name>(?<!\S)[-/](?:p|pw)[: ]\s*)(?P<value>(?![-/]){_VALUE})", re.IGNORECASE)
_WITH_USER = re.compile(r"(?<!\S)[-/](?:u|user|username|l|login)\b|\bnet\d?(?:\.exe)?\"?\s+use\b", re.IGNORECASE)
"""``-p x`` is a password only where a user is named too: it is a port or a path elsewhere."""
_NET_USE = re.compile(
    rf"(?P<name>\bnet\d?(?:\.exe)?\"?\s+use\s+(?:\S+\s+)?(?:\"\\\\[^\"]*\"|\\\\\S+)\s+)(?P<value>(?![/*]){_VALUE})",
    re.IGNORECASE,
)
_NET_USER = re.compile(
    rf"(?P<name>\bnet\d?(?:\.exe)?\"?\s+user\s+(?:\"[^\"]*\"|[^\s/]\S*)\s+)(?P<value>(?![/*]){_VALUE})", re.IGNORECASE
)
_BEARER = re.compile(r"(?P<name>\b(?:bearer|basic)\s+)(?P<value>[a-z0-9._~+/=-]{8,})", re.IGNORECASE)
_MAY_HOLD = re.compile(rf"://|{_WORD}|\bnet\d?(?:\.exe)?\"?\s+use|[-/](?:p|pw|rp)[: ]|bearer|basic", re.IGNORECASE)


MAX_TEXT = 1 << 15
"""Windows' own limit for a command line, characters. What lies behind isn't searched, so it isn't shown either."""


def redact_text(text: str) -> str:
    """The text with what may be a secret in it replaced by ``(hidden)``, and cut where it is longer than any
    command."""
    if len(text) > MAX_TEXT:
        return f"{redact_text(text[:MAX_TEXT])}... ({len(text) - MAX_TEXT} more characters)"
    if _MAY_HOLD.search(text) is None:
        return text
    found = _URL.sub(_url, text)
    for pattern in (_BEARER, _NET_USE, _NET_USER, _SEPARATED, _FOLLOWING):
        found = pattern.sub(_hidden, found)
    if _WITH_USER.search(found):
        found = _SHORT.sub(_hidden, found)
    return found


def _hidden(match: re.Match[str]) -> str:
    return match["name"] + HIDDEN


def _url(match: re.Match[str]) -> str:
    user = f"{HIDDEN}@" if match["user"] else ""
    query = f"?{HIDDEN}" if match["query"] and len(match["query"]) > 1 else match["query"] or ""
    fragment = match["fragment"] or ""
    if "=" in fragment:
        fragment = f"#{HIDDEN}"
    return match["scheme"] + user + match["rest"] + query + fragment

"""Addresses that are URLs: telling them apart, splitting off a snapshot, and hiding their secrets. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"(https?|s3)://", re.IGNORECASE)


def is_url(address: str) -> bool:
    """Whether the address names a remote image."""
    return _URL.match(address) is not None


def split_snapshot(url: str) -> tuple[str, str | None]:
    """``(URL, snapshot)``: only an ``@`` after the last ``/`` of the path and before ``?`` counts."""
    path, mark, query = url.partition("?")
    head, slash, last = path.rpartition("/")
    name, at, snapshot = last.rpartition("@")
    if not at or not name or not snapshot:
        return url, None
    return head + slash + name + mark + query, snapshot


def redact(url: str) -> str:
    """The URL without user info, query and fragment: what may be shown, stored and logged."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "<unreadable URL>"
    if ":" in host:
        host = f"[{host}]"
    query = "..." if parts.query else ""
    return urlunsplit((parts.scheme, host + port, parts.path, query, ""))

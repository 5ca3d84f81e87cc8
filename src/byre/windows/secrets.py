"""Which registry values are secrets: told to be there, never shown."""

from __future__ import annotations


def is_secret(hive_name: str, key_path: str, value_name: str) -> bool:
    """Whether a value's data must not be shown."""
    return hive_name.upper() in ("SAM", "SECURITY") or value_name.casefold() in (
        "digitalproductid",
        "defaultpassword",
    )

"""Private: what of somebody's life is still inside, counted by kind. Never names, never contents."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.facts import Facts
from byre.audit.finding import Finding, Unread
from byre.audit.leftovers import PRIVATE
from byre.audit.platforms import Platform
from byre.audit.rule import Rule
from byre.units import format_size

RULES = (
    Rule(
        "PRIV-001",
        "private",
        "No personal files are inside",
        "low",
        False,
        "users' documents, mail, history, recent lists, event logs, restore points, swap: numbers and bytes only",
        "whoever gets the image gets them too",
        "the places where Windows keeps them",
        "nothing",
        "hand on an image that was made without them",
    ),
    Rule(
        "PRIV-002",
        "private",
        "No secrets are inside",
        "low",
        False,
        "product key, autologon password, password hashes, LSA secrets, wireless keys: present or absent only",
        "a hash or a stored password may open other doors",
        "the registry values where Windows keeps them",
        "nothing",
        "clear them in the guest before the image leaves the house",
    ),
)
_SECRETS = {
    "product_key": "a product key",
    "default_password": "an autologon password",
    "password_hashes": "password hashes",
    "lsa_secrets": "LSA secrets",
    "wireless_keys": "wireless keys",
}


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """One note for each kind that is there."""
    if facts.guest is None:
        yield Unread("PRIV-001", "no installed system was found")
        return
    for kind, title in PRIVATE.items():
        count = facts.leftovers.get(kind)
        if count is not None:
            files = "1 file" if count.files == 1 else f"{count.files} files"
            yield Finding("PRIV-001", title, f"{files}, {format_size(count.bytes)}", "stays in the image")
    for name, title in _SECRETS.items():
        present = getattr(facts.guest.secrets, name)
        if present:
            yield Finding("PRIV-002", title, "present", "stays in the image")
        elif present is None:
            yield Unread("PRIV-002", f"whether it holds {title} can't be read")

"""Private: what of somebody's life is still inside, counted by kind. Never names, never contents."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.facts import Facts
from byre.audit.finding import Finding, Unread
from byre.audit.lean import told
from byre.audit.leftovers import PRIVATE
from byre.audit.personal import TRACES
from byre.audit.platforms import Platform
from byre.audit.rule import Rule

_STAYS = "stays in the image"

RULES = (
    Rule(
        "PRIV-001",
        "private",
        "No personal files are inside",
        "low",
        False,
        "users' documents and pictures, mail, history, browsers' password files, credentials, recent lists, chats, "
        "dial-up connections, event logs, restore points, swap, dumps, copies of hives: numbers and bytes only",
        "whoever gets the image gets them too",
        "A Windows Registry Quick Reference (Farmer, 2007) and other guides for examiners; programs' own file names",
        "nothing",
        "hand on an image that was made without them",
    ),
    Rule(
        "PRIV-002",
        "private",
        "No secrets are inside",
        "low",
        False,
        "product key, autologon password, password hashes, LSA secrets, wireless keys, passwords of forms and of "
        "dial-up connections, protected storage: present or absent, or how many",
        "a hash or a stored password may open other doors",
        "the registry values where Windows keeps them",
        "nothing",
        "clear them in the guest before the image leaves the house",
    ),
    Rule(
        "PRIV-003",
        "private",
        "No lists of what somebody did are inside",
        "low",
        False,
        "recent files, typed commands and addresses, searches, started programs, network places in the users' hives: "
        "numbers of entries only",
        "they tell who worked on what, and when",
        "A Windows Registry Quick Reference (Farmer, 2007): MRU lists, UserAssist, TypedURLs",
        "nothing",
        "clear the lists in the guest before the image leaves the house",
    ),
    Rule(
        "PRIV-004",
        "private",
        "No licences of other programs are inside",
        "low",
        False,
        "values in SOFTWARE whose names say serial number, licence or registration key: how many",
        "they were bought by somebody, for one machine as a rule",
        "names of values that programs are known to use",
        "nothing",
        "remove the programs, or hand their licences on with the image",
    ),
)
_SECRETS = {
    "product_key": "a product key",
    "default_password": "an autologon password",
    "password_hashes": "password hashes",
    "lsa_secrets": "LSA secrets",
    "wireless_keys": "wireless keys",
}
_COUNTED = {
    "form passwords": "passwords of web forms",
    "protected storage": "items of protected storage",
    "dial-up passwords": "passwords of dial-up and VPN connections",
}


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """One note for each kind that is there."""
    if facts.guest is None:
        yield Unread("PRIV-001", "no installed system was found")
        return
    for kind, title in PRIVATE.items():
        count = facts.leftovers.get(kind)
        if count is not None:
            yield Finding("PRIV-001", title, told(count), _STAYS)
    for name, title in _SECRETS.items():
        present = getattr(facts.guest.secrets, name)
        if present:
            yield Finding("PRIV-002", title, "present", _STAYS)
        elif present is None:
            yield Unread("PRIV-002", f"whether it holds {title} can't be read")
    for kind, title in _COUNTED.items():
        if kind in facts.personal:
            yield Finding("PRIV-002", title, _number(facts.personal[kind]), _STAYS)
    for kind, (title, _) in TRACES.items():
        if kind in facts.personal:
            yield Finding("PRIV-003", title, _number(facts.personal[kind]), _STAYS)
    if "licences" in facts.personal:
        yield Finding("PRIV-004", "licences of programs", _number(facts.personal["licences"]), _STAYS)


def _number(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"

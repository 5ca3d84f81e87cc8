r"""Which registry values are secrets: one policy for every verb, report and cache. Pure.

A secret is told as *present* or *absent*; its data are never printed, exported, compared in the open or stored.
Hiding too much costs a look at a value; hiding too little can't be taken back, so doubts end as *hidden*, and a
hive of unknown kind is judged by the rules of all kinds.

Sources: Microsoft's descriptions of LSA policy objects and of cached logons, public descriptions of where Windows
XP's SAM, LSA and Wireless Zero Configuration keep keys, and the documentation of the programs that are named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

HIDDEN = "(hidden)"
"""What stands where a secret's data would."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Values of ``keys`` in ``hives`` (none: in all) whose names match are secret; both patterns match whole, in
    lower case."""

    why: str
    hives: frozenset[str]
    keys: re.Pattern[str]
    names: re.Pattern[str]


_SOFTWARE = frozenset({"SOFTWARE", "NTUSER"})
_TOP = r"(?:software\\)?(?:wow6432node\\)?"
"""What may stand before ``Microsoft\\…``: the user's hives say Software first, 64-bit systems add a level."""
_SET = r"(?:controlset\d+|currentcontrolset|clone)"


def _rule(why: str, hives: frozenset[str] | str, keys: str, names: str = ".*") -> Rule:
    kinds = frozenset({hives}) if isinstance(hives, str) else hives
    return Rule(why, kinds, re.compile(keys, re.DOTALL), re.compile(names, re.DOTALL))


RULES: tuple[Rule, ...] = (
    _rule(
        "accounts' password hashes", "SAM", r"sam\\domains(?:\\.*)?", r"[fv]|supplementalcredentials|userpasswordhint"
    ),
    _rule("the log of changes to accounts", "SAM", r"(?:sam\\)?rxact(?:\\.*)?"),
    _rule("LSA secrets", "SECURITY", r"policy\\secrets(?:\\.*)?"),
    _rule("keys of the LSA secrets", "SECURITY", r"policy\\(?:polsecretencryptionkey|poleklist|polsyskey)(?:\\.*)?"),
    _rule("cached domain logons", "SECURITY", r"cache(?:\\.*)?"),
    _rule("the log of changes to LSA policy", "SECURITY", r"rxact(?:\\.*)?"),
    _rule("the boot key", "SYSTEM", rf"{_SET}\\control\\lsa\\(?:jd|skew1|gbg|data)(?:\\.*)?"),
    _rule("activation", "SYSTEM", r"wpa\\(?:key|signinghash|pnp)[^\\]*(?:\\.*)?"),
    _rule("the product key of Setup", "SYSTEM", r"setup(?:\\.*)?", r"pid|productkey|productid"),
    _rule("SNMP communities", "SYSTEM", rf"{_SET}\\services\\snmp\\parameters\\(?:validcommunities|trapconf.*)"),
    _rule("Radmin's password", frozenset({"SYSTEM", "SOFTWARE"}), r".*radmin\\.*", r"parameter|pass.*"),
    _rule("product keys", _SOFTWARE, r".*microsoft\\.*", r"productid"),
    _rule(
        "product keys",
        _SOFTWARE,
        r".*",
        r"(?:cd|license|licence|serial|activation|registration|reg|unlock|install)[ _-]?(?:key|code)|"
        r"serial(?:[ _-]?(?:number|no|num))?|(?:oem|setup|vol)[ _-]?(?:product)?[ _-]?key",
    ),
    _rule("wireless keys", _SOFTWARE, rf"{_TOP}microsoft\\wzcsvc\\.*", r"static#.*|activesettings"),
    _rule("802.1X credentials", _SOFTWARE, rf"{_TOP}microsoft\\eapol\\.*"),
    _rule("random numbers to come", _SOFTWARE, rf"{_TOP}microsoft\\cryptography\\rng", r"seed"),
    _rule(
        "forms and passwords that the browser keeps",
        _SOFTWARE,
        rf"{_TOP}microsoft\\internet explorer\\intelliforms(?:\\.*)?",
    ),
    _rule("protected storage", _SOFTWARE, rf"{_TOP}microsoft\\protected storage system provider(?:\\.*)?"),
    _rule("kept logons", _SOFTWARE, rf"{_TOP}microsoft\\identitycrl\\.*"),
    _rule("dial-up credentials", _SOFTWARE, rf"{_TOP}microsoft\\ras autodial\\credentials(?:\\.*)?"),
    _rule(
        "mail profiles",
        _SOFTWARE,
        r".*\\windows messaging subsystem\\profiles\\.*",
        r"001[ef]67.*|0102.*|.*password.*",
    ),
    _rule("Yahoo Messenger's password", _SOFTWARE, rf"{_TOP}yahoo\\pager", r"eoptions string|ets"),
    _rule("Google Talk's password", _SOFTWARE, rf"{_TOP}google\\google talk\\accounts\\.*", r"pw"),
)

_NAMES = re.compile(
    r"digitalproductid.*|productkey.*|(?:alt)?defaultpassword|"
    # Password, ServerPassword, POP3 Password2, PasswordViewOnly, SecurityPasswordAES, "Password 51"
    r".*(?:password|passwd|passphrase|passcode)(?:viewonly|aes|hash|hashed|enc|encrypted|crypt|ssb|salt)?[ _-]?\d*|"
    r"password\.net messenger service|(?:.*[ _-])?(?:pass|pwd|pw|psk)\d*|"
    r"(?:user|login|proxy|server|ftp|db|sql|admin)(?:pass|pwd)|"
    r"(?:wep|wpa|network|presharedk?|pre-shared|encryption|private|secret|api|access|session)[ _-]?key[ _-]?\d*|"
    r"(?:client|shared|chap|radius|ldap)[ _-]?secret|.*privatekey",
    re.DOTALL,
)
"""Names that say it themselves, wherever they stand."""
_SETTINGS = re.compile(
    r"(?:.*[ _-])?(?:enable\w*|disable\w*|no|hide|ask\w*|prompt\w*|save\w*|remember\w*|use\w*|require\w*|allow\w*|"
    r"screensaveuse|change|store\w*|keep)[ _-]?(?:for)?(?:password|passwd)",
    re.DOTALL,
)
"""Names that end like a password's but are switches, which an audit wants to see."""
MAX_NAME = 255
"""Longer names are given no benefit of the doubt: Windows' own stay below."""
_KINDS = ("SYSTEM", "SOFTWARE", "SAM", "SECURITY", "NTUSER")
_USER = frozenset({"NTUSER", "NTUSER.DAT", "DEFAULT", ".DEFAULT", "USRCLASS", "USRCLASS.DAT"})


def is_secret(hive: str, key_path: str, value_name: str) -> bool:
    r"""Whether the data of a value may not be shown.

    ``hive`` is the kind of hive (SYSTEM, SOFTWARE, SAM, SECURITY, NTUSER, DEFAULT, …; anything else is judged by
    all rules), ``key_path`` is relative to its root with the control set as ``ControlSetNNN``, ``value_name`` is
    empty for the default value. Case doesn't matter.
    """
    name = value_name.lower()
    if _NAMES.fullmatch(name) and (len(name) > MAX_NAME or not _SETTINGS.fullmatch(name)):
        return True
    return any(rule.fullmatch(name) for rule in _rules_for(_kind(hive), _plain(key_path)))


def is_secret_class(hive: str, key_path: str) -> bool:
    """Whether the class name of a key may not be shown: the boot key is spread over four of them."""
    kind = _kind(hive)
    return kind in ("SYSTEM", "") and _BOOT_KEY.fullmatch(_plain(key_path)) is not None


_COMMUNITIES = re.compile(rf"{_SET}\\services\\snmp\\parameters\\validcommunities", re.DOTALL)
_TRAPS = re.compile(rf"({_SET}\\services\\snmp\\parameters\\trapconfiguration\\)([^\\]+)", re.IGNORECASE | re.DOTALL)


def is_secret_name(hive: str, key_path: str) -> bool:
    """Whether the *names* of a key's values are secrets: those of SNMP communities, which serve as passwords."""
    return _kind(hive) in ("SYSTEM", "") and _COMMUNITIES.fullmatch(_plain(key_path)) is not None


def shown_path(hive: str, key_path: str) -> str:
    """A key's path without the names in it that are secrets: SNMP traps keep a community's name as a key."""
    if _kind(hive) not in ("SYSTEM", "") or "\\" not in key_path:
        return key_path
    return _TRAPS.sub(lambda match: match[1] + HIDDEN, key_path, count=1)


def _kind(hive: str) -> str:
    """One of ``_KINDS``, or empty for a hive that may be anything."""
    name = hive.upper()
    return "NTUSER" if name in _USER else name if name in _KINDS else ""


_BOOT_KEY = re.compile(r"(?:.*\\)?lsa\\(?:jd|skew1|gbg|data)", re.DOTALL)


def _plain(key_path: str) -> str:
    return "\\".join(part for part in key_path.lower().replace("/", "\\").split("\\") if part)


@lru_cache(maxsize=4096)
def _rules_for(kind: str, key_path: str) -> tuple[re.Pattern[str], ...]:
    """The name patterns that count in a key. Cached, since a walk asks for each value of a key in turn."""
    return tuple(rule.names for rule in RULES if (not kind or kind in rule.hives) and rule.keys.fullmatch(key_path))

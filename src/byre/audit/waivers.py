"""Waivers: findings that somebody accepts, for a reason and for a time. A TOML file; nothing in it is executed.

    [[waiver]]
    rule = "BOOT-014"
    where = "/WINDOWS/system32/drivers/sr.sys"
    image = "*/parlour-*.qcow2"
    reason = "System Restore was taken out on purpose, ticket 1187"
    who = "hazel@example.org"
    expires = 2027-06-30

``where`` and ``image`` may be left out and then mean every place, every image; ``*`` and ``?`` in them stand for
any text and any character, and case doesn't matter. The other four are mandatory.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path, PurePath

from byre.audit.catalogue import EXPIRED
from byre.audit.finding import Finding
from byre.audit.judging import Found, Report, Waiver
from byre.errors import UsageError
from byre.storage.small_file import read_small_file

MAX_FILE = 1 << 20
MAX_WAIVERS = 10_000
MAX_FIELD = 1_000
MANDATORY = ("rule", "reason", "who", "expires")
OPTIONAL = ("where", "image")


def read_waivers(path: Path) -> tuple[Waiver, ...]:
    """The waivers of a file; UsageError says which entry is wrong. Raises what ``read_small_file`` does too."""
    data = read_small_file(path, MAX_FILE)
    try:
        return parse_waivers(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the waivers aren't TOML: {error}", path=path) from error
    except UsageError as error:
        raise UsageError(
            error.what, path=path, found=error.found, expected=error.expected, hint=error.hint
        ) from error


def parse_waivers(text: str) -> tuple[Waiver, ...]:
    """The waivers in a TOML text."""
    read = tomllib.loads(text)
    if set(read) - {"waiver"}:
        raise UsageError(f"there is no setting {min(set(read) - {'waiver'})!r} in a file of waivers", hint=_HINT)
    rows = read.get("waiver", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError("waivers are a list of tables", hint=_HINT)
    if len(rows) > MAX_WAIVERS:
        raise UsageError("too many waivers", found=len(rows), expected=f"at most {MAX_WAIVERS}")
    return tuple(_waiver(number, row) for number, row in enumerate(rows, 1))


_HINT = "Each begins with [[waiver]]; docs/verbs/audit.md has an example."


def _waiver(number: int, row: Mapping[str, object]) -> Waiver:
    where = f"waiver {number}"
    strange = sorted(set(row) - {*MANDATORY, *OPTIONAL})
    if strange:
        known = ", ".join((*MANDATORY, *OPTIONAL))
        raise UsageError(f"{where}: there is no field {strange[0]!r}", expected=known)
    for name in MANDATORY:
        if row.get(name) in (None, ""):
            raise UsageError(
                f"{where} has no {name}", hint="A waiver needs a rule, a reason, who, and when it expires."
            )
    expires = row["expires"]
    if isinstance(expires, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", expires):
        with suppress(ValueError):
            expires = date.fromisoformat(expires)
    if isinstance(expires, datetime):
        expires = expires.date()
    if not isinstance(expires, date):
        raise UsageError(f"{where}: 'expires' is no date", found=row["expires"], expected="expires = 2027-06-30")
    texts = {name: row.get(name) for name in ("rule", "reason", "who", "where", "image")}
    for name, text in texts.items():
        if text is not None and (not isinstance(text, str) or not text.strip() or len(text) > MAX_FIELD):
            raise UsageError(f"{where}: {name!r} is a text of 1 to {MAX_FIELD} characters")
    return Waiver(
        rule=str(texts["rule"]).upper(),
        reason=str(texts["reason"]),
        who=str(texts["who"]),
        expires=expires.isoformat(),
        where=None if texts["where"] is None else str(texts["where"]),
        image=None if texts["image"] is None else str(texts["image"]),
    )


def apply_waivers(report: Report, waivers: Sequence[Waiver], today: date) -> Report:
    """The report with its waived findings marked, a finding for each expired waiver of this image, and a notice for
    each that fits nothing. Grade and verdicts stay: a waiver changes what counts, not what is."""
    own = [each for each in waivers if _fits_image(each, report.image)]
    current = [each for each in own if date.fromisoformat(each.expires) >= today]
    used: set[int] = set()
    findings = []
    for found in report.findings:
        fitting = next((index for index, each in enumerate(current) if _fits(each, found)), None)
        if fitting is not None:
            used.add(fitting)
            found = replace(found, waiver=current[fitting])
        findings.append(found)
    expired = [_expired(each) for each in own if each not in current]
    idle = [
        f"a waiver for {each.rule}{f' at {each.where}' if each.where else ''} fits no finding any more"
        for index, each in enumerate(current)
        if index not in used
    ]
    return replace(report, findings=(*expired, *findings), notices=(*report.notices, *idle))


def _expired(waiver: Waiver) -> Found:
    finding = Finding(
        EXPIRED.id,
        waiver.where or waiver.rule,
        f"{waiver.rule} was waived by {waiver.who} until {waiver.expires}: {waiver.reason}",
        "the finding counts again",
    )
    return Found(finding, EXPIRED, EXPIRED.severity)


def _fits(waiver: Waiver, found: Found) -> bool:
    return waiver.rule == found.rule.id.upper() and (waiver.where is None or like(found.finding.where, waiver.where))


def _fits_image(waiver: Waiver, image: str) -> bool:
    return waiver.image is None or like(image, waiver.image) or like(PurePath(image).name, waiver.image)


def like(text: str, pattern: str) -> bool:
    """Whether ``*`` and ``?`` of the pattern can stand for the rest of the text. Case and the kind of slash don't
    matter. Never more than the product of the lengths: no regular expression that a text could blow up."""
    text, pattern = (each.casefold().replace("\\", "/") for each in (text, pattern))
    at = sign = tried = 0
    star = -1
    while at < len(text):
        if sign < len(pattern) and pattern[sign] == "*":
            star, tried = sign, at
            sign += 1
        elif sign < len(pattern) and pattern[sign] in ("?", text[at]):
            at += 1
            sign += 1
        elif star >= 0:  # let the last star stand for one character more
            tried += 1
            at, sign = tried, star + 1
        else:
            return False
    return not pattern[sign:].strip("*")

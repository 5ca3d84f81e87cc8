"""From facts to a report: findings, a verdict for each question, what each machine would do, and a grade. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from byre.audit.catalogue import OWN, Check, run_check
from byre.audit.facts import Facts
from byre.audit.finding import Finding, Stage, Unread
from byre.audit.genuine import summary
from byre.audit.platforms import DEFAULT, PLATFORMS, Platform
from byre.audit.profile import SCANNERS, Profile, profile_of
from byre.audit.rule import COVERED, GRADED, QUESTIONS, STANDARD, Rule, rank

GRADES = {None: "A", "low": "B", "medium": "C", "high": "D", "critical": "F"}
"""The grade by the worst finding among the graded questions."""
CAP = "C"
"""The best grade where one of the graded questions is unknown: nobody can vouch for what wasn't looked at."""
MAX_TEXT = 1000
_ORDER = "ABCDF"
_EXTRA = ("sound", "complete", "clean", "portable")


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on one question: ``pass``, ``notes``, ``fail`` or ``unknown``, with what couldn't be read."""

    question: str
    verdict: str
    findings: int
    worst: str | None
    sentence: str
    unread: tuple[Unread, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one machine would do. ``starts`` is None where it can't be told; ``rule`` names what ends the start, and
    ``remedy`` what to change for it, in the guest or on the machine's side."""

    target: str
    title: str
    starts: bool | None
    sentence: str
    rule: str | None = None
    stage: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Waiver:
    """Somebody's decision to accept findings of a rule until the day ``expires`` (RFC 3339 date, inclusive).
    ``where`` and ``image`` None mean everywhere and every image."""

    rule: str
    reason: str
    who: str
    expires: str
    where: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A finding with its rule: the severity is settled. ``waiver``: the one that accepts it. ``new``: whether a
    baseline hasn't it; None without a baseline."""

    finding: Finding
    rule: Rule
    severity: str
    waiver: Waiver | None = None
    new: bool | None = None

    @property
    def counts(self) -> bool:
        """Whether it counts for the exit status: neither waived nor known from a baseline."""
        return self.waiver is None and self.new is not False

    @property
    def fingerprint(self) -> str:
        """The same for the same breach in two audits."""
        return fingerprint(self.finding.rule, self.finding.where, self.finding.target)


def fingerprint(rule: str, where: str, target: str | None) -> str:
    """What makes two findings the same breach: 32 hexadecimal digits over rule, place and machine. Evidence and texts
    may change from one version to the next."""
    text = "\0".join((rule, where.casefold(), target or ""))
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Report:
    """The audit of one image."""

    standard: str
    image: str
    system: str | None
    targets: tuple[str, ...]
    grade: str
    extra_quality: bool
    reason: str
    answers: tuple[Answer, ...]
    predictions: tuple[Prediction, ...]
    findings: tuple[Found, ...]
    notices: tuple[str, ...] = ()
    profile: Profile = field(default_factory=Profile)

    def at_least(self, severity: str) -> tuple[Found, ...]:
        """The findings of this severity and above, waived ones and known ones too."""
        return tuple(each for each in self.findings if rank(each.severity) >= rank(severity))

    def counting(self, severity: str) -> tuple[Found, ...]:
        """Those of them that are neither waived nor known from a baseline: the exit status goes by these."""
        return tuple(each for each in self.at_least(severity) if each.counts)


def judge(
    facts: Facts,
    platforms: Sequence[Platform] = (DEFAULT,),
    *,
    only: Sequence[str] = tuple(QUESTIONS),
    checks: Sequence[Check] = OWN,
    notices: Sequence[str] = (),
) -> Report:
    """Hold the facts against the rules, for the machines that the image shall run on."""
    rules = {rule.id: rule for check in checks for rule in check.rules if _holds(rule, facts)}
    # Most checks say the same for every machine: to ask them for each of fifteen takes a second on a large guest.
    shared = [[] if check.per_target else _run(check, rules, facts, DEFAULT) for check in checks]
    every: dict[str, list[Finding | Unread]] = {platform.name: [] for platform in PLATFORMS}
    for platform in PLATFORMS:
        for check, said in zip(checks, shared, strict=True):
            every[platform.name] += _run(check, rules, facts, platform) if check.per_target else said
    chosen = [row for platform in platforms for row in every[platform.name]]
    rows = list(dict.fromkeys(row for row in chosen if rules[row.rule].question in only))
    findings = _sorted(rows, rules)
    unread = [row for row in rows if isinstance(row, Unread)]
    asked = {question: question in only for question in QUESTIONS}
    offered = {rule.question for check in checks for rule in check.rules}
    answers = tuple(
        _with_origin(_answer(question, asked[question], offered, findings, unread, rules), facts)
        for question in QUESTIONS
    )
    grade, extra, reason = _grade(answers)
    return Report(
        standard=STANDARD,
        image=facts.image,
        system=_system(facts),
        targets=tuple(platform.name for platform in platforms),
        grade=grade,
        extra_quality=extra,
        reason=reason,
        answers=answers,
        predictions=tuple(_predict(platform, every[platform.name], rules) for platform in PLATFORMS),
        findings=findings,
        notices=(*notices, *(f"not audited: {other}" for other in facts.others), *_passed_over(facts)),
        profile=profile_of(facts),
    )


def _holds(rule: Rule, facts: Facts) -> bool:
    return facts.guest is None or facts.kind == "unknown" or facts.kind in rule.guests


def _run(check: Check, rules: Mapping[str, Rule], facts: Facts, platform: Platform) -> list[Finding | Unread]:
    return [_clipped(row) for row in run_check(check, facts, platform) if row.rule in rules]


def _clipped(row: Finding | Unread) -> Finding | Unread:
    """The row with texts of bounded length: a value in a hive may be a megabyte."""
    if isinstance(row, Unread):
        return replace(row, reason=_clip(row.reason))
    return replace(row, where=_clip(row.where), evidence=_clip(row.evidence), consequence=_clip(row.consequence))


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def _sorted(rows: Sequence[Finding | Unread], rules: Mapping[str, Rule]) -> tuple[Found, ...]:
    found = [
        Found(row, rules[row.rule], row.severity or rules[row.rule].severity)
        for row in rows
        if isinstance(row, Finding)
    ]
    order = list(QUESTIONS)
    return tuple(sorted(found, key=lambda each: (-rank(each.severity), order.index(each.rule.question))))


def _answer(
    question: str,
    asked: bool,
    offered: set[str],
    findings: Sequence[Found],
    unread: Sequence[Unread],
    rules: Mapping[str, Rule],
) -> Answer:
    if not asked:
        return Answer(question, "unknown", 0, None, "not asked")
    if question not in offered:
        return Answer(question, "unknown", 0, None, "not checked yet: this version of Byre has no rules for it")
    own = [each for each in findings if each.rule.question == question]
    blind = tuple(each for each in unread if rules[each.rule].question == question)
    # Nothing is required of the questions that only describe: not having looked must show there too.
    needed = [each for each in blind if rules[each.rule].required or (question not in GRADED and not own)]
    worst = own[0].severity if own else None
    if worst is not None and rank(worst) >= rank("high"):
        verdict, sentence = "fail", own[0].finding.consequence
    elif needed:
        verdict, sentence = "unknown", f"couldn't be read: {needed[0].reason}"
    elif own:
        verdict, sentence = "notes", f"{len(own)} {'note' if len(own) == 1 else 'notes'}, the worst {worst}"
    elif question not in COVERED:
        verdict, sentence = "unknown", "only some of its rules were asked"
    else:
        # Of what somebody hid well enough nothing is said by a scan: never "clean".
        verdict, sentence = "pass", "no sign found" if question == "clean" else "nothing found"
    return Answer(question, verdict, len(own), worst, sentence, blind)


def _with_origin(answer: Answer, facts: Facts) -> Answer:
    """Genuine is answered with where the system comes from: that is what is asked, fault or none."""
    origin = summary(facts) if answer.question == "genuine" and answer.verdict in ("pass", "notes") else None
    return answer if origin is None else replace(answer, sentence=_clip(f"{answer.sentence}; {origin}"))


def _passed_over(facts: Facts) -> Iterator[str]:
    """Files that a scanner that was used didn't look into, and those that nobody could read or came to."""
    census = facts.census
    for scan in census.scans:
        if scan.used and scan.skipped:
            first = ", ".join(f"{each.path} ({each.reason})" for each in scan.skipped[:3])
            more = f" and {scan.skipped_count - 3} more" if scan.skipped_count > 3 else ""
            yield _clip(f"{SCANNERS.get(scan.name, scan.name)} did not look into {first}{more}")
    if census.skipped_count:
        unread = census.skipped[0]
        yield _clip(f"{census.skipped_count} files can't be read, {unread.path} first ({unread.reason})")
    if census.truncated:
        yield f"the volume holds too many files: {census.files} were looked at, the rest was not"
    for problem in census.catalog_problems:
        yield _clip(f"what a security catalog vouches for isn't known: {problem}")


def _grade(answers: Sequence[Answer]) -> tuple[str, bool, str]:
    graded = [each for each in answers if each.question in GRADED]
    worst = max((each.worst for each in graded if each.worst is not None), key=rank, default=None)
    grade = GRADES[worst]
    blind = [each.question.capitalize() for each in graded if each.verdict == "unknown"]
    if blind and _ORDER.index(grade) < _ORDER.index(CAP):
        grade = CAP
    needed = [each for each in answers if each.question in _EXTRA]
    failed = [each.question.capitalize() for each in needed if each.verdict == "fail"]
    noted = [each.question.capitalize() for each in needed if each.worst is not None and each.worst == "medium"]
    unknown = [each.question.capitalize() for each in needed if each.verdict == "unknown"]
    if failed:
        return grade, False, f"Extra Quality is refused: {_and(failed)} failed"
    if unknown:
        return grade, False, f"Extra Quality can't be granted: {_and(unknown)} {_is(unknown)} unknown"
    if noted:
        return grade, False, f"Extra Quality is refused: {_and(noted)} {_is(noted)} not without faults"
    return grade, True, "Extra Quality: Sound, Complete, Clean and Portable pass"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _predict(platform: Platform, rows: Sequence[Finding | Unread], rules: Mapping[str, Rule]) -> Prediction:
    """The first thing that ends the start, in the machine's order."""
    ends = [row for row in rows if isinstance(row, Finding) and row.stage is not None]
    first = min(ends, key=lambda row: row.stage or 0, default=None)
    on = f"On {platform.title}"
    if first is not None and first.stage is not None:
        sentence = f"{on}: {first.consequence} ({first.where}: {first.evidence})."
        if first.stage == Stage.SHELL:
            sentence = f"{on}: would start, but with {first.consequence} ({first.where}: {first.evidence})."
        stage, remedy = first.stage.name.lower(), _remedy(rules[first.rule], platform)
        return Prediction(platform.name, platform.title, False, sentence, first.rule, stage, remedy)
    blind = [
        row
        for row in rows
        if isinstance(row, Unread) and rules[row.rule].required and rules[row.rule].question in _STARTING
    ]
    if blind:
        return Prediction(
            platform.name, platform.title, None, f"{on}: can't be told: {blind[0].reason}.", blind[0].rule
        )
    sentence = f"{on}: would start: nothing that Byre checks stands in the way from boot code to shell."
    return Prediction(platform.name, platform.title, True, sentence)


def _remedy(rule: Rule, platform: Platform) -> str:
    """What to change: for a controller that isn't found what that machine allows, on either side."""
    return platform.advice if rule.id == "PORT-001" else rule.remedy


_STARTING = ("sound", "complete", "portable")


def _system(facts: Facts) -> str | None:
    guest = facts.guest
    if guest is None:
        return None
    name = " ".join(filter(None, (guest.product.value or "an unnamed system", guest.service_pack.value)))
    return f"{name} in {guest.root} on partition {guest.volume}"

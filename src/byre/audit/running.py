"""Images audited: facts gathered or recalled, then judged. One image, or several on processes of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from byre.audit.baseline import Baseline, apply_baseline
from byre.audit.beside import look_beside, trusted_keys
from byre.audit.catalogue import OWN, installed_checks
from byre.audit.facts import Facts
from byre.audit.facts_cache import FactsCache, recall, remember
from byre.audit.gathering import gather
from byre.audit.judging import Report, Waiver, judge
from byre.audit.platforms import platform_named
from byre.audit.reference import compare, open_reference
from byre.audit.rule import QUESTIONS
from byre.audit.scanners import Scanners
from byre.audit.waivers import apply_waivers
from byre.disks.disk import Disk
from byre.errors import ByreError, MissingError, StorageError, UsageError

Progress = Callable[[str], None]

NO_SCANNERS = Scanners()
NEED_CENSUS = ("clean", "genuine")
"""The questions for which every file of the system's volume is read."""


def _quiet(stage: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of every image of an audit. ``opening`` goes to ``open_disk``; ``alone``: it is the only image;
    ``today`` decides which waivers have expired; ``reference``: the media (an ISO or a folder) or the image that it
    should come from; ``keys``: minisign's public keys that the user trusts, as text or as files."""

    targets: tuple[str, ...] = ("qemu",)
    only: tuple[str, ...] = ()
    scanners: Scanners = NO_SCANNERS
    opening: Mapping[str, Any] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()
    baseline: Baseline | None = None
    alone: bool = True
    cache: FactsCache | None = None
    today: date | None = None
    reference: str | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that couldn't be audited."""

    image: str
    error: ByreError


def audit(
    path: str | PathLike[str],
    *,
    targets: Sequence[str] = ("qemu",),
    only: Sequence[str] = (),
    scanners: Scanners = NO_SCANNERS,
    waivers: Sequence[Waiver] = (),
    baseline: Baseline | None = None,
    reference: str | None = None,
    keys: Sequence[str] = (),
    **opening: Any,
) -> Report:
    """Audit an image (``IMAGE`` or ``IMAGE@SNAPSHOT``). ``opening`` goes to ``open_disk``; nothing is changed, and
    nothing is kept in the cache. Raises UsageError for an unknown target or question, and whatever opening raises."""
    request = Request(
        targets=tuple(targets),
        only=tuple(only),
        scanners=scanners,
        waivers=tuple(waivers),
        baseline=baseline,
        opening=opening,
        reference=reference,
        keys=tuple(keys),
    )
    return audit_address(path, request)


def audit_address(path: str | PathLike[str], request: Request, progress: Progress = _quiet) -> Report:
    """Open an image and audit it as the request says."""
    from byre.disks.opening import open_disk

    check_request(request)
    with open_disk(path, **request.opening) as disk:
        return audit_opened(disk, fspath(path), request, progress)


def audit_disk(
    disk: Disk,
    *,
    name: str,
    targets: Sequence[str] = ("qemu",),
    only: Sequence[str] = (),
    scanners: Scanners = NO_SCANNERS,
    progress: Progress = _quiet,
) -> Report:
    """Audit an open disk. Raises UsageError for an unknown target or question, and what reading the disk raises."""
    request = Request(targets=tuple(targets), only=tuple(only), scanners=scanners)
    return audit_opened(disk, name, request, progress)


def audit_opened(disk: Disk, name: str, request: Request, progress: Progress = _quiet) -> Report:
    """Audit an open disk as the request says."""
    check_request(request)
    platforms = tuple(dict.fromkeys(platform_named(target) for target in request.targets))
    others, refused = installed_checks()
    facts = _with_outside(_facts(disk, name, request, progress), disk, request, progress)
    progress("rules")
    notices = [f"a check of another package can't be used: {each}" for each in refused]
    report = judge(facts, platforms, only=request.only or tuple(QUESTIONS), checks=(*OWN, *others), notices=notices)
    if request.waivers:
        report = apply_waivers(report, request.waivers, request.today or date.today())
    if request.baseline is not None:
        report = apply_baseline(report, request.baseline, alone=request.alone)
    return report


def check_request(request: Request) -> None:
    """Refuse an unknown machine or question before any work."""
    for target in request.targets:
        platform_named(target)
    for question in request.only:
        if question not in QUESTIONS:
            raise UsageError(f"there is no question {question!r}", hint=f"There are: {', '.join(QUESTIONS)}.")
    trusted_keys(request.keys)
    if request.reference is not None and not Path(request.reference).exists() and "@" not in request.reference:
        raise MissingError("the reference isn't there", path=request.reference)


def _facts(disk: Disk, name: str, request: Request, progress: Progress) -> Facts:
    asked = any(question in request.only for question in NEED_CENSUS)
    census = not request.only or asked or request.reference is not None
    scanners = request.scanners if census else None
    cache = request.cache if _repeatable(scanners) else None
    # A snapshot shares its file with the others: what says which one it is belongs to the key.
    about = f"{name}\0{sorted(request.opening.items(), key=str)!r}\0{scanners!r}"
    key, kept = recall(disk, about, cache)
    if kept is not None:
        progress("facts from the last audit")
        return replace(kept, image=name)
    facts = gather(disk, name=name, progress=progress, scanners=scanners)
    remember(disk, about, cache, key, facts)
    return facts


def _with_outside(facts: Facts, disk: Disk, request: Request, progress: Progress) -> Facts:
    """The facts with those that don't come from the image itself: what lies beside it, and the reference."""
    if not request.only or "genuine" in request.only:
        facts = replace(facts, beside=look_beside(disk, trusted_keys(request.keys), progress=progress))
    if request.reference is not None and facts.guest is not None:
        with open_reference(request.reference) as source:
            facts = replace(facts, reference=compare(facts, source, progress=progress))
    return facts


def _repeatable(scanners: Scanners | None) -> bool:
    """Whether they would say the same tomorrow: rules, signatures and lists outside the image may have changed."""
    return scanners is None or scanners == NO_SCANNERS


def audit_all(
    images: Sequence[str], request: Request, *, jobs: int, done: Callable[[int], None] = lambda count: None
) -> Iterator[Report | Failure]:
    """Audit several images, ``jobs`` at a time, each in a process of its own; told in the order of ``images``.
    ``done`` hears how many are finished. An image that can't be audited is a ``Failure``; the others go on."""
    check_request(request)
    jobs = min(jobs, len(images))
    if jobs <= 1:
        for number, image in enumerate(images, 1):
            yield _attempt(image, request)
            done(number)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # Spawned, not forked: the parent may have threads, and a fork would copy their locks as they are.
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    finished = False
    try:
        waiting = [pool.submit(_attempt, image, request) for image in images]
        # The pool notes a new process as one to watch when something else is handed in: without this a last
        # process that is killed would be waited for for ever (CPython 3.11).
        pool.submit(int)
        for number, (image, future) in enumerate(zip(images, waiting, strict=True), 1):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield Failure(image, _ended(image))
            done(number)
        finished = True
    finally:
        if not finished:
            # Whoever interrupts the audit doesn't want to wait for the images that are being read.
            for process in list(getattr(pool, "_processes", None) or {}):
                os.kill(process, signal.SIGTERM)
        pool.shutdown(wait=True, cancel_futures=True)


def _ended(image: str) -> ByreError:
    return StorageError(
        "the process that audited it, or one beside it, was ended from outside",
        path=image,
        hint="Perhaps memory was short: audit it by itself, or with fewer --jobs.",
    )


def _attempt(image: str, request: Request) -> Report | Failure:
    try:
        return audit_address(image, request)
    except ByreError as error:
        return Failure(image, error)

"""What ``convert --for TARGET`` makes, and the proof that the target takes it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from byre.convert.padding import fill_holes
from byre.convert.target_rules import FileFacts, Target
from byre.convert.targets import TargetReport, gather, verify
from byre.disks.formats import Format, format_for_suffix, format_named
from byre.disks.opening import open_disk
from byre.errors import UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.storage.publish import Publication


def format_for_target(target: Target, path: str, named: str | None) -> Format:
    """The format to write: as named, else what the file's suffix says, if the target takes that, else the
    target's own. Raises UsageError for a suffix of a format that the target doesn't take."""
    if named is not None:
        return format_named(named)
    own = format_named(target.format)
    said = format_for_suffix(path)
    if said is None or said is own:
        return own
    if not said.writes or not _takes(target, said, path):
        raise UsageError(
            f"{target.title} doesn't take {said.title}, which the name asks for",
            path=path,
            expected=f"a name with {target.suffix}",
            hint=f"'byre targets {target.name}' lists what it demands.",
        )
    return said


def options_for_target(target: Target, entry: Format) -> dict[str, object]:
    """The options that the target's files are made with; a format other than its own gets only what it knows."""
    if entry.name == target.format:
        return dict(target.options)
    return {name: value for name, value in target.options.items() if name == "sparse" and name in entry.options}


def made_for(wanted: Target, image: Publication, files: Sequence[Storage], entry: Format) -> TargetReport:
    """Fill holes where there must be none, and let the target's rules judge an image before it is published.

    Raises UnsupportedError for a broken rule, and where the files can't be looked at before that.
    """
    if not wanted.sparse:
        for storage in files:
            fill_holes(storage)
    with image.staged() as path:
        report = verify_file(path, image.name, entry, wanted)
    refuse_failures(report)
    return report


def verify_file(
    path: Path, shown: str, entry: Format, target: Target, *, delivered: Collection[Path] = ()
) -> TargetReport:
    """The target's verdict on a finished file at ``path``, which is, or will be, called ``shown``.

    A parent among ``delivered``, files that go there together with it, doesn't stay behind.
    """
    with open_disk(path, format=entry.name, with_backing=False, force_share=True) as disk:
        facts = gather(disk, shown)
    if facts.backing is not None and _parent_of(path, entry) in {os.path.realpath(each) for each in delivered}:
        facts = replace(facts, backing=None)
    return verify(facts, target)


def _parent_of(path: Path, entry: Format) -> str | None:
    """Where the parent lies that the image really opens with: formats name it by path, by UUID or by both."""
    with open_disk(path, format=entry.name, force_share=True) as disk:
        backing = disk.describe().backing
    return None if backing is None or backing.resolved is None else os.path.realpath(backing.resolved)


def worst_of(reports: Sequence[TargetReport], path: str) -> TargetReport:
    """One report for a set of files: of each rule the worst verdict, and which file it is about."""
    results = []
    for rows in zip(*(report.results for report in reports), strict=True):
        at = min(range(len(rows)), key=lambda index: ("fail", "unknown", "pass").index(rows[index].verdict))
        found = f"{PurePath(reports[at].path).name}: {rows[at].found}"
        results.append(replace(rows[at], found=found))
    return TargetReport(reports[0].target, path, tuple(results))


def refuse_failures(report: TargetReport) -> None:
    """UnsupportedError that names every rule the file breaks."""
    broken = report.having("fail")
    if not broken:
        return
    said = "; ".join(f"{result.rule.id}: {result.rule.says}, found {result.found}" for result in broken)
    raise UnsupportedError(
        f"{report.target.title} would not take it ({said})",
        path=report.path,
        hint=f"Nothing was written. 'byre targets {report.target.name}' gives the reasons.",
    )


def _takes(target: Target, entry: Format, path: str) -> bool:
    """Whether the target's rule about formats, if it has one, allows this one."""
    facts = FileFacts(
        name=PurePath(path).name,
        format=entry.name,
        subformat=None,
        virtual_size=0,
        sector_size=512,
        file_size=0,
        has_holes=None,
        backing=None,
        data_file=None,
        encrypted=False,
        snapshots=0,
        head=b"",
        tail=b"",
    )
    rules = [rule for rule in target.rules if rule.id.endswith(".format")]
    return all(rule.check(facts).holds is not False for rule in rules)


def uuid_options(entry: Format, details: Mapping[str, object], path: str | os.PathLike[str]) -> dict[str, object]:
    """The option that gives the new image the source's identity. Raises UsageError where either has none."""
    name = {"vdi": "uuid", "vhd": "uuid", "vmdk": "uuid", "vhdx": "disk_guid"}.get(entry.name)
    if name is None:
        raise UsageError(f"{entry.title} images have no UUID to keep", path=path)
    found = details.get("uuid") or details.get("disk_guid")
    ddb = details.get("ddb")
    if found is None and isinstance(ddb, Mapping):
        digits = "".join(letter for letter in str(ddb.get("ddb.uuid", "")) if letter.isalnum())
        found = digits if len(digits) == 32 else None
    if found is None:
        raise UsageError("the source has no UUID to keep", path=path, hint="Give one: -o uuid=...")
    return {name: found}

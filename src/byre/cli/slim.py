"""``byre slim``: an installed system made lean by plan and proof."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.cli.changing import (
    Saved,
    add_destination,
    apply_plan,
    byre_command,
    changing,
    check_destination,
    output_format,
    save,
)
from byre.cli.options import add_image
from byre.cli.output import Output
from byre.cli.progress import ticking
from byre.cli.publishing import publish, refuse_taken
from byre.cli.slim_boot import add_boot, boot_payload, check_boot, try_start
from byre.errors import ByreError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from byre.audit.facts import Facts
    from byre.disks.disk import Disk
    from byre.disks.scratch import ScratchDisk
    from byre.filesystems.opening import OpenVolume
    from byre.filesystems.unneeded import Unneeded
    from byre.lite.changes import Applied
    from byre.lite.proof import Planned, Proof
    from byre.lite.slimming.guest import SlimGuest
    from byre.lite.slimming.parts import Owned, SlimPlan
    from byre.lite.slimming.recipe import Recipe
    from byre.lite.starting import StartProof
    from byre.windows.components import Component
    from byre.windows.inspection import Inspection

SUMMARY = """\
Make an installed Windows lean: say what can go, what it is worth and what needs it; remove it on a copy; prove it.

Profiles: safe (what Windows makes anew), lean (also uninstallers, caches of setup, tours, samples), lite (also whole
optional components). A plan that would break what is kept is refused, with the chain of reasons."""
EXAMPLES = r"""
  byre slim --list xp.qcow2
  byre slim xp.qcow2 --profile lean --dry-run
  byre slim xp.qcow2 --profile lean -o lean.qcow2 --compress
  byre slim xp.qcow2 -o lean.qcow2 --boot                     written only if it still starts
  byre slim xp.qcow2 --profile none --drop games --drop 'C:\Drivers\**' --in-place
"""
VERDICTS = """\
   0 done, or the plan of a dry run holds
   1 refused: something that is kept needs what would go, or the result starts no more; nothing was written
   2 with --boot: written, but neither the result nor the image as it was starts"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument(
        "--list",
        action="store_true",
        help="the components in this image, with sizes and what depends on them; changes nothing",
    )
    group = parser.add_argument_group("what goes")
    group.add_argument("--profile", choices=("none", "safe", "lean", "lite"), help="safe where nothing is said")
    for name, said in (("--keep", "stays, whatever the profile says"), ("--drop", "goes as well")):
        group.add_argument(
            name, metavar="COMPONENT|GLOB", action="append", default=[], help=f"{said}; may be repeated"
        )
    group.add_argument(
        "--keep-needed", action="store_true", help="keep a component that something needs, rather than refuse"
    )
    group.add_argument("--recipe", metavar="FILE.toml", type=Path, help="profile, keep, drop and own components")
    parser.add_argument("--compress", action="store_true", help="with -o: compress the result")
    parser.add_argument("--report", metavar="FILE.html", type=Path, help="the result as a page")
    parser.add_argument(
        "--verify", action="store_true", help="read every file before and after, also those that can't have changed"
    )
    add_boot(parser)
    add_destination(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    if args.list:
        _refuse_with_list(args)
        args.dry_run = True
    check_destination(args)
    if args.report is not None:
        refuse_taken(args.report)
        if args.output and Path(args.output).resolve() == args.report.resolve():
            raise UsageError("the report and the result would have the same name", path=args.report)
    if args.compress and not args.output:
        raise UsageError("--compress belongs to -o")
    if args.compress:
        _check_compress(args)
    check_boot(args)
    recipe = _recipe(args)
    with changing(args) as (disk, work, inspection):
        return _Run(args, out, recipe, disk, work, inspection).go()


def _refuse_with_list(args: argparse.Namespace) -> None:
    """UsageError for what says how to slim, or where to: the list would pass over it in silence."""
    named = ("output", "in_place", "keep_as", "profile", "keep", "drop", "keep_needed", "compress", "report", "boot")
    given = [f"--{name.replace('_', '-')}" for name in (*named, "verify", "force") if getattr(args, name)]
    if given:
        raise UsageError(
            "--list changes nothing, and tells of every component",
            found=", ".join("-o" if name == "--output" else name for name in given),
            hint="Leave that out; --recipe alone belongs to it, for components of your own. --dry-run shows a plan.",
        )


def _check_compress(args: argparse.Namespace) -> None:
    entry = output_format(args.output)
    if "compress" not in entry.options:
        raise UsageError(f"{entry.name} images are not compressed", path=args.output)


def _recipe(args: argparse.Namespace) -> Recipe:
    from byre.lite.slimming.plan import Choice
    from byre.lite.slimming.recipe import Recipe, read_recipe, with_options

    recipe = read_recipe(args.recipe) if args.recipe is not None else Recipe(Choice())
    choice = with_options(
        recipe.choice, profile=args.profile, keep=args.keep, drop=args.drop, give_way=args.keep_needed
    )
    return replace(recipe, choice=choice)


class _Run:
    """One run of the verb. Mutable: it notes what each phase took, and the boot test that was made."""

    def __init__(
        self,
        args: argparse.Namespace,
        out: Output,
        recipe: Recipe,
        disk: Disk,
        work: ScratchDisk,
        inspection: Inspection,
    ) -> None:
        self.args, self.out, self.recipe = args, out, recipe
        self.disk, self.work, self.inspection = disk, work, inspection
        self.seconds: dict[str, float] = {}
        self.start: StartProof | None = None
        self.refusal: str | None = None

    def go(self) -> int:
        from byre.cli.slim_shown import show_list, show_result
        from byre.lite.slimming.guest import list_left, list_parts, owned_in
        from byre.reports.slim_json import slim_list_payload, slim_payload

        with self._phase("look"), self.out.progress("looking inside", unit="files") as bar, ticking(bar):
            facts, guest = self._look()
        components = _components(facts, self.recipe.components)
        if self.args.list:
            with self.out.progress("looking for what needs them", None, unit="programs") as bar:
                parts = list_parts(guest, components, bar.advance)
            listed = slim_list_payload(self.args.image, parts, list_left(guest, components))
            self.out.result("slim", listed, lambda console: show_list(console, listed))
            return 0
        with self._phase("plan"):
            owned = owned_in(guest, components)
            parts = list_parts(guest, components, owned=owned)
            plan = self._plan(guest, components, owned)
        payload = slim_payload(
            self.args.image, self.recipe.choice.profile, plan, parts, guest, dry_run=self.args.dry_run
        )
        payload["before"] = _taken(self.disk)
        if self.refusal is not None:
            payload["notes"].insert(0, self.refusal)
        if not plan.reasons and not self.args.dry_run:
            self._carry_out(facts, guest, plan, payload)
        payload["seconds"] = {name: round(taken, 3) for name, taken in self.seconds.items()}
        if self.args.report is not None:
            from byre.reports.html.slim_page import slim_page

            picture = self.start.after.screenshot if self.start is not None else None
            publish(self.args.report, slim_page(payload, picture))
        self.out.result("slim", payload, lambda console: show_result(console, payload))
        if payload["refused"]:
            return 1
        return 2 if self.start is not None and self.start.outcome != "starts" else 0

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - began

    def _look(self) -> tuple[Facts, SlimGuest]:
        from byre.audit.gathering import gather
        from byre.lite.slimming.drives import drives_of
        from byre.lite.slimming.guest import read_slim_guest

        facts = gather(self.disk, name=self.args.image, found=self.inspection, counting=False)
        if facts.guest is None:
            raise UnsupportedError("has no installed Windows", path=self.args.image, hint="'byre rm' removes files.")
        try:
            self._refuse_unsafe(facts)
        except ByreError as error:
            if not self.args.dry_run:
                raise
            self.refusal = f"this would be refused now: {error.what}"
            if self.args.list:
                self.out.notice(self.refusal)
        files = self._volume(facts.guest.volume).filesystem
        assert files is not None
        drives, notes = drives_of(self.inspection.volumes, facts)
        guest = read_slim_guest(files, facts, drives)
        return facts, replace(guest, notes=(*notes, *guest.notes))

    def _refuse_unsafe(self, facts: Facts) -> None:
        """Every volume has to be one that may be changed, whether the plan is about it or not: what it calls free is
        left out, and the proof checks it."""
        from byre.lite.applying import changeable, refuse_sleeping, refuse_unsafe

        refuse_sleeping(self.inspection.volumes)
        assert facts.guest is not None
        for volume in self.inspection.volumes:
            index = volume.partition.index
            if changeable(volume) or index == facts.guest.volume:
                state = facts.volume(index)
                refuse_unsafe(volume, state.check.value if state is not None else None)

    def _volume(self, partition: int) -> OpenVolume:
        return next(each for each in self.inspection.volumes if each.partition.index == partition)

    def _plan(self, guest: SlimGuest, components: tuple[Component, ...], owned: tuple[Owned, ...]) -> SlimPlan:
        from byre.lite.slimming.guest import plan_guest

        with self.out.progress("planning", None, unit="programs") as bar:
            return plan_guest(self.recipe.choice, guest, components, bar.advance, owned=owned)

    def _carry_out(self, facts: Facts, guest: SlimGuest, plan: SlimPlan, payload: dict[str, Any]) -> None:
        from byre.disks.left_out import LeftOutDisk
        from byre.filesystems.unneeded import find_unneeded
        from byre.lite.proof import Planned
        from byre.lite.slimming.guest import planned_changes
        from byre.reports.slim_json import proof_payload

        changes = planned_changes(guest, plan, image=self.args.image)
        if not changes and self.args.in_place:
            return
        with self._phase("change"):
            rows = [(self._volume(partition), each) for partition, each in changes.items()]
            applied = apply_plan(self.work, rows, self.out)
        with self._phase("prove"):
            unneeded = find_unneeded(self.work, checked_later=True)
            result = LeftOutDisk(self.work, unneeded.ranges)
            planned = [Planned(*each, done) for each, done in zip(changes.items(), applied, strict=True)]
            proof = self._prove(facts, plan, planned, result, unneeded)
        payload["proof"] = proof_payload(proof, guest)
        if self.args.boot:
            with self._phase("boot"):
                self.start = try_start(self.args, self.out, self.disk, result)
            payload["boot"] = boot_payload(self.start)
            if self.start.outcome == "worse":
                payload["refused"] = True
                return
        with self._phase("write"):
            saved = self._save(applied, unneeded)
        payload["output"], payload["snapshot"] = saved.path, saved.snapshot
        payload["after"] = self._size_of(saved)
        payload["freed"] = sum(each.freed for each in applied)
        payload["dropped_free"] = unneeded.free
        if saved.snapshot is not None:
            payload["give_back"] = _give_back(self.args.image, saved.snapshot)
        elif (
            payload["after"] > payload["before"]
            and not self.args.compress
            and "compress" in output_format(self.args.output).options
        ):
            payload["advice"] = (
                "larger than the image, which is compressed or in finer pieces; --compress makes it smaller"
            )

    def _size_of(self, saved: Saved) -> int:
        """As ``_taken`` counts. Nothing of a published file is read again: it stands, whatever that would say."""
        if saved.snapshot is not None:
            return _taken(self.disk)
        state = Path(self.args.output).stat()
        return min(state.st_size, state.st_blocks * 512)

    def _prove(
        self, facts: Facts, plan: SlimPlan, planned: Sequence[Planned], result: Disk, unneeded: Unneeded
    ) -> Proof:
        from byre.lite.proof import apart_of, prove
        from byre.windows.inspection import Inspection

        expected = {part.component.title for part in plan.parts}
        with self.out.progress("proving", unit="files") as bar, ticking(bar):
            after = Inspection(result, name=self.args.image)
            return prove(
                self.inspection,
                after,
                facts,
                planned,
                apart=apart_of(self.work, unneeded.ranges),
                expected=expected,
                leave_out=unneeded.files,
                read_all=self.args.verify,
            )

    def _save(self, applied: tuple[Applied, ...], unneeded: Unneeded) -> Saved:
        if not self.args.output:
            return save(self.args, self.disk, self.work, applied, self.out, verb="slim", left_out=unneeded.ranges)
        from byre.convert.convert import convert_image

        options = {"compress": True} if self.args.compress else {}
        with self.out.progress("writing", max(1, self.work.size - unneeded.free)) as bar:
            convert_image(
                self.work,
                self.args.output,
                output_format(self.args.output),
                options,
                force=self.args.force,
                left_out=[unneeded.ranges],
                advance=bar.advance,
            )
        return Saved(self.args.output, None, applied)


def _taken(disk: Disk) -> int:
    """Bytes that the files of an image take on the host, those of its backing images too: lengths without holes. Of
    raw disks and fixed ones, and of formats in large blocks, the lengths alone say little."""
    return sum(min(storage.size, storage.allocated) for storage in disk.files)


def _give_back(image: str, snapshot: str) -> str:
    """What gives up the state before, as it can be pasted into a shell."""
    delete = byre_command("snapshot delete", image, snapshot)
    return f"{delete} && {byre_command('compact', image)}"


def _components(facts: Facts, own: tuple[Component, ...]) -> tuple[Component, ...]:
    """Those of this kind of system; the owner's own win over those of the same id."""
    from byre.windows.components import built_in_components

    assert facts.guest is not None
    named = {"5.0": "win2000", "5.1": "winxp", "5.2": "win2003"}.get(facts.guest.version.value or "")
    system = "reactos" if facts.kind == "reactos" else named
    if system is None:
        raise UnsupportedError(
            "this kind of Windows isn't slimmed",
            path=facts.image,
            found=facts.guest.product.value,
            expected="Windows 2000, XP, 2003 or ReactOS",
        )
    mine = {each.id for each in own}
    listed = (*own, *(each for each in built_in_components() if each.id not in mine))
    return tuple(each for each in listed if system in each.systems)

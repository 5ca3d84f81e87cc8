"""``byre slim``: an installed system made lean by plan and proof."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.cli.changing import Saved, add_destination, apply_plan, changing, check_destination, save
from byre.cli.options import add_image
from byre.cli.output import Output
from byre.errors import ByreError, ExistsError, StorageError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from byre.audit.facts import Facts
    from byre.disks.disk import Disk
    from byre.disks.scratch import ScratchDisk
    from byre.filesystems.opening import OpenVolume
    from byre.filesystems.unneeded import Unneeded
    from byre.lite.changes import Applied, Change
    from byre.lite.proof import Proof
    from byre.lite.slim_guest import SlimGuest
    from byre.lite.slim_plan import SlimPlan
    from byre.lite.slim_recipe import Recipe
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
  byre slim xp.qcow2 --profile none --drop games --drop 'C:\Drivers\**' --in-place
"""
VERDICTS = """\
   0 done, or the plan of a dry run holds
   1 refused: something that is kept needs what would go; nothing was written"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument(
        "--list", action="store_true", help="the components in this image, with sizes; changes nothing"
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
    add_destination(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    if args.list:
        if args.output or args.in_place:
            raise UsageError("--list changes nothing", hint="Leave out -o and --in-place.")
        args.dry_run = True
    check_destination(args)
    if args.report is not None and (args.report.exists() or args.report.is_symlink()):
        raise ExistsError("the report is there already", path=args.report, hint="Choose another name or remove it.")
    if args.compress and not args.output:
        raise UsageError("--compress belongs to -o")
    recipe = _recipe(args)
    with changing(args) as (disk, work, inspection):
        return _Run(args, out, recipe, disk, work, inspection).go()


def _recipe(args: argparse.Namespace) -> Recipe:
    from byre.lite.slim_plan import Choice
    from byre.lite.slim_recipe import Recipe, read_recipe, with_options

    recipe = read_recipe(args.recipe) if args.recipe is not None else Recipe(Choice())
    choice = with_options(
        recipe.choice, profile=args.profile, keep=args.keep, drop=args.drop, give_way=args.keep_needed
    )
    return replace(recipe, choice=choice)


class _Run:
    """One run of the verb. Mutable only in what it is given."""

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

    def go(self) -> int:
        from byre.audit.gathering import gather
        from byre.cli.slim_shown import show_list, show_result
        from byre.lite.applying import refuse_unsafe
        from byre.lite.slim_guest import list_left, list_parts, read_slim_guest
        from byre.reports.slim_json import slim_list_payload, slim_payload

        facts = gather(self.disk, name=self.args.image)
        volume = self._volume(facts)
        try:
            refuse_unsafe(volume)
        except ByreError as error:
            if not self.args.dry_run:
                raise
            self.out.notice(f"this would be refused now: {error.what}")
        assert volume.filesystem is not None
        guest = read_slim_guest(volume.filesystem, facts)
        components = _components(facts, self.recipe.components)
        if self.args.list:
            with self.out.progress("looking for what needs them", None, unit="programs") as bar:
                parts = list_parts(guest, components, bar.advance)
            listed = slim_list_payload(self.args.image, parts, list_left(guest, components))
            self.out.result("slim", listed, lambda console: show_list(console, listed))
            return 0
        parts = list_parts(guest, components)
        plan = self._plan(guest, components)
        payload = slim_payload(self.args.image, self.recipe.choice.profile, plan, parts, dry_run=self.args.dry_run)
        payload["before"] = sum(storage.size for storage in self.disk.files)
        if not plan.reasons and not self.args.dry_run:
            self._carry_out(facts, volume, guest, plan, payload)
        if self.args.report is not None:
            from byre.reports.html.slim_page import slim_page

            _write(self.args.report, slim_page(payload))
        self.out.result("slim", payload, lambda console: show_result(console, payload))
        return 1 if plan.reasons else 0

    def _volume(self, facts: Facts) -> OpenVolume:
        if facts.guest is None:
            raise UnsupportedError("has no installed Windows", path=self.args.image, hint="'byre rm' removes files.")
        index = facts.guest.volume
        return next(each for each in self.inspection.volumes if each.partition.index == index)

    def _plan(self, guest: SlimGuest, components: tuple[Component, ...]) -> SlimPlan:
        from byre.lite.slim_guest import plan_guest

        with self.out.progress("planning", None, unit="programs") as bar:
            return plan_guest(self.recipe.choice, guest, components, bar.advance)

    def _carry_out(
        self, facts: Facts, volume: OpenVolume, guest: SlimGuest, plan: SlimPlan, payload: dict[str, Any]
    ) -> None:
        from byre.filesystems.unneeded import find_unneeded
        from byre.lite.changes import Applied
        from byre.lite.slim_guest import planned_changes

        changes = planned_changes(guest, plan, image=self.args.image)
        if not changes and self.args.in_place:
            return
        applied = apply_plan(self.work, [(volume, changes)], self.out) if changes else (Applied((), (), 0),)
        unneeded = find_unneeded(self.work)
        proof = self._prove(facts, volume, plan, changes, applied[0], unneeded)
        saved = self._save(applied, unneeded)
        payload["proof"] = {
            "compared": proof.compared,
            "written": proof.written,
            "gone": proof.gone,
            "audit": [{"question": row[0], "before": row[1], "after": row[2]} for row in proof.grades],
        }
        payload["output"], payload["snapshot"] = saved.path, saved.snapshot
        payload["after"] = Path(saved.path).stat().st_size if saved.path else None
        payload["freed"] = applied[0].freed
        payload["dropped_free"] = unneeded.free if self.args.output else 0
        if saved.snapshot is not None:
            self.out.notice(
                f"the image as it was is the snapshot {saved.snapshot!r}; space comes back only with: byre snapshot "
                f"delete {self.args.image} '{saved.snapshot}' && byre compact --drop-free {self.args.image}"
            )

    def _prove(
        self,
        facts: Facts,
        volume: OpenVolume,
        plan: SlimPlan,
        changes: list[Change],
        applied: Applied,
        unneeded: Unneeded,
    ) -> Proof:
        from byre.disks.left_out import LeftOutDisk
        from byre.lite.proof import prove_audit, prove_files

        after = LeftOutDisk(self.work, unneeded.ranges) if self.args.output else self.work
        with self.out.progress("proving", None, unit="files"):
            proof = prove_files(self.disk, after, volume.partition.index, changes, applied, leave_out=unneeded.files)
            expected = {part.component.title for part in plan.parts}
            return replace(proof, grades=prove_audit(facts, after, target="qemu", expected=expected))

    def _save(self, applied: tuple[Applied, ...], unneeded: Unneeded) -> Saved:
        if not self.args.output:
            return save(self.args, self.disk, self.work, applied, self.out, verb="slim")
        from byre.convert.convert import convert_image
        from byre.disks.formats import format_for_suffix, format_named

        entry = format_for_suffix(self.args.output) or format_named("qcow2")
        if self.args.compress and "compress" not in entry.options:
            raise UsageError(f"{entry.name} images are not compressed", path=self.args.output)
        options = {"compress": True} if self.args.compress else {}
        with self.out.progress("writing", self.work.size) as bar:
            convert_image(
                self.work,
                self.args.output,
                entry,
                options,
                force=self.args.force,
                left_out=[unneeded.ranges],
                advance=bar.advance,
            )
        return Saved(self.args.output, None, applied)


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


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:  # never over another file, the image least of all
            file.write(text)
    except FileExistsError as error:
        raise ExistsError("the report is there already", path=path) from error
    except OSError as error:
        raise StorageError(f"the report can't be written: {error.strerror}", path=path) from error

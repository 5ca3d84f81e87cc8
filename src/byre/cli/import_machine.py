"""``byre import``: a machine of another hypervisor as an image, its snapshots and a profile."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from byre.cli.layout import facts, title
from byre.cli.output import Output, printable
from byre.errors import ExistsError, UsageError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.machine.importing.running import Imported, Opened

SUMMARY = """\
Take over a machine of another hypervisor: its disks as images, with snapshots, and its settings as MACHINE.toml.

Devices and folders of the host and arguments for QEMU are left behind, and listed. FILE stays as it is."""
EXAMPLES = """
  byre import xp.ova
  byre import "VirtualBox VMs/xp/xp.vbox" -o xp
  byre import xp.vmx --dry-run
  byre import /etc/libvirt/qemu/xp.xml --allow-path /var/lib/libvirt/images
  byre import xp.utm --json
"""
VERDICTS = "   0 imported, or with --dry-run: it could be"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="an .ova, .ovf, .vbox, .vmx, libvirt domain XML or UTM bundle")
    parser.add_argument("-o", "--output", metavar="DIR", help="the new folder (default: the machine's name)")
    parser.add_argument(
        "--allow-path",
        metavar="DIR",
        action="append",
        default=[],
        help="FILE may also name disks beneath DIR; may be repeated",
    )
    parser.add_argument("--no-verify", action="store_true", help="don't check the digests of an OVF's manifest")
    parser.add_argument("--dry-run", action="store_true", help="print what would be imported and write nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that move data (default: one for each CPU)")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.machine.export.quoting import plain_name
    from byre.machine.importing.running import import_machine, open_machine

    if args.threads is not None and not 1 <= args.threads <= 64:
        raise UsageError("--threads is out of range", found=args.threads, expected="1 to 64")
    done: Imported | None = None
    with (
        out.progress("importing", None) as bar,
        open_machine(
            args.file, allow_paths=args.allow_path, check_manifest=not args.no_verify, advance=bar.advance
        ) as opened,
    ):
        output = args.output or plain_name(opened.description.name)
        if os.path.lexists(output):
            raise ExistsError("exists already", path=output, hint="Name another folder with -o.")
        if not args.dry_run:
            done = import_machine(opened, output, threads=args.threads, advance=bar.advance)
        payload = _payload(opened, done, output)
        sizes = [each.disk.size for each in opened.disks]
    out.result("import", payload, lambda console: _print(console, payload, sizes))
    return 0


def _payload(opened: Opened, done: Imported | None, output: str) -> dict[str, Any]:
    from byre.machine.profile import settings

    return {
        "file": opened.path,
        "kind": opened.description.kind,
        "name": opened.description.name,
        "output": output,
        "written": done is not None,
        "disks": [
            {
                "source": each.reference.path,
                "format": each.disk.format,
                "virtual_size": each.disk.size,
                "image": None if done is None else done.images[number],
                "snapshots": [state.name for state in each.states[:-1]],
            }
            for number, each in enumerate(opened.disks)
        ],
        "settings": dict(opened.settings),
        "machine": None
        if done is None
        else {name: {"value": choice.value, "reason": choice.reason} for name, choice in settings(done.machine)},
        "verified": opened.verified,
        "dropped": list(opened.description.dropped),
        "notes": list(opened.notes),
    }


def _print(console: Printer, payload: dict[str, Any], sizes: list[int]) -> None:
    title(console, f"{payload['file']}: {payload['kind']} {payload['name']}")
    rows = [
        ("disk", f"{disk['source']} ({disk['format']}, {format_size(size)})")
        for disk, size in zip(payload["disks"], sizes, strict=True)
    ]
    rows += [("snapshots", ", ".join(disk["snapshots"])) for disk in payload["disks"] if disk["snapshots"]]
    rows += [(name, _shown(name, value)) for name, value in payload["settings"].items()]
    if payload["verified"]:
        rows.append(("manifest", f"{payload['verified']} files are what it says"))
    facts(console, rows)
    for what in payload["dropped"]:
        console.print(f"  left behind: {printable(what)}")
    for note in payload["notes"]:
        console.print(f"  note: {printable(note)}")
    console.print()
    if not payload["written"]:
        console.print("  Nothing was written (--dry-run).")
        return
    images = [f"{payload['output']}/{disk['image']}" for disk in payload["disks"]]
    title(console, f"{', '.join(images)} and MACHINE.toml beside it")


def _shown(name: str, value: Any) -> str:
    if name == "memory":
        return format_size(int(value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return (", ".join(value) or "nothing") if isinstance(value, list) else str(value)

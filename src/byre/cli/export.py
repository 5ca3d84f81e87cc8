"""``byre export``: an image and its machine in the words of a hypervisor."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.cli.layout import facts, title
from byre.cli.options import add_image, open_image
from byre.cli.output import Output, printable
from byre.errors import ExistsError, UsageError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.machine.export.proxmox_api import Connection, Sent
    from byre.machine.export.running import Exported, Prepared

SUMMARY = """\
Hand an image and its machine to a hypervisor: the disk in the form it takes, settings in its own words, a README.

The plan is printed first. An image that would not start there is refused, unless --force is given."""
EXAMPLES = """
  byre export xp.qcow2 --to virtualbox
  byre export xp.qcow2@clean --to libvirt -o xp-libvirt
  byre export xp.qcow2 --to vmware -o xp.ova
  byre export xp.qcow2 --to qemu --with-snapshots --dry-run
  byre export xp.qcow2 --to proxmox --host pve.example --token-file ~/.pve-token --storage local-lvm
"""
VERDICTS = "   0 exported, or with --dry-run: it could be"
TARGETS = "libvirt, proxmox, virtualbox, vmware, esxi, hyperv, utm, kubevirt, qemu, vagrant"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("--to", dest="target", metavar="TARGET", required=True, help=TARGETS)
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="the new folder or file (default: from the image's name)"
    )
    parser.add_argument(
        "--form",
        metavar="FORM",
        help="virtualbox: ova, vbox; vmware: vmx, ova; hyperv: vhdx, vhd; libvirt: kvm, qemu; vagrant: libvirt, "
        "virtualbox (the first is the default)",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting of the machine, as 'byre run' has it",
    )
    parser.add_argument(
        "--with-snapshots", action="store_true", help="take the snapshots along (libvirt, virtualbox, qemu, utm)"
    )
    parser.add_argument("--digest", choices=("sha256", "sha1"), default="sha256", help="of an OVA's manifest")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    parser.add_argument("--force", action="store_true", help="export it though it would not start there")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that move data (default: one for each CPU)")
    api = parser.add_argument_group("proxmox, through its API")
    api.add_argument("--host", metavar="HOST[:PORT]", help="upload the disk and make the machine there")
    api.add_argument("--node", metavar="NAME", help="the node (default: the only one)")
    api.add_argument("--storage", metavar="NAME", default="local-lvm", help="for the machine's disk (local-lvm)")
    api.add_argument(
        "--upload-to", metavar="NAME", default="local", help="storage with content type 'import' (local)"
    )
    api.add_argument("--vmid", type=int, metavar="N", help="the machine's number (default: the next free one)")
    api.add_argument(
        "--token-file", metavar="FILE", help="file with USER@REALM!NAME=SECRET (default: $BYRE_PROXMOX_TOKEN)"
    )
    api.add_argument("--ca", metavar="FILE", help="certificate that the host's is checked against (PEM)")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.machine.export.running import check_allowed, export, prepare
    from byre.machine.export.targets import export_target
    from byre.machine.overrides import parse_settings
    from byre.machine.reading import beside, gather_evidence, settled

    if args.threads is not None and not 1 <= args.threads <= 64:
        raise UsageError("--threads is out of range", found=args.threads, expected="1 to 64")
    target = export_target(args.target)
    form = target.form(args.form, args.output, with_snapshots=args.with_snapshots)
    connection = _connection(args)
    overrides = parse_settings(args.set)
    with open_image(args, out=out) as disk:
        with out.progress("looking at the guest"):
            evidence = gather_evidence(disk, name=args.image)
        machine = settled(evidence, _profile_target(target.name, form), (*beside(args.image), *overrides))
        prepared = prepare(
            target,
            form,
            disk,
            machine,
            evidence,
            source=args.image,
            with_snapshots=args.with_snapshots,
            digest=args.digest,
        )
        output = args.output or prepared.plan.name
        if prepared.plan.shape == "ova" and not str(output).lower().endswith(".ova"):
            raise UsageError("an OVA is known by its name", path=output, hint=f"Name it so: -o {output}.ova")
        if connection is None and os.path.lexists(output):
            raise ExistsError("exists already", path=output, hint="Name another one with -o.")
        if not out.json:
            where = output if connection is None else f"{args.host}, by its API"
            _print_plan(out.console(), prepared, where, files=connection is None, forced=args.force)
        check_allowed(prepared, force=args.force)
        if args.dry_run:
            out.result("export", _payload(prepared, None, None, None), lambda console: _nothing(console))
            return 0
        done: Exported | None = None
        sent: Sent | None = None
        with out.progress("exporting", None) as bar:
            if connection is not None:
                from byre.machine.export.proxmox_api import send

                sent = send(prepared, disk, connection, threads=args.threads, advance=bar.advance)
            else:
                done = export(prepared, disk, output, threads=args.threads, advance=bar.advance)
    out.result(
        "export", _payload(prepared, output, done, sent), lambda console: _print_done(console, prepared, done, sent)
    )
    return 0


def _profile_target(name: str, form: str) -> str:
    """The row of the profile's own table: a box's machine is that of its provider."""
    return form if name == "vagrant" else name


def _connection(args: argparse.Namespace) -> Connection | None:
    if args.host is None:
        if args.token_file is not None or args.vmid is not None or args.node is not None or args.ca is not None:
            raise UsageError("--token-file, --vmid, --node and --ca go with --host")
        return None
    if args.target.lower() != "proxmox":
        raise UsageError("--host goes with --to proxmox")
    if args.output is not None:
        raise UsageError("--host writes nothing here", found=f"-o {args.output}")
    if args.dry_run:
        raise UsageError("--dry-run goes without --host", hint="The plan is the same.")
    from byre.machine.export.proxmox_api import Connection, read_token

    return Connection(
        host=args.host,
        token=read_token(args.token_file),
        node=args.node,
        storage=args.storage,
        upload_to=args.upload_to,
        vmid=args.vmid,
        ca=args.ca,
    )


def _payload(prepared: Prepared, output: str | None, done: Exported | None, sent: Sent | None) -> dict[str, Any]:
    plan = prepared.plan
    return {
        "target": plan.target,
        "form": prepared.subject.form,
        "image": prepared.subject.source,
        "output": done.path if done is not None else None,
        "host": None if sent is None else {"node": sent.node, "vmid": sent.vmid, "volume": sent.volume},
        "machine": dict(plan.settings),
        "controller": plan.controller,
        "files": [plan.disk.path, *plan.texts] if done is None else list(done.files),
        "disk": {"path": plan.disk.path, "format": plan.disk.format, "virtual_size": prepared.subject.disk_size},
        "snapshots": [each.name for each in prepared.subject.snapshots],
        "import": list(plan.lines),
        "notes": list(plan.notes),
        "doubts": list(prepared.doubts),
        "refusals": [{"reason": each.reason, "forceable": each.forceable} for each in prepared.refusals],
        "texts": {text.path: text.text for text in prepared.texts()} if done is None and sent is None else None,
    }


def _print_plan(console: Printer, prepared: Prepared, output: str, *, files: bool, forced: bool) -> None:
    plan = prepared.plan
    title(console, f"{prepared.subject.source} to {plan.title}")
    size = format_size(prepared.subject.disk_size)
    rows = [
        ("into", output),
        ("disk", f"{plan.disk.path} ({plan.disk.format}, {size})"),
        *([("files", ", ".join(plan.texts))] if files else []),
        *plan.settings,
    ]
    if prepared.subject.snapshots:
        rows.append(("snapshots", ", ".join(each.name for each in prepared.subject.snapshots)))
    facts(console, rows)
    for note in plan.notes:
        console.print(f"  note: {printable(note)}")
    for doubt in prepared.doubts:
        console.print(f"  not known: {printable(doubt)}")
    if forced:  # else they are the error that follows
        for refusal in prepared.refusals:
            console.print(f"  in spite of: {printable(refusal.reason)}", style="bold red")


def _nothing(console: Printer) -> None:
    console.print()
    console.print("  Nothing was written (--dry-run).")


def _print_done(console: Printer, prepared: Prepared, done: Exported | None, sent: Sent | None) -> None:
    console.print()
    if sent is not None:
        title(console, f"machine {sent.vmid} on {sent.node}")
        console.print(f"  Start it with: qm start {sent.vmid}")
        return
    assert done is not None
    title(console, f"{done.path}: {format_size(done.disk.file_size)} of disk")
    folder = Path(done.path) if prepared.plan.shape == "folder" else Path(done.path).parent
    console.print(f"  To import it, in {printable(str(folder))}:")
    for line in prepared.plan.lines:
        # An archive may have been given another name than the plan's; a folder's files keep theirs.
        name = shlex.quote(Path(done.path).name)
        said = line if prepared.plan.shape == "folder" else line.replace(prepared.plan.name, name)
        console.print(f"    {printable(said)}")

"""``byre pe``: one program, DLL or driver, and what it needs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.cli.guest_paths import add_guest, opened
from byre.cli.layout import facts, table, title
from byre.cli.output import Output, printable
from byre.errors import StorageError, UsageError

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.windows.closure import Closure, Need
    from byre.windows.pe import PeFile
    from byre.windows.pe.signature import Signature

SUMMARY = "Say what a program, DLL or driver is: headers, imports, exports, version, signature; what it needs."
EXAMPLES = r"""
  byre pe xp.qcow2 'C:\WINDOWS\system32\winlogon.exe'
  byre pe xp.qcow2 /WINDOWS/system32/drivers/atapi.sys --closure
  byre pe setup.exe --json                                a file of this machine
"""
VERDICTS = "   0 told; with --closure: everything that it needs is there\n   1 with --closure: something is missing"
SHOWN = 12


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, path="?", default="")
    parser.add_argument("--closure", action="store_true", help="what it needs, where that is, and what is missing")
    parser.add_argument("--all", action="store_true", help="show lists whole")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.windows.pe import parse_pe

    if not args.path:
        if args.closure:
            raise UsageError("--closure needs an image to look in", found=args.image)
        pe = parse_pe(host_file(args.image), path=args.image)
        _result(args, out, pe, None)
        return 0
    with opened(args) as guest:
        place = guest.locate(args.path)
        if place.entry.is_dir:
            raise UsageError("is a folder", path=args.path)
        from byre.windows.pe.file import MAX_PE

        pe = parse_pe(place.files.read(place.entry, length=MAX_PE), path=place.entry.path)
        closure = None
        if args.closure:
            from byre.windows.closure import LoaderView, Resolver
            from byre.windows.guest_modules import GuestModules, loader_view

            root = next((root for volume, root in guest.roots if volume is place.volume), None)
            if root is None:
                out.notice("no installed system on this volume: only the file's own folder is searched")
            view = LoaderView("/WINDOWS") if root is None else loader_view(place.files, root)
            closure = Resolver(GuestModules(place.files, view.root), view).closure(place.entry.path)
        _result(args, out, pe, closure)
    return 1 if closure is not None and (closure.missing or any(n.error for n in closure.nodes)) else 0


def host_file(name: str) -> bytes:
    """A file of this machine; UsageError where it isn't a program, since then it may be an image without PATH."""
    from byre.windows.pe.file import MAX_PE

    try:
        with Path(name).open("rb") as file:
            data = file.read(2)
            if data != b"MZ":
                raise UsageError("is no program, and no PATH inside an image is given", path=name)
            return data + file.read(MAX_PE)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise UsageError("is no file here; for an image, give a PATH inside it", path=name) from error
        raise StorageError(f"can't be read: {error.strerror}", path=name) from error


def _result(args: argparse.Namespace, out: Output, pe: PeFile, closure: Closure | None) -> None:
    payload: dict[str, Any] = {"image": args.image if args.path else None, **as_json(pe)}
    payload["closure"] = None if closure is None else closure_json(closure)

    def text(console: Printer) -> None:
        if closure is None:
            _print(console, pe, whole=args.all)
        else:
            _print_closure(console, closure, whole=args.all)

    out.result("pe", payload, text)
    for problem in pe.problems:
        out.notice(f"{pe.path}: {problem.what}")


def as_json(pe: PeFile) -> dict[str, Any]:
    """All of a PE file but its bytes. Reading the parts first gathers their problems."""
    head = pe.headers
    version, signature = pe.version, pe.signature
    payload: dict[str, Any] = {
        "path": pe.path,
        "size": len(pe.data),
        "machine": head.machine_name,
        "subsystem": head.subsystem_name,
        "dll": head.is_dll,
        "timestamp": timestamp(head.timestamp),
        "entry_point": head.entry_point,
        "image_base": head.image_base,
        "size_of_image": head.size_of_image,
        "os_version": list(head.os_version),
        "subsystem_version": list(head.subsystem_version),
        "truncated": pe.truncated,
        "checksum": {
            "stored": head.checksum,
            "computed": pe.computed_checksum,
            "valid": head.checksum == pe.computed_checksum if head.checksum else None,
        },
        "sections": head.sections,
        "version": None if version is None else _version_json(pe),
        "signature": signature,
        "imports": [
            {
                "dll": row.dll,
                "delay": row.delay,
                "bound": row.bound,
                "symbols": [symbol.name if symbol.name is not None else symbol.ordinal for symbol in row.symbols],
            }
            for row in pe.imports
        ],
        "export_name": pe.export_name,
        "exports": [{"name": row.name, "ordinal": row.ordinal, "forwarder": row.forwarder} for row in pe.exports],
        "debug": [row._asdict() for row in pe.debug],
    }
    payload["problems"] = [problem.what for problem in pe.problems]
    return payload


def _version_json(pe: PeFile) -> dict[str, Any]:
    assert pe.version is not None
    return {
        "file": ".".join(map(str, pe.version.file_version)),
        "product": ".".join(map(str, pe.version.product_version)),
        "language": pe.version.language,
        "strings": pe.version.strings,
    }


def timestamp(seconds: int) -> str | None:
    from byre.reports.entries import time_text

    return time_text(seconds * 1_000_000_000) if seconds else None


def closure_json(closure: Closure) -> dict[str, Any]:
    return {
        "complete": closure.complete,
        "missing": [{"module": node.path, **_need_json(need)} for node, need in closure.missing],
        "missing_later": [{"module": node.path, **_need_json(need)} for node, need in closure.missing_later],
        "unreadable": [{"module": node.path, "reason": node.error} for node in closure.nodes if node.error],
        "modules": [
            {
                "path": node.path,
                "kernel": node.kernel,
                "delayed": node.delayed,
                "needs": [_need_json(need) for need in node.needs],
            }
            for node in closure.nodes
        ],
    }


def _need_json(need: Need) -> dict[str, Any]:
    return {
        "dll": need.dll,
        "path": need.path,
        "how": need.how,
        "delay": need.delay,
        "missing": need.missing,
        "reason": need.reason,
    }


def _print(console: Printer, pe: PeFile, *, whole: bool) -> None:
    head = pe.headers
    title(console, pe.path)
    stored = "none" if not head.checksum else "right" if head.checksum == pe.computed_checksum else "wrong"
    kind = "DLL" if head.is_dll else "driver" if head.subsystem_name == "native" else "program"
    rows = [
        (
            "kind",
            f"{kind} for {head.machine_name}, {head.subsystem_name} {'.'.join(map(str, head.subsystem_version))}",
        ),
        ("linked", timestamp(head.timestamp) or "no time"),
        ("checksum", stored),
        ("signature", signature_text(pe.signature)),
        ("sections", ", ".join(section.name or "(no name)" for section in head.sections)),
    ]
    if pe.version is not None:
        rows.append(("version", ".".join(map(str, pe.version.file_version))))
        rows += [(key, value) for key, value in list(pe.version.strings.items())[: None if whole else SHOWN]]
    rows += [("debug", entry.pdb) for entry in pe.debug if entry.pdb]
    facts(console, rows)
    if pe.imports:
        cells = []
        for row in pe.imports:
            names = [symbol.name if symbol.name is not None else f"#{symbol.ordinal}" for symbol in row.symbols]
            cells.append([row.dll, "delayed" if row.delay else "", _few(names, whole)])
        table(console, ["imports from", "", "what"], cells)
    if pe.exports:
        title(console, f"  exports as {pe.export_name or 'nothing'}: {len(pe.exports)}")
        shown = pe.exports if whole else pe.exports[:SHOWN]
        facts(
            console,
            [
                (str(row.ordinal), f"{row.name or ''}{f' -> {row.forwarder}' if row.forwarder else ''}".strip())
                for row in shown
            ],
            indent="    ",
        )
        if len(shown) < len(pe.exports):
            console.print(f"    ... {len(pe.exports) - len(shown)} more: --all")


def _few(names: list[str], whole: bool) -> str:
    shown = names if whole else names[:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def signature_text(signature: Signature | None) -> str:
    """What an embedded signature is worth, in words."""
    if signature is None:
        return "none in the file (it may be in a catalog)"
    if signature.digest_valid is None:
        return f"there, but {signature.reason}"
    state = "matches the file" if signature.digest_valid else "DOESN'T match the file: it was changed"
    return f"{signature.digest_algorithm} digest {state}; signer {signature.signer or 'unknown'}"


def _print_closure(console: Printer, closure: Closure, *, whole: bool) -> None:
    title(console, closure.start)
    hows: dict[str, str] = {}
    for node in closure.nodes:
        for need in node.needs:
            if need.path is not None:
                hows.setdefault(need.path, need.how or "")
    rows = [
        [node.path, hows.get(node.path, ""), node.error or ("only when called" if node.delayed else "")]
        for node in closure.nodes[1:]
    ]
    cut = rows if whole else rows[: 4 * SHOWN]
    if cut:
        table(console, ["needs", "found in", ""], cut)
    if len(cut) < len(rows):
        console.print(f"  ... {len(rows) - len(cut)} more: --all")
    for label, pairs in (("missing", closure.missing), ("missing when called", closure.missing_later)):
        if pairs:
            table(console, [label, "asked for by", ""], [[n.dll, node.path, n.reason or ""] for node, n in pairs])
    if not closure.missing and not any(node.error for node in closure.nodes):
        console.print(printable(f"  all {len(closure.nodes) - 1} modules that it needs are there"))

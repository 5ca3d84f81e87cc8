"""``byre screenshot``: what a running machine shows, as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from byre.cli.output import Output
from byre.errors import StorageError, UsageError

SUMMARY = "Save what a running machine's screen shows, as PNG or PPM."
EXAMPLES = """
  byre screenshot xp               to xp.png
  byre screenshot xp -o now.png --force
"""
VERDICTS = "   0 saved"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the machine's name as 'byre ps' shows it, or its image")
    group = parser.add_argument_group("the picture")
    group.add_argument("-o", "--output", metavar="FILE", help="where to: .png or .ppm (default: NAME.png)")
    group.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.machine.picture import encode_png, parse_ppm
    from byre.machine.qemu.process import monitor
    from byre.machine.runs import find
    from byre.storage.publish import Publication

    found = find(args.name)
    target = Path(args.output or f"{found.name}.png")
    if target.suffix.lower() not in (".png", ".ppm"):
        raise UsageError("the picture is .png or .ppm", path=target)
    dump = found.folder / "screen.ppm"
    with Publication(target, force=args.force) as publication:
        try:
            with monitor(found.folder) as qmp:
                qmp.execute("screendump", filename=str(dump))
            data = dump.read_bytes()
        except OSError as error:
            raise StorageError(f"QEMU's picture can't be read: {error.strerror}", path=dump) from error
        finally:
            dump.unlink(missing_ok=True)
        picture = parse_ppm(data, path=str(dump))
        publication.storage.write(0, data if target.suffix.lower() == ".ppm" else encode_png(picture))
    payload = {"name": found.name, "file": target, "width": picture.width, "height": picture.height}
    out.result("screenshot", payload, lambda console: console.print(f"{target}: {picture.width}x{picture.height}"))
    return 0

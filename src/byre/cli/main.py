"""``byre VERB …``: finds the verb, runs it, turns its error into one paragraph and one exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol, cast

from byre import __version__
from byre.cli.output import Output
from byre.errors import ByreError, InterruptedByUserError, UsageError

VERBS: dict[str, str] = {
    "info": "what an image is: format, sizes, snapshots, backing chain, locks",
    "create": "a new, empty image, or an overlay over a backing image",
    "convert": "a disk or a snapshot as a new image of any format",
    "compare": "whether two disks are the same, and every range that differs",
    "map": "where the bytes of a disk lie",
    "read": "a byte range of a disk, as bytes or a hex dump",
}
"""Every verb and its one line, in the order of the help. A verb's module is imported only when it is used."""

STATUSES = """\
  64 usage   65 corrupt input   66 missing   69 unsupported   73 target exists
  74 I/O     75 locked          77 refused reference          130 interrupted"""


class Verb(Protocol):
    """What a verb's module offers. ``EXAMPLES`` and ``VERDICTS`` (the exit statuses 0 to 3) go into its help."""

    SUMMARY: str
    EXAMPLES: str
    VERDICTS: str

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, out: Output) -> int: ...


class _Parser(argparse.ArgumentParser):
    """argparse with our exit status for usage errors, and errors that are raised rather than printed."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"See '{self.prog} --help'.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    # numpy's linear algebra, which nothing here uses, would start a thread for each CPU when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    out = Output(json="--json" in words, debug="--debug" in words)
    try:
        return _run(words, out)
    except ByreError as error:
        out.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        out.error(InterruptedByUserError("interrupted; nothing half-made was left behind"))
        return InterruptedByUserError.exit_code
    except BrokenPipeError:
        out.silence()
        return 141
    finally:
        out.close()


def _run(words: list[str], out: Output) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"byre {__version__}")
        return 0
    name = words[0]
    if name not in VERBS:
        from difflib import get_close_matches

        close = get_close_matches(name, VERBS, 1)
        hint = f"Did you mean 'byre {close[0]}'?" if close else "'byre --help' lists the verbs."
        raise UsageError(f"there is no verb {name!r}", hint=hint)
    verb = cast(Verb, import_module(f"byre.cli.{name.replace('-', '_')}"))
    parser = build_parser(name, verb)
    try:
        args = parser.parse_args(words[1:])
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else 64
    out.configure(progress=args.progress)
    return verb.run(args, out)


def build_parser(name: str, verb: Verb) -> argparse.ArgumentParser:
    """The parser of one verb, with what every verb has: --json, --progress, --debug, examples, statuses."""
    epilog = f"examples:\n{verb.EXAMPLES.strip(chr(10))}\n\nexit status:\n{verb.VERDICTS.strip(chr(10))}\n{STATUSES}"
    parser = _Parser(
        prog=f"byre {name}",
        description=verb.SUMMARY,
        epilog=epilog.replace("%", "%%"),
        formatter_class=_help_formatter,
        allow_abbrev=False,
    )
    verb.configure(parser)
    shared = parser.add_argument_group("output")
    shared.add_argument("--json", action="store_true", help=f"print one JSON object, schema byre/{name}/1")
    shared.add_argument(
        "--progress",
        choices=("auto", "json", "none"),
        default="auto",
        help="on stderr: a bar where it is a terminal (auto), JSON lines, or none",
    )
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    """Made only when help is printed: its import takes longer than many a verb."""
    from rich_argparse import RawDescriptionRichHelpFormatter

    return RawDescriptionRichHelpFormatter(prog)


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in VERBS.items())
    return f"""\
usage: byre VERB IMAGE ... [--json] [--help]

A home for the disk images of legacy machines: qcow2 first, no root, no helper VM, no qemu-img.
IMAGE is a path, or IMAGE@SNAPSHOT for the disk as it was in an internal snapshot.

verbs ('byre VERB --help' has examples and exit statuses):
{verbs}

exit status: 0 to 3 are a verb's verdict; a failure is 64 or more:
{STATUSES}"""


if __name__ == "__main__":
    sys.exit(main())

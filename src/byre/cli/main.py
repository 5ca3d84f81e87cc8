"""``byre VERB …``: finds the verb, runs it, turns its error into one paragraph and one exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from byre import __version__
from byre.cli.output import Output
from byre.errors import ByreError, InterruptedByUserError, StorageError, UsageError

if TYPE_CHECKING:
    from types import FrameType

VERBS: dict[str, str] = {
    "audit": "will it boot, where, and what is wrong with it: an image held against the standard",
    "explain": "one rule of the standard: why it matters, what it looks like, how to mend it",
    "known": "lists of known hashes, good and bad, that audits ask",
    "boot": "the boot test: does it reach a desktop or a prompt, and if not, what did it die of",
    "info": "what an image is: format, sizes, snapshots, backing chain, locks",
    "inspect": "what is on a disk: partitions, file systems, the installed system and what starts with it",
    "create": "a new, empty image, or an overlay over a backing image",
    "convert": "a disk or a snapshot as a new image of any format",
    "export": "an image and its machine in a hypervisor's own words, ready to import",
    "import": "a machine of another hypervisor as an image, its snapshots and a profile",
    "snapshot": "list, create, revert to, delete and rename internal snapshots",
    "check": "check an image's own metadata, and repair it",
    "compact": "give unused space back to the host, in place or as a copy",
    "resize": "another virtual size, in place",
    "map": "where the bytes of a disk lie",
    "compare": "whether two disks are the same, and every range that differs",
    "diff": "what changed between two disks or snapshots: files, registry, what starts by itself",
    "read": "a byte range of a disk, as bytes or a hex dump",
    "commit": "write what an overlay holds into its backing image",
    "rebase": "put an overlay onto another backing image, or onto none",
    "ls": "list a folder inside the guest",
    "tree": "a folder inside the guest with everything below it",
    "find": "files inside the guest by name, size and time",
    "stat": "all of one file: times, streams, where its bytes lie on the disk",
    "cat": "a file inside the guest, on stdout",
    "cp": "files and trees out of the guest",
    "put": "a file or folder of the host into the guest",
    "rm": "remove files and folders of the guest",
    "mend": "what keeps the guest from booting elsewhere, put right",
    "slim": "an installed system made lean: a plan, what would break, the removal, a proof",
    "hash": "digests of files inside the guest",
    "reg": "the guest's registry, or a hive file: look, export as regedit does, set, delete, import",
    "pe": "a program or DLL: imports, exports, version, signature; what it needs and what is missing",
    "du": "where the space went: folders, known kinds of waste, free space that the image still stores",
    "serve": "serve an image, a snapshot or a partition read-only over NBD",
    "profile": "the machine that an image wants, each setting with its reason",
    "run": "start an image under QEMU without risk: throwaway overlay, no network",
    "ps": "the machines that run",
    "stop": "shut a running machine down, or end it",
    "screenshot": "what a running machine shows, as a picture",
    "type": "keys pressed in a running machine",
    "savevm": "a running machine as an internal snapshot, memory included",
    "loadvm": "a running machine back at an internal snapshot",
    "targets": "where an image can go, what is made for it and what each place demands",
}
"""Every verb and its one line, in the order of the help. A verb's module is imported only when it is used."""
MODULES = {"import": "import_machine"}
"""Verbs whose name can't be a module's."""

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


BROKEN_PIPE_STATUS = 141
"""What a shell reports for a program that SIGPIPE ended: nobody reads the output any more."""


class _Parser(argparse.ArgumentParser):
    """argparse with our exit status for usage errors, and errors that are raised rather than printed."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"See '{self.prog} --help'.")

    def format_help(self) -> str:
        # Only here: the imports that a handsome page takes are half of what a verb needs to start.
        self.formatter_class = _help_formatter
        self.description = _wrapped(self.description or "")
        return super().format_help()

    def check_options(self, words: Sequence[str]) -> None:
        """A mistyped option is named, with the nearest one that exists, before argparse complains of what it hid."""
        known = _options_of(self)
        for word in words:
            if word == "--":
                return
            option = word.partition("=")[0]
            if option.startswith("--") and option not in known:
                hint = f"See '{self.prog} --help'."
                close = _closest(option, known)
                raise UsageError(
                    f"there is no option {option!r}", hint=f"Did you mean '{close}'? {hint}" if close else hint
                )


def _options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Every option that the parser or one of its subcommands knows."""
    known = list(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                known += _options_of(below)
    return known


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    # numpy's linear algebra, which nothing here uses, would start a thread for each CPU when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    before_dashes = words[: words.index("--")] if "--" in words else words
    out = Output(json="--json" in before_dashes, debug="--debug" in before_dashes)
    _stop_on_signals()
    status = 0
    try:
        status = _guarded(words, out)
        # What is still in the buffer can fail as any other write: a full disk, a reader that has gone.
        out.flush()
    except BrokenPipeError:
        out.silence()
        return BROKEN_PIPE_STATUS
    except OSError as error:
        out.silence()
        if status < UsageError.exit_code:  # else that has been told, and is the first cause
            print(f"byre: the result can't be written: {error.strerror}.", file=sys.stderr)
            return StorageError.exit_code
    except KeyboardInterrupt:  # while the error was being told, or at the very end
        out.silence()
        return InterruptedByUserError.exit_code
    return status


def _guarded(words: list[str], out: Output) -> int:
    """Run the verb; whatever it raises is told, and becomes an exit status."""
    try:
        return _run(words, out)
    except ByreError as error:
        out.error(error)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        stopped = InterruptedByUserError("interrupted; nothing half-made was left behind")
        stopped.__cause__ = interrupt
        out.error(stopped)
        return stopped.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        what = error.strerror or str(error)
        path = _path_of(error)
        # Images' own files raise StorageError with their path: without one it is most likely stdout.
        refused = StorageError(what if path else f"the operating system refused: {what}", path=path)
        refused.__cause__ = error
        out.error(refused)
        return refused.exit_code
    except Exception as error:
        from byre.cli.crash import describe_crash

        crash = describe_crash(error, words)
        out.error(crash)
        return crash.exit_code


def _path_of(error: OSError) -> str | None:
    name = error.filename
    return (
        name.decode(errors="backslashreplace") if isinstance(name, bytes) else name if isinstance(name, str) else None
    )


def _stop_on_signals() -> None:
    """A polite end from outside takes the path of Ctrl-C, so that temporary files go and images stay whole.

    A signal that is ignored stays so: that is what nohup asks for.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _closest(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), 1)), None)


def _run(words: list[str], out: Output) -> int:
    if not words or words[0] in ("-h", "--help") or words == ["help"]:
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"byre {__version__}")
        return 0
    if words[0] == "help":  # 'byre help info', as git and apt have it
        words = [words[1], "--help"]
    name = words[0]
    if name not in VERBS:
        if name.startswith("-"):
            raise UsageError("the verb comes first, its options after it", found=name, hint="See 'byre --help'.")
        close = _closest(name, VERBS)
        hint = f"Did you mean 'byre {close}'?" if close else "'byre --help' lists the verbs."
        raise UsageError(f"there is no verb {name!r}", hint=hint)
    verb = cast(Verb, import_module(f"byre.cli.{MODULES.get(name, name).replace('-', '_')}"))
    parser = build_parser(name, verb)
    try:
        parser.check_options(words[1:])
        args = _parse(parser, words[1:])
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else UsageError.exit_code
    out.configure(progress=args.progress)
    return verb.run(args, out)


def _parse(parser: _Parser, words: list[str]) -> argparse.Namespace:
    """Options may stand between IMAGE and an optional PATH, which argparse by itself takes for the end of both."""
    if _subparsers(parser) or {"--", "-h", "--help"} & set(words):
        return parser.parse_args(words)
    parser.usage = parser.prog  # else it is formatted beforehand, for nothing
    return parser.parse_intermixed_args(words)


def build_parser(name: str, verb: Verb) -> _Parser:
    """The parser of one verb, with what every verb has: --json, --progress, --debug, examples, statuses."""
    epilog = f"examples:\n{verb.EXAMPLES.strip(chr(10))}\n\nexit status:\n{verb.VERDICTS.strip(chr(10))}\n{STATUSES}"
    parser = _Parser(
        prog=f"byre {name}",
        description=verb.SUMMARY,
        epilog=epilog.replace("%", "%%"),
        formatter_class=_no_formatter,
        allow_abbrev=False,
    )
    verb.configure(parser)
    for one in _subparsers(parser) or [parser]:
        _add_output_options(one, name)
    return parser


def _subparsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of a verb's own verbs (``byre snapshot create``), as ``configure`` added them."""
    return [
        entry
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for entry in action.choices.values()
    ]


def _add_output_options(parser: argparse.ArgumentParser, name: str) -> None:
    shared = parser.add_argument_group("output")
    shared.add_argument("--json", action="store_true", help=f"print one JSON object, schema byre/{name}/1")
    shared.add_argument(
        "--progress",
        choices=("auto", "json", "none"),
        default="auto",
        help="on stderr: a bar where it is a terminal (auto), JSON lines, or none",
    )
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _wrapped(text: str, indent: int = 0) -> str:
    """Paragraphs for the terminal's width, all lines but the first indented."""
    import shutil
    import textwrap

    width = max(40, min(100, shutil.get_terminal_size().columns - 2))
    hanging = " " * indent
    return "\n\n".join(
        textwrap.fill(" ".join(part.split()), width, initial_indent=hanging, subsequent_indent=hanging)
        for part in text.strip().split("\n\n")
    ).removeprefix(hanging)


def _no_formatter(prog: str) -> argparse.HelpFormatter:
    """What argparse looks at each new option with; without a width it would import shutil to ask the terminal."""
    return argparse.HelpFormatter(prog, width=80)


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    """What help is written with: its import takes longer than many a verb."""
    from rich_argparse import RawDescriptionRichHelpFormatter

    return RawDescriptionRichHelpFormatter(prog)


def _overview() -> str:
    longest = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{longest}}  {_wrapped(summary, longest + 4)}" for name, summary in VERBS.items())
    about = _wrapped("""\
A home for the disk images of legacy machines: qcow2 first, no root, no helper VM, no qemu-img.

IMAGE is a path, or IMAGE@SNAPSHOT for the disk as it was in an internal snapshot.""")
    return f"""\
usage: byre VERB IMAGE ... [--json] [--help]

{about}

verbs ('byre VERB --help' has examples and exit statuses):
{verbs}

exit status: 0 to 3 are a verb's verdict; 64 or more is a failure:
{STATUSES}"""


if __name__ == "__main__":
    sys.exit(main())

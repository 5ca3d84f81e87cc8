"""``byre serve``: a disk, a snapshot or a partition for other programs to read, over NBD."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from urllib.parse import quote

from byre.cli.options import add_image, open_image
from byre.cli.output import Output
from byre.errors import UsageError

SUMMARY = "Serve an image, a snapshot or a partition read-only over NBD, until Ctrl-C."
EXAMPLES = """
  byre serve xp.qcow2                              on 127.0.0.1:10809
  byre serve xp.qcow2@clean --socket /tmp/xp.sock  on a Unix socket that only you can reach
  byre serve xp.vmdk --partition 1 --port 0        its first partition, on any free port
  nbdcopy nbd://127.0.0.1 copy.raw                 a client
"""
VERDICTS = "   0 stopped by --once"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    group = parser.add_argument_group("serving")
    group.add_argument("--socket", metavar="PATH", help="listen on a Unix socket that only you can reach")
    group.add_argument(
        "--port", type=int, default=None, metavar="N", help="TCP port (default 10809; 0: any free one)"
    )
    group.add_argument(
        "--bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default 127.0.0.1: this machine)",
    )
    group.add_argument("--partition", type=int, metavar="N", help="serve this partition (numbered from 1) alone")
    group.add_argument("--once", action="store_true", help="stop when the first clients have gone")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.serve.protocol import DEFAULT_PORT
    from byre.serve.server import NbdServer, listen_tcp, listen_unix

    if args.socket and args.port is not None:
        raise UsageError("--socket and --port exclude each other")
    with open_image(args, out=out) as disk:
        served = disk
        if args.partition is not None:
            from byre.filesystems.opening import open_partition

            served = open_partition(disk, args.partition)
        if args.socket:
            listener = listen_unix(Path(args.socket))
            uri = f"nbd+unix:///?socket={quote(args.socket, safe='/')}"
        else:
            listener = listen_tcp(args.bind, DEFAULT_PORT if args.port is None else args.port)
            uri = f"nbd://{args.bind}:{listener.getsockname()[1]}"
        server = NbdServer({"": served}, listener, log=out.notice)
        before = signal.signal(signal.SIGTERM, lambda *_: server.stop())
        try:
            if out.json:
                out.json_line({"schema": "byre/serve/1", "uri": uri, "size": served.size, "read_only": True})
            else:
                out.line(f"{args.image} is served read-only at {uri}")
            out.flush()
            server.run(once=args.once)
        finally:
            signal.signal(signal.SIGTERM, before)
            server.close()
            if args.socket:
                Path(args.socket).unlink(missing_ok=True)
    return 0

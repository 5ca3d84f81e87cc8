"""A small HTTP server with byte ranges, and with the ways in which servers get ranges wrong."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEHAVIOURS = (
    "right",
    "whole-file",
    "shifted",
    "short-body",
    "wrong-total",
    "no-content-range",
    "changing-etag",
    "missing",
    "forbidden",
    "stalls-then-closes",
    "breaks-off-once",
    "busy",
    "silent",
    "silent-body",
)


@contextmanager
def serve(data: bytes, behaviour: str = "right", *, auth: str | None = None) -> Iterator[str]:
    """The URL of a server on this machine that has ``data`` at every path."""
    count = [0]
    leaving = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return None

        def do_GET(self) -> None:
            count[0] += 1
            if auth is not None and self.headers.get("Authorization") != auth:
                return self._send(401, b"", {})
            if behaviour == "silent":
                leaving.wait()
                return None
            if behaviour == "busy" and count[0] > 1:
                return self._send(503, b"", {})
            if behaviour in ("missing", "forbidden"):
                return self._send(404 if behaviour == "missing" else 403, b"", {})
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if match is None or behaviour == "whole-file":
                return self._send(200, data, {})
            start, stop = int(match[1]), min(int(match[2]) + 1, len(data))
            if start >= len(data):
                return self._send(416, b"", {})
            body, shown, total = data[start:stop], start, len(data)
            if behaviour == "shifted" and count[0] > 1:
                shown += 512
            if behaviour == "wrong-total" and count[0] > 1:
                total += 1
            headers = {"Content-Range": f"bytes {shown}-{shown + stop - start - 1}/{total}"}
            if behaviour == "no-content-range":
                headers = {}
            if behaviour == "short-body" and count[0] > 1:
                body = body[:-1]
            headers["Last-Modified"] = "Tue, 15 Apr 2008 12:00:00 GMT"
            headers["ETag"] = f'"{count[0]}"' if behaviour == "changing-etag" else '"1"'
            breaks_off = behaviour == "stalls-then-closes" or (behaviour == "breaks-off-once" and count[0] == 2)
            if (breaks_off or behaviour == "silent-body") and count[0] > 1:
                self.send_response(206)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Range", headers["Content-Range"])
                self.send_header("ETag", '"1"')
                self.send_header("Last-Modified", headers["Last-Modified"])
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                if behaviour == "silent-body":
                    self.wfile.flush()
                    leaving.wait()
                self.close_connection = True
                return None
            return self._send(206, body, headers)

        def do_HEAD(self) -> None:
            self.send_response(404 if behaviour == "missing" or self.path.endswith("/none") else 200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Last-Modified", "Tue, 15 Apr 2008 12:00:00 GMT")
            self.send_header("ETag", '"1"')
            self.end_headers()

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/images/xp.img"
    finally:
        leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()

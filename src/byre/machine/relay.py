"""The isolated network: frames between Byre's own guests, over Unix datagram sockets in their runtime folders.

Each machine's owner relays: what its QEMU sends goes to the sockets of all other machines on the isolated network of
the same user. There is no switch to start and none to die; nothing of it is on any network of the host.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

from byre.machine.qemu.command import FRAMES_IN, FRAMES_OUT

MAX_FRAME = 1 << 16
LOOK_SECONDS = 1.0
"""How often the relay looks for machines that have come or gone."""


class Relay:
    """Mutable: it owns a socket and a thread. Made before QEMU starts."""

    def __init__(self, folder: Path, *, owner: int | None = None) -> None:
        self.folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / FRAMES_OUT))
        if owner is not None:
            os.chown(folder / FRAMES_OUT, owner, -1)
        self._socket.settimeout(0.25)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        others: list[str] = []
        looked = 0.0
        while not self._stopping.is_set():
            try:
                frame = self._socket.recv(MAX_FRAME)
            except OSError:  # nothing came for a while, or the socket is being closed
                continue
            if time.monotonic() - looked > LOOK_SECONDS:
                others, looked = self._others(), time.monotonic()
            for path in others:
                # A guest that is slow, stopped or gone loses frames, as on a wire.
                with contextlib.suppress(OSError):
                    self._socket.sendto(frame, socket.MSG_DONTWAIT, path)

    def _others(self) -> list[str]:
        base = self.folder.parent
        return [str(path) for path in base.glob(f"*/{FRAMES_IN}") if path.parent != self.folder]

"""What came out of the serial port, as lines: control sequences gone, the last lines only."""

from __future__ import annotations

import re

MOST_BYTES = 256 << 10
"""Only the end is looked at; a guest may write without end."""
MOST_LINES = 400
_SEQUENCES = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][0-9A-B]|\x1b[^\[(]")


def serial_lines(data: bytes) -> tuple[str, ...]:
    """The last lines, without the sequences that move a terminal's cursor or set its colours."""
    plain = _SEQUENCES.sub(b"", data[-MOST_BYTES:]).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = plain.decode("utf-8", "replace")
    lines = ["".join(letter for letter in line if letter >= " " and letter != "\x7f") for line in text.split("\n")]
    return tuple(line.rstrip() for line in lines[-MOST_LINES:])

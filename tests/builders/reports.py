"""Reports to write out: a healthy guest, a broken one, and one whose every name is an attack on whoever shows it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from functools import cache

from builders import xp
from builders.audited import Plant, facts_of
from builders.defects import WINLOGON, value
from builders.hive import Node
from byre.audit.judging import Report, judge

SCRIPT = "<script>document.title='owned'</script>"
ATTACKS = (
    SCRIPT,
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=\'owned\'">',
    "'-alert(1)-'{{7*7}}{% raw %}",
    "<!--<script>",
    "]]><style>*{display:none}</style>",
    "<link rel=stylesheet href=http://attack.invalid/x><meta http-equiv=refresh content='0;url=http://attack.invalid/'>",
    "\x1b[31m\x9b2J\u202egpj.exe\u2066",
    "javascript:document.title='owned'",
)


@cache
def healthy() -> Report:
    return judge(replace(facts_of(Plant()), image="shelf/parlour.qcow2"))


@cache
def broken() -> Report:
    gone = (f"{xp.DRIVERS}/atapi.sys", f"{xp.SYSTEM32}/spoolsv.exe")
    return judge(replace(facts_of(Plant(remove=gone)), image="shelf/broken.qcow2"))


@cache
def hostile() -> Report:
    """Attacks in the shell's name, in autostarts, in services, in installed programs, in the product's name and in
    the image's own."""

    def software(root: Node) -> None:
        value(WINLOGON, "Shell", f"C:\\{ATTACKS[0]}.exe")(root)
        run = root.at(r"Microsoft\Windows\CurrentVersion\Run").values
        run.update({attack: f"C:\\{attack}" for attack in ATTACKS})
        for number, attack in enumerate(ATTACKS):
            key = root.at(rf"Microsoft\Windows\CurrentVersion\Uninstall\x{number}")
            key.values.update({"DisplayName": attack, "DisplayVersion": attack, "Publisher": attack})
        root.at(r"Microsoft\Windows NT\CurrentVersion").values["ProductName"] = f"Windows {ATTACKS[2]}"

    def system(root: Node) -> None:
        for number, attack in enumerate(ATTACKS):
            service = root.at(rf"ControlSet001\Services\evil{number}")
            image = f"\\SystemRoot\\system32\\drivers\\{attack.replace('/', '')}.sys"
            service.values.update(
                {"Type": 1, "Start": 1, "ErrorControl": 1, "ImagePath": image, "DisplayName": attack}
            )

    facts = facts_of(Plant(software=software, system=system))
    return judge(replace(facts, image=f"shelf/{ATTACKS[1]}.qcow2"))


def png(width: int, height: int) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\0\0\xaa" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

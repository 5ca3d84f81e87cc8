"""The text of .reg files, against what regedit writes."""

from __future__ import annotations

import struct

from builders.hive import Node, build_hive, expand_sz
from byre.windows.reg_export import export_key, export_value
from byre.windows.registry import Value, open_hive


def line(kind: int, data: bytes, name: str = "n") -> list[str]:
    return list(export_value(Value(name, kind, data)))


def test_strings_and_numbers() -> None:
    assert line(1, 'C:\\a "b"'.encode("utf-16-le") + b"\0\0") == ['"n"="C:\\\\a \\"b\\""']
    assert line(1, b"\0\0", "") == ['@=""']
    assert line(4, struct.pack("<I", 0x1F)) == ['"n"=dword:0000001f']
    assert line(3, b"\x01\xff") == ['"n"=hex:01,ff']
    assert line(0, b"") == ['"n"=hex(0):']
    assert line(11, struct.pack("<Q", 1)) == ['"n"=hex(b):01,00,00,00,00,00,00,00']
    assert line(5, b"\0\0\0\1") == ['"n"=hex(5):00,00,00,01']
    assert line(0x1F4, b"") == ['"n"=hex(1f4):']


def test_what_is_no_whole_string_or_number_is_written_byte_for_byte() -> None:
    assert line(1, b"a\0") == ['"n"=hex(1):61,00']
    assert line(1, "a\0b\0".encode("utf-16-le")) == ['"n"=hex(1):61,00,00,00,62,00,00,00']
    assert line(1, "a\r\n[HKEY".encode("utf-16-le") + b"\0\0")[0].startswith('"n"=hex(1):')
    assert line(1, b"\x00\xd8\0\0") == ['"n"=hex(1):00,d8,00,00']
    assert line(4, b"\1\0") == ['"n"=hex(4):01,00']


def test_hexadecimal_wraps_where_regedit_wraps() -> None:
    """The lines of ImagePath as regedit of XP exports it."""
    kind, data = expand_sz(r"%SystemRoot%\system32\drivers\x.sys")
    shown = line(kind, data, "ImagePath")
    assert shown[0] == '"ImagePath"=hex(2):25,00,53,00,79,00,73,00,74,00,65,00,6d,00,52,00,6f,00,6f,00,\\'
    assert shown[1] == "  74,00,25,00,5c,00,73,00,79,00,73,00,74,00,65,00,6d,00,33,00,32,00,5c,00,64,\\"
    assert [len(row) for row in shown[:2]] == [80, 78]
    joined = "".join(row.strip().removesuffix("\\") for row in shown).partition(":")[2]
    assert bytes.fromhex(joined.replace(",", "")) == data


def test_secrets_are_left_out_with_a_comment() -> None:
    root = Node(values={"DefaultPassword": "hunter2", "DefaultUserName": "me"})
    hive = open_hive(build_hive(root, name="SOFTWARE"), path="x")
    text = "\n".join(export_key(hive.root, r"HKEY_LOCAL_MACHINE\SOFTWARE\A", "SOFTWARE", "A"))
    assert "hunter2" not in text
    assert '; "DefaultPassword" is hidden: a secret' in text
    assert '"DefaultUserName"="me"' in text


def test_names_cannot_forge_lines() -> None:
    root = Node(values={'x"=dword:1\r\n[-HKEY_LOCAL_MACHINE]\r\n"': 1})
    hive = open_hive(build_hive(root, name="SOFTWARE"), path="x")
    lines = list(export_key(hive.root, r"HKEY_LOCAL_MACHINE\SOFTWARE", "SOFTWARE", ""))
    assert not any("\r" in row or "\n" in row for row in lines)
    assert lines[1].startswith("; left out")
    assert next(export_key(hive.root, "HKEY_LOCAL_MACHINE\\A]\r\n[-HKLM", "", "")).startswith("; left out")

"""Registry text, both versions, as regedit writes and takes it."""

from __future__ import annotations

import pytest

from byre.errors import UsageError
from byre.windows.reg_import import RegLine, decode_reg, parse_reg

TEXT = """Windows Registry Editor Version 5.00

; a comment
[HKEY_LOCAL_MACHINE\\SOFTWARE\\Acme]
@="default"
"quoted \\"name\\""="C:\\\\Program Files\\\\"
"number"=dword:0000001f
"blob"=hex:01,02,\\
  03,ff
"list"=hex(7):61,00,00,00,00,00
"gone"=-

[-HKEY_LOCAL_MACHINE\\SOFTWARE\\Old]
"""


def _rows(text: str) -> list[RegLine]:
    return list(parse_reg(text, path="x.reg"))


def test_every_form_of_a_line() -> None:
    key = "HKEY_LOCAL_MACHINE\\SOFTWARE\\Acme"
    assert [(row.key, row.name, row.type, row.data) for row in _rows(TEXT)] == [
        (key, None, 0, b""),
        (key, "", 1, "default\0".encode("utf-16-le")),
        (key, 'quoted "name"', 1, "C:\\Program Files\\\0".encode("utf-16-le")),
        (key, "number", 4, b"\x1f\0\0\0"),
        (key, "blob", 3, b"\1\2\3\xff"),
        (key, "list", 7, b"a\0\0\0\0\0"),
        (key, "gone", 0, None),
        ("HKEY_LOCAL_MACHINE\\SOFTWARE\\Old", None, 0, None),
    ]


def test_version_4_strings_in_hexadecimal_are_one_byte_a_letter() -> None:
    (_, row) = _rows('REGEDIT4\n[HKEY_LOCAL_MACHINE\\X]\n"p"=hex(2):25,61,25,00\n')
    assert row.data == "%a%\0".encode("utf-16-le")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
def test_the_mark_says_the_encoding(encoding: str) -> None:
    assert decode_reg("Größe".encode(encoding)) == "Größe"


@pytest.mark.parametrize(
    "text",
    [
        "no header\n",
        "REGEDIT4\nvalue without key\n",
        'REGEDIT4\n[HKLM\\X]\n"a"=dword:xyz\n',
        'REGEDIT4\n[HKLM\\X]\n"a"=hex:zz\n',
        "REGEDIT4\n[HKLM\\X\n",
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        _rows(text)
    assert caught.value.path == "x.reg"

"""Registry text, both versions, as regedit writes and takes it."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


MORE = """\ufeff

Windows Registry Editor Version 5.00  \r
[HKEY_LOCAL_MACHINE\\SOFTWARE\\A [b] c]   ; a comment\r
"dw" = DWORD:a ; ten\r
"text"="a; b" ; c\r
"two"="one\r
; no comment\r
three"\r
"hex"=hex:1,2, 03,\\  ; more
  ff,\\\r
  0\r
"comma"=hex:01,02,\r
"none"=hex(0):\r
"big"=hex(b):01,00,00,00,00,00,00,00\r
"odd"=hex(ffff0012):aa\r
@=hex(2):25,00,00,00"""


def test_comments_spaces_and_strings_over_lines() -> None:
    first, *rows = _rows(decode_reg(MORE.encode()))
    assert (first.key, first.line) == ("HKEY_LOCAL_MACHINE\\SOFTWARE\\A [b] c", 4)
    assert {row.name: (row.type, row.data, row.line) for row in rows} == {
        "dw": (4, b"\x0a\0\0\0", 5),
        "text": (1, "a; b\0".encode("utf-16-le"), 6),
        "two": (1, "one\r\n; no comment\r\nthree\0".encode("utf-16-le"), 7),
        "hex": (3, b"\1\2\3\xff\0", 10),
        "comma": (3, b"\1\2", 13),
        "none": (0, b"", 14),
        "big": (11, b"\1" + bytes(7), 15),
        "odd": (0xFFFF0012, b"\xaa", 16),
        "": (2, b"%\0\0\0", 17),
    }


def test_a_value_of_a_mebibyte_takes_no_quadratic_time() -> None:
    lines = ",\\\r\n  ".join(",".join(["ab"] * 25) for _ in range((1 << 20) // 25))
    begun = time.process_time()
    (_, row) = _rows(f'{TEXT.splitlines()[0]}\r\n[HKEY_LOCAL_MACHINE\\X]\r\n"a"=hex:{lines}\r\n')
    assert row.data is not None and set(row.data) == {0xAB}
    assert time.process_time() - begun < 5


@given(st.text(alphabet='[]"\\\\=;-@hexdword:,01f \r\n', max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        _rows(f"REGEDIT4\n{text}")


@pytest.mark.parametrize(
    "text",
    [
        "no header\n",
        "REGEDIT4\nvalue without key\n",
        'REGEDIT4\n[HKLM\\X]\n"a"=dword:xyz\n',
        'REGEDIT4\n[HKLM\\X]\n"a"=hex:zz\n',
        "REGEDIT4\n[HKLM\\X\n",
        "REGEDIT4\n[]\n",
        'REGEDIT4\n[HKLM\\X]\n"a"="b" c\n',
        'REGEDIT4\n[HKLM\\X]\n"a"=hex:001\n',
        'REGEDIT4\n[HKLM\\X]\n"a"=hex:01 02g\n',
        'REGEDIT4\n[HKLM\\X]\n"a"=dword:100000000\n',
        'REGEDIT4\n[HKLM\\X]\n"a\n',
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        _rows(text)
    assert caught.value.path == "x.reg"

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
    return list(parse_reg(text, lambda: 1252, path="x.reg"))


def _unasked() -> int:
    raise AssertionError("the code page doesn't matter here")


def _decoded(raw: bytes) -> str:
    return decode_reg(raw, _unasked, path="x.reg")


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
    assert _decoded("Größe".encode(encoding)) == "Größe"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (1252, "Größe €\x81"),
        (1251, "Программы"),
        (1253, "Πρόγραμμα"),
        (874, "โปรแกรม"),
        (932, "表示\\ソフト能ｱｲｳ"),  # 5C is the second byte of three of these letters
        (936, "珅程序€"),
        (949, "프로그램"),
        (950, "許功蓋程式"),
        (1361, "프로그램"),
        (65001, "Größe 表"),
    ],
)
def test_version_4_is_in_the_guest_s_code_page(page: int, text: str) -> None:
    codec = {936: "gbk", 1361: "johab", 65001: "utf-8"}.get(page, f"cp{page}")
    special = {(936, "€"): b"\x80", (1252, "\x81"): b"\x81"}
    letters = [special.get((page, letter)) or letter.encode(codec) for letter in text]
    quoted = b"".join(b"\\\\" if letter == b"\\" else letter for letter in letters)
    raw = b"".join(letters)
    listed = (raw + b"\0").hex(",").encode()
    file = b"REGEDIT4\r\n\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\" + raw + b"]\r\n"
    file += b'"' + quoted + b'"="' + quoted + b'"\r\n"hex"=hex(2):' + listed + b"\r\n"
    rows = list(parse_reg(decode_reg(file, lambda: page, path="x.reg"), lambda: page, path="x.reg"))
    assert rows[0].key == f"HKEY_LOCAL_MACHINE\\SOFTWARE\\{text}"
    assert [row.name for row in rows[1:]] == [text, "hex"]
    assert {row.data for row in rows[1:]} == {(text + "\0").encode("utf-16-le")}


@pytest.mark.parametrize(("page", "byte"), [(932, b"\x81\xff"), (936, b"\xff"), (950, b"\x81"), (65001, b"\xff")])
def test_half_a_letter_is_named_and_nothing_is_made_of_it(page: int, byte: bytes) -> None:
    file = b'REGEDIT4\n[HKEY_LOCAL_MACHINE\\X]\n"a"="' + byte + b'"\n'
    with pytest.raises(UsageError) as caught:
        decode_reg(file, lambda: page, path="x.reg")
    assert "line 3" in str(caught.value) and str(page) in str(caught.value)
    listed = 'REGEDIT4\n[HKEY_LOCAL_MACHINE\\X]\n"a"=hex(7):' + byte.hex(",") + "\n"
    with pytest.raises(UsageError, match="line 3"):
        list(parse_reg(listed, lambda: page, path="x.reg"))


def test_version_5_without_a_mark_is_utf_8_where_it_can_be() -> None:
    text = 'Windows Registry Editor Version 5.00\n[HKEY_LOCAL_MACHINE\\é]\n"p"=hex(2):e9,00,00,00\n'
    assert _decoded(text.encode()) == text
    assert decode_reg(text.encode("cp1252"), lambda: 1252, path="x.reg") == text
    assert decode_reg(text.encode(), lambda: 1252, path="x.reg", sure=True) != text
    assert list(parse_reg(text, _unasked, path="x.reg"))[1].data == "é\0".encode("utf-16-le")


def test_utf_16_keeps_half_pairs_and_is_not_cut_off() -> None:
    assert _decoded("\ufeffa\ud800".encode("utf-16-le", "surrogatepass")) == "a\ud800"
    with pytest.raises(UsageError):
        _decoded("\ufeffa".encode("utf-16-le") + b"x")


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
    first, *rows = _rows(_decoded(MORE.encode()))
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

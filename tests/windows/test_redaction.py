from __future__ import annotations

import pytest

from byre.windows.redaction import redact_text
from effort import at_most

SECRET = "Sw0rdf1sh"


@pytest.mark.parametrize(
    "text",
    [
        rf"net use Z: \\server\share {SECRET} /user:CORP\joe",
        rf'net.exe use "\\server\the share" {SECRET}',
        f"net user joe {SECRET} /add",
        f"tool.exe /password:{SECRET} /quiet",
        f"tool.exe --password {SECRET} --quiet",
        f"tool.exe -token={SECRET}",
        f'msiexec /i x.msi DBPASSWORD="{SECRET} too"',
        f"psexec \\\\host -u joe -p {SECRET} cmd",
        f"schtasks /create /ru joe /rp {SECRET} /tn x",
        f"curl https://joe:{SECRET}@host/path",
        f"curl https://joe:a@{SECRET}@host/path",
        f"bitsadmin https://bucket/x?X-Amz-Signature={SECRET}&a=b",
        f"curl -H 'Authorization: Bearer {SECRET}'",
        f"Server=db;User Id=sa;Password={SECRET};Timeout=3",
        f"https://host/cb#access_token={SECRET}",
    ],
)
def test_a_secret_in_a_text_is_hidden(text: str) -> None:
    told = redact_text(text)
    assert SECRET not in told and "(hidden)" in told


@pytest.mark.parametrize(
    "text",
    [
        r"C:\WINDOWS\system32\svchost.exe -k netsvcs",
        r"rundll32.exe C:\x.dll,Entry /p",
        "ping -p 80 host",
        r"C:\Program Files\Passwords\keeper.exe",
        "http://host:8080/path/file.txt",
        r"net use Z: \\server\share /persistent:yes",
        r"net use Z: \\server\share *",
        "",
        "a" * 10_000,
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


def test_the_rest_of_the_text_stays() -> None:
    assert redact_text("get.exe http://u:p@host/a?b=c -o x") == "get.exe http://(hidden)@host/a?(hidden) -o x"


@pytest.mark.parametrize(
    "piece",
    [
        "://",
        "@",
        "net use ",
        "password",
        "-p ",
        "a=",
        "pwd ",
        '"',
        "http://a@",
        "token_",
        'net use "\\\\',
        'net user "',
        "a://@",
        "-u -p ",
    ],
)
def test_a_long_hostile_text_takes_no_long_time(piece: str) -> None:
    with at_most(seconds=20):
        told = redact_text(piece * (2_000_000 // len(piece)))
    assert len(told) < 200_000

from __future__ import annotations

import pytest

from byre.errors import CorruptImageError
from byre.windows.xml_tasks import Action, parse_xml_task

HEAD = '<?xml version="1.0" encoding="UTF-16"?>\n<Task xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">'
BODY = r"""
<RegistrationInfo><Author>CORP\joe &amp; co</Author></RegistrationInfo>
<Triggers>
 <LogonTrigger><Enabled>true</Enabled></LogonTrigger>
 <CalendarTrigger><StartBoundary>2009-01-01T00:00:00</StartBoundary></CalendarTrigger>
 <BootTrigger><Enabled>false</Enabled></BootTrigger>
</Triggers>
<Principals><Principal id="A"><UserId>S-1-5-18</UserId></Principal></Principals>
<Settings><Hidden>true</Hidden></Settings>
<Actions Context="A">
 <Exec><Command>%windir%\system32\x.exe</Command><Arguments>/a "b c"</Arguments></Exec>
 <ComHandler><ClassId>{1-2}</ClassId></ComHandler>
</Actions></Task>"""


def utf16(text: str) -> bytes:
    return b"\xff\xfe" + text.encode("utf-16-le")


def test_a_task_says_what_runs_when_and_as_whom() -> None:
    task = parse_xml_task(utf16(HEAD + BODY), path="x")
    assert task.actions == (Action(r"%windir%\system32\x.exe", '/a "b c"'), Action(class_id="{1-2}"))
    assert task.triggers == ("Logon", "Calendar")
    assert (task.author, task.user, task.enabled, task.hidden) == (r"CORP\joe & co", "S-1-5-18", True, True)


def test_a_task_that_is_switched_off_says_so() -> None:
    text = HEAD + BODY.replace("<Hidden>true</Hidden>", "<Enabled>false</Enabled>")
    task = parse_xml_task(utf16(text), path="x")
    assert (task.enabled, task.hidden) == (False, False)


def test_entities_and_document_types_are_refused() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE Task [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Task>&b;</Task>'
    with pytest.raises(CorruptImageError) as caught:
        parse_xml_task(bomb.encode(), path="/WINDOWS/system32/Tasks/x")
    assert "document type" in caught.value.what
    assert caught.value.path == "/WINDOWS/system32/Tasks/x"
    with pytest.raises(CorruptImageError):
        parse_xml_task(b'<!DOCTYPE Task SYSTEM "file:///etc/passwd"><Task/>', path="x")


def test_a_cut_task_is_an_error_wherever_it_is_cut() -> None:
    whole = utf16(HEAD + BODY)
    for length in range(0, len(whole), 7):
        with pytest.raises(CorruptImageError):
            parse_xml_task(whole[:length], path="x")


@pytest.mark.parametrize(
    "data",
    [b"", b"<a/>", b"<Task>" * 100, b"\xff\xfe<", b'<?xml version="1.0" encoding="nonsense"?><Task/>', b"\0" * 99],
)
def test_what_is_no_task_is_an_error(data: bytes) -> None:
    with pytest.raises(CorruptImageError):
        parse_xml_task(data, path="x")


def test_a_task_too_large_is_an_error() -> None:
    with pytest.raises(CorruptImageError):
        parse_xml_task(b"<Task>" + b" " * (1 << 20) + b"</Task>", path="x")

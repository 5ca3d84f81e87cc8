"""Odd places and deceiving names, and the healthy ones that look like them."""

from __future__ import annotations

import pytest

from byre.audit.placement import deceptive_name, odd_place

ROOT = "/WINDOWS"


@pytest.mark.parametrize(
    "path",
    [
        "/WINDOWS/Temp/a.exe",
        "/Documents and Settings/x/Local Settings/Temp/a.exe",
        "/RECYCLER/S-1-5-21/a.exe",
        "/WINDOWS/Fonts/a.exe",
        "/WINDOWS/system32/drivers/a.exe",
        "/WINDOWS/win.ini:a.exe",
        "/System Volume Information/a.exe",
    ],
)
def test_places_where_no_program_belongs(path: str) -> None:
    assert odd_place(path) is not None


@pytest.mark.parametrize(
    "path",
    [
        "/WINDOWS/system32/ctfmon.exe",
        "/Program Files/Templates/a.exe",
        "/WINDOWS/inf/unregmp2.exe",
        "/WINDOWS/system32/spool/drivers/w32x86/3/a.dll",
        "/WINDOWS/system32/drivers/a.sys",
        "/Program Files/Media/a.exe",
    ],
)
def test_places_of_ordinary_programs(path: str) -> None:
    assert odd_place(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/WINDOWS/system32/svch0st.exe",
        "/WINDOWS/system32/scvhost.exe",
        "/WINDOWS/system32/svchosts.exe",
        "/WINDOWS/svchost.exe",
        "/x/lsass.exe",
        "/x/1sass.exe",
        "/x/letter.doc.exe",
        "/x/photo.jpg          .scr",
        "/x/a\u202egpj.exe",
        "/WINDOWS/system32/explorer.exe",
    ],
)
def test_names_that_deceive(path: str) -> None:
    assert deceptive_name(path, ROOT) is not None


@pytest.mark.parametrize(
    "path",
    [
        "/WINDOWS/system32/svchost.exe",
        "/windows/SYSTEM32/SVCHOST.EXE",
        "/WINDOWS/explorer.exe",
        "/WINDOWS/system32/dllcache/explorer.exe",
        "/WINDOWS/$NtServicePackUninstall$/lsass.exe",
        "/WINDOWS/SysWOW64/svchost.exe",
        "/Program Files/x/service.exe",
        "/WINDOWS/system32/taskman.exe",
        "/WINDOWS/system32/wuauclt1.exe",
        "/WINDOWS.0/system32/svchost.exe",
        "/WINNT/explorer.exe",
        "/Program Files/x/setup.1.2.exe",
        "/x/readme.txt",
    ],
)
def test_names_that_do_not(path: str) -> None:
    assert deceptive_name(path, ROOT) is None

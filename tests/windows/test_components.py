"""Components as data: what ships is well-formed, and what isn't is refused by field."""

from __future__ import annotations

from pathlib import Path

import pytest

from byre.audit.boot_path import DISK_PATH
from byre.errors import MissingError, UsageError
from byre.windows.components import Component, Places, built_in_components, parse_components, read_components
from byre.windows.components.component import JUDGEMENTS, ONLY_NAMED, PROFILES, SYSTEMS, beginnings, owner_of
from byre.windows.components.loading import check_components

GOOD = """
[[component]]
id = "games"
title = "games"
systems = ["winxp"]
profile = "lite"
consequence = "no games"
source = "sysoc.inf"
files = ["{system32}/sol*.exe", "{programs}/Games/**"]
marks = ["sol.exe"]
"""


@pytest.mark.parametrize("component", built_in_components(), ids=lambda each: each.id)
def test_a_component_that_ships_is_well_formed(component: Component) -> None:
    assert component.profile in (*PROFILES, ONLY_NAMED)
    assert set(component.systems) <= set(SYSTEMS)
    assert not component.consequence.endswith(".")
    assert component.source
    # Marks lie among the files: else a component that is there could be called absent after its removal.
    places = Places()
    folders = [pattern.rpartition("/")[0] for pattern in component.files]
    for mark in component.marks:
        there = [folder.replace("**", "x") for folder in folders]
        paths = [f"{_fill(folder, places)}/{mark}" for folder in there]
        assert any(component.owns(path, places) for path in paths) or _elsewhere(component, mark), mark


LISTED = {
    "games": "winxp win2000 reactos",
    "messenger": "winxp",
    "movie-maker": "winxp",
    "media-player": "winxp win2003 win2000",
    "outlook-express": "winxp win2003 win2000",
    "netmeeting": "winxp win2003 win2000",
    "msn-explorer": "winxp",
    "accessibility": "winxp win2003 win2000 reactos",
    "tour": "winxp",
    "help-center": "winxp win2003",
    "help-files": "winxp win2003 win2000",
    "indexing": "winxp win2003 win2000",
    "fax": "winxp win2003 win2000",
    "internet-information-services": "winxp win2003 win2000",
    "wallpapers": "winxp win2003 win2000 reactos",
    "screen-savers": "winxp win2003 win2000 reactos",
    "sounds": "winxp win2003 win2000 reactos",
    "fonts-optional": "winxp win2003 win2000",
    "reactos-fonts": "reactos",
    "mui-languages": "winxp win2003 win2000",
    "ime-far-east": "winxp win2003 win2000",
    "keyboard-layouts": "winxp win2003 win2000 reactos",
    "code-pages": "winxp win2003 win2000 reactos",
    "printer-drivers": "winxp win2003 win2000",
    "modem-drivers": "winxp win2003 win2000",
    "scanner-drivers": "winxp win2003 win2000",
    "search-assistant": "winxp win2003",
    "samples": "winxp",
}


@pytest.mark.parametrize(("id", "systems"), LISTED.items(), ids=LISTED)
def test_what_builders_of_lite_systems_remove_is_there(id: str, systems: str) -> None:
    (component,) = [each for each in built_in_components() if each.id == id]
    assert set(component.systems) == set(systems.split())


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("/ReactOS/system32/winmine.exe", "games"),
        ("/ReactOS/system32/sol.exe", "games"),
        ("/ReactOS/system32/mspaint.exe", "paint"),
        ("/ReactOS/system32/wordpad.exe", "wordpad"),
        ("/ReactOS/system32/charmap.exe", "character-map"),
        ("/ReactOS/system32/mplay32.exe", "multimedia-player"),
        ("/ReactOS/system32/3dtext.scr", "screen-savers"),
        ("/ReactOS/system32/rapps.exe", "applications-manager"),
        ("/ReactOS/Fonts/FreeSansBoldOblique.ttf", "reactos-fonts"),
        ("/ReactOS/Fonts/pala.ttf", "reactos-fonts"),
        ("/ReactOS/media/ReactOS_LogOn.wav", "sounds"),
        ("/ReactOS/Resources/Themes/Lautus/lautus.msstyles", "reactos-themes"),
        ("/ReactOS/system32/c_874.nls", "code-pages"),
        ("/ReactOS/system32/kbdgr.dll", "keyboard-layouts"),
        ("/Program Files/Internet Explorer/iexplore.exe", "internet-explorer"),
    ],
)
def test_reactos_files_belong_to_its_components(path: str, id: str) -> None:
    """By its source tree: where base/applications, media and the NLS files are installed."""
    listed = [each for each in built_in_components() if "reactos" in each.systems]
    owners = [each.id for each in listed if each.owns(path, Places("/ReactOS"))]
    assert owners == [id]


@pytest.mark.parametrize("name", ["tahoma", "Marlett", "lucon", "arial", "times", "cour", "symbol", "UniVGA16"])
def test_fonts_that_reactos_draws_itself_with_are_nobodys(name: str) -> None:
    listed = [each for each in built_in_components() if "reactos" in each.systems]
    assert owner_of(listed, f"/ReactOS/Fonts/{name}.ttf", Places("/ReactOS")) is None


@pytest.mark.parametrize(
    "path",
    [
        "/WINDOWS/system32/themeui.dll",  # shows the pages of Display
        "/WINDOWS/system32/drivers/imapi.sys",  # a filter of every drive that writes
        "/Program Files/Internet Explorer/ieproxy.dll",  # tells Explorer's windows of each other
        "/Program Files/Windows NT/Accessories/ImageVue/kodakimg.exe",  # Imaging, not WordPad
        "/Inetpub/wwwroot/index.htm",  # the owner's
        "/WINDOWS/ime/sptip.dll",  # speech and handwriting, not East Asian
    ],
)
def test_what_windows_or_its_owner_needs_for_other_things_is_nobodys(path: str) -> None:
    listed = [each for each in built_in_components() if each.profile != ONLY_NAMED]
    assert owner_of(listed, path, Places()) is None


@pytest.mark.parametrize("folder", ["Accessories", "Zubehör", "Accessoires"])
def test_wordpad_lies_in_a_folder_of_any_name(folder: str) -> None:
    path = f"/Program Files/Windows NT/{folder}/wordpad.exe"
    assert [each.id for each in built_in_components() if each.owns(path, Places())] == ["wordpad"]


def test_every_judgement_is_used_and_nothing_else_is_named() -> None:
    assert {each.unless for each in built_in_components()} - {None} == set(JUDGEMENTS)


@pytest.mark.parametrize(
    ("path", "id"),
    [
        ("D:/RECYCLER/S-1-5-21-1/Dc1.txt", "recycle-bin"),
        ("e:/recycled/dc1.txt", "recycle-bin"),
        ("D:/$RECYCLE.BIN/x", "recycle-bin"),
        ("E:/System Volume Information/_restore{1}/RP1/x", "restore-points"),
        ("D:/swap/page.sys", "page-file"),
        ("/page.sys", "page-file"),
        ("E:/hiberfil.sys", "hibernation-file"),
        ("D:/hiberfil.sys", None),
        ("D:/pagefile.sys", None),
        ("F:/RECYCLER/x", None),
        ("D:/WINDOWS/Temp/x", None),
        ("D:/I386/x", None),
        ("D:/sub/RECYCLER/x", None),
    ],
)
def test_what_goes_from_other_drives_is_these_and_no_more(path: str, id: str | None) -> None:
    places = Places(drives=("D", "E"), loader="E", page_files=("D:/swap/page.sys", "/page.sys"))
    owner = owner_of(built_in_components(), path, places)
    assert (owner.id if owner is not None else None) == id
    if owner is not None:
        assert path.lower().startswith(beginnings(owner, places))
        assert path.startswith("/") or not owner.owns(path, Places())


LOADED = (
    *("/ntldr", "/ntdetect.com", "/boot.ini", "/bootmgr", "/freeldr.sys", "/freeldr.ini", "/bootfont.bin"),
    *(f"{{system32}}/config/{name}" for name in ("system", "software", "sam", "security", "default")),
    *(f"{{system32}}/{name}.exe" for name in ("ntoskrnl", "ntkrnlpa", "smss", "csrss", "winlogon", "services")),
    *(f"{{system32}}/{name}.exe" for name in ("lsass", "userinit", "svchost", "autochk", "logonui", "ctfmon")),
    *(f"{{system32}}/{name}.dll" for name in ("hal", "kdcom", "bootvid", "ntdll", "csrsrv", "basesrv", "winsrv")),
    *(f"{{system32}}/{name}.dll" for name in ("kernel32", "user32", "gdi32", "advapi32", "rpcrt4", "msvcrt")),
    *(f"{{system32}}/{name}.dll" for name in ("shell32", "shlwapi", "comctl32", "comdlg32", "ole32", "oleaut32")),
    *(f"{{system32}}/{name}.dll" for name in ("msgina", "lsasrv", "samsrv", "msv1_0", "kerberos", "schannel")),
    *(f"{{system32}}/{name}.dll" for name in ("secur32", "crypt32", "wintrust", "setupapi", "userenv", "nddeapi")),
    *(f"{{system32}}/{name}.dll" for name in ("rpcss", "umpnpmgr", "shsvcs", "uxtheme", "winspool", "imm32")),
    *("{system32}/win32k.sys", "{system32}/watchdog.sys", "{system32}/dxgthk.sys", "{system32}/winspool.drv"),
    *(f"{{system32}}/{name}.nls" for name in ("l_intl", "unicode", "locale", "sortkey", "sorttbls", "ctype")),
    *("{system32}/vgaoem.fon", "{root}/explorer.exe", "{root}/fonts/vgaoem.fon", "{root}/fonts/vgasys.fon"),
    *("{root}/fonts/tahoma.ttf", "{root}/fonts/micross.ttf", "{root}/fonts/marlett.ttf", "{root}/fonts/lucon.ttf"),
    *(
        f"{{system32}}/drivers/{name}.sys"
        for name in sorted((*DISK_PATH, "classpnp", "pciidex", "isapnp", "volsnap"))
    ),
    *(f"{{system32}}/drivers/{name}.sys" for name in ("ntfs", "fastfat", "ksecdd", "ndis", "mup", "fltmgr", "dmio")),
    *(
        f"{{system32}}/drivers/{name}.sys"
        for name in ("vga", "videoprt", "kbdclass", "mouclass", "i8042prt", "tcpip")
    ),
    "/documents and settings/operator/ntuser.dat",
)


@pytest.mark.parametrize("root", ["/WINDOWS", "/WINNT", "/ReactOS"])
@pytest.mark.parametrize("component", built_in_components(), ids=lambda each: each.id)
def test_no_component_owns_a_file_of_the_boot_path(component: Component, root: str) -> None:
    """What Windows NT 5 starts from, whatever one guest's registry says; of code pages and keyboard layouts the
    judgements keep what is in use."""
    places = Places(root)
    assert not [path for path in LOADED if component.owns(_fill(path, places), places)]


def _fill(folder: str, places: Places) -> str:
    for name, value in places.values().items():
        folder = folder.replace("{" + name + "}", value)
    return folder


def _elsewhere(component: Component, mark: str) -> bool:
    """Marks in system32 of components whose own files are a folder's."""
    return any(f"{{system32}}/{mark}" == pattern for pattern in component.files)


def test_ids_are_used_once_and_no_two_components_share_a_service() -> None:
    components = built_in_components()
    services = [service.lower() for each in components for service in each.services]
    assert len({each.id for each in components}) == len(components) > 50
    assert len(services) == len(set(services))


def test_patterns_match_in_any_case_and_stay_in_their_folder() -> None:
    (component,) = parse_components(GOOD, path="x.toml")
    places = Places("/WINNT", "/Programme")
    assert component.owns("/winnt/System32/SOL.EXE", places)
    assert component.owns("/PROGRAMME/games/a/b.dll", places)
    assert not component.owns("/WINNT/system32/drivers/sol.exe", places)
    assert not component.owns("/WINDOWS/system32/sol.exe", places)
    assert owner_of([component], "/Programme/Games/x", places) is component
    assert component.absent({"calc.exe"})
    assert not component.absent({"sol.exe"})


SHARED = (
    r"SOFTWARE\Classes",
    r"SOFTWARE\Classes\*",
    r"SOFTWARE\Class?s\CLSID",
    r"SOFTWARE\Microsoft",
    r"SOFTWARE\Micro*",
    r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon",
    r"NTUSER\Software",
    r"NTUSER\Software\Microsoft\Windows\CurrentVersion\Run",
    r"SYSTEM\Control",
    r"SYSTEM\Control\Class",
    r"SYSTEM\Services\Tcpip",
)


@pytest.mark.parametrize("key", [r"SOFTWARE\Acme", r"SYSTEM\Services\Acme\Parameters", r"NTUSER\Software\Acme*"])
def test_a_key_of_its_own_is_a_components(key: str) -> None:
    (component,) = parse_components(GOOD.replace("marks", f"keys = ['{key}']\nmarks"), path="x.toml")
    assert component.keys == (key,)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("id", ('id = "games"', 'id = "Games!"')),
        ("profile", ('"lite"', '"huge"')),
        ("systems", ('["winxp"]', '["dos"]')),
        ("files", ('"{system32}/sol*.exe"', '"{system32}/../../boot.ini"')),
        ("files", ('"{system32}/sol*.exe"', '"C:/sol.exe"')),
        ("marks", ('["sol.exe"]', '["a/sol.exe"]')),
        ("marks", ('["sol.exe"]', "[]")),
        ("source", ('"sysoc.inf"', "7")),
        ("colour", ("marks", "colour = 1\nmarks")),
        ("id", ('"games"', '"dropped"')),
        ("drives", ("marks", "drives = 'some'\nmarks")),
        *(("keys", ("marks", f"keys = ['{key}']\nmarks")) for key in SHARED),
    ],
)
def test_a_wrong_field_is_named(field: str, change: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=f"'{field}' is not right") as caught:
        parse_components(GOOD.replace(*change), path="own.toml")
    assert caught.value.path == "own.toml"


@pytest.mark.parametrize("text", ["", "x = 1", "[[component]", "component = 1", "a = 1\n" + GOOD])
def test_what_is_no_list_of_components_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_components(text, path="own.toml")


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    with pytest.raises(MissingError):
        read_components(path)
    path.write_text(GOOD)
    assert [each.id for each in read_components(path)] == ["games"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_components(path)


def test_two_of_one_id_and_needs_that_are_not_there_are_refused() -> None:
    pair = parse_components(GOOD, path="x")
    with pytest.raises(UsageError, match="two components"):
        check_components((*pair, *pair), path="x")
    with pytest.raises(UsageError, match="needs 'cards'"):
        check_components(parse_components(GOOD + 'needs = ["cards"]\n', path="x"), path="x")

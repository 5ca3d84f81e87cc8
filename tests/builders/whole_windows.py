"""The specimen with the optional parts of a whole Windows XP beside it: names, a few bytes each, and the registry."""

from __future__ import annotations

from pathlib import Path

from builders.pe import PeSpec, build_pe

LAYOUTS = (
    "us",
    "gr",
    "fr",
    "uk",
    "sp",
    "it",
    "ru",
    "gr1",
    "be",
    "br",
    "ca",
    "cz",
    "da",
    "fi",
    "hu",
    "no",
    "pl",
    "sw",
)
PAGES = (
    "037",
    "10006",
    "10007",
    "10029",
    "10081",
    "1250",
    "1251",
    "1253",
    "1254",
    "1257",
    "500",
    "850",
    "866",
    "874",
)
CURSORS = ("3dgarro.cur", "banana.ani", "hcross.cur", "lappstrt.cur", "harrow.cur", "arrow_m.cur")
SOUNDS = ("chimes.wav", "chord.wav", "ding.wav", "notify.wav", "tada.wav", "town.mid")
FONTS = ("comic.ttf", "impact.ttf", "tahoma.ttf", "marlett.ttf", "modern.fon")
GAMES = ("sol.exe", "freecell.exe", "winmine.exe", "spider.exe", "mshearts.exe")
PROGRAMS = 420
"""So many that the audit takes it for a whole system."""


def stage(folder: Path) -> Path:
    """A Windows folder to be put over the specimen's."""
    program = build_pe(PeSpec(name="part.exe", dll=False, imports={"KERNEL32.dll": ["ExitProcess"]}))
    library = build_pe(PeSpec(name="part.dll", imports={"KERNEL32.dll": ["CloseHandle"]}))
    named: list[str] = []

    def write(below: str, names: tuple[str, ...] | list[str], data: bytes = b"stands in") -> None:
        for name in names:
            path = folder / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        named.extend(names)

    write("system32", [f"part{number:03}.dll" for number in range(PROGRAMS)], library)
    write("system32", list(GAMES), program)
    write("system32", ["cards.dll", *(f"kbd{name}.dll" for name in LAYOUTS)], library)
    write("system32", [f"c_{page}.nls" for page in PAGES])
    write("Cursors", list(CURSORS))
    write("Media", list(SOUNDS))
    write("Fonts", list(FONTS))
    write("Help", ["ntshared.chm", "glossary.chm", *(f"help{number:02}.chm" for number in range(60))], bytes(8192))
    write("inf", [f"mdm{number:02}.inf" for number in range(40)])
    write("Web/Wallpaper", ["Bliss.bmp", "Azul.jpg"], bytes(65536))
    write("Driver Cache/i386", ["driver.cab"], bytes(1 << 20))
    write("ServicePackFiles/i386", ["notepad.exe"], program)
    write("system32/dllcache", ["sol.exe", "notepad.exe"], program)
    write("$NtUninstallKB958644$", ["old.dll"], library)
    rows = "".join(f"{name} = 1,,{0},,,,,{2},0,0\r\n" for name in dict.fromkeys(named) if not name.startswith("old"))
    (folder / "inf" / "layout.inf").write_text(f"[SourceDisksFiles]\r\n{rows}", newline="")
    return folder


def registry(file: Path) -> Path:
    """What to import into the specimen's registry."""
    control = r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet"
    current = r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
    keys = {
        rf"{control}\Services\PCIIde": ['"Start"=dword:00000000'],
        rf"{control}\Control\Nls\CodePage": ['"MACCP"="10000"', *(f'"{int(each)}"="c_{each}.nls"' for each in PAGES)],
        rf"{control}\Control\Keyboard Layouts\00000409": ['"Layout File"="KBDUS.DLL"'],
        rf"{control}\Control\Keyboard Layouts\00000407": ['"Layout File"="KBDGR.DLL"'],
        rf"{current}\Fonts": ['"Comic Sans MS (TrueType)"="COMIC.TTF"', '"Impact (TrueType)"="IMPACT.TTF"'],
        rf"{current}\FontSubstitutes": ['"Headline"="Impact,0"'],
        rf"{current}\Winlogon": ['"SFCScan"=dword:00000002'],
        r"HKEY_USERS\operator\Keyboard Layout\Preload": ['"1"="00000407"'],
        r"HKEY_USERS\operator\Control Panel\Desktop": [
            '"Wallpaper"="C:\\\\WINDOWS\\\\Web\\\\Wallpaper\\\\Bliss.bmp"'
        ],
    }
    text = "".join(f"[{key}]\r\n" + "".join(f"{row}\r\n" for row in rows) + "\r\n" for key, rows in keys.items())
    file.write_text(f"Windows Registry Editor Version 5.00\r\n\r\n{text}", encoding="utf-8", newline="")
    return file

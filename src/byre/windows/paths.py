"""Paths and command lines as the registry holds them, turned into paths inside the guest. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_EXTENSIONS = (".exe", ".sys", ".dll", ".com", ".bat", ".cmd", ".scr", ".pif", ".cpl", ".ocx", ".vbs", ".js")
_PROGRAM = re.compile(rf"(.*?(?:{'|'.join(map(re.escape, _EXTENSIONS))}))(?=[ \t,\"]|$)", re.IGNORECASE | re.DOTALL)
_DRIVE = re.compile(r"^([A-Za-z]):")


@dataclass(frozen=True, slots=True)
class SystemPaths:
    """Where this guest's Windows lies. ``root`` is like ``/WINDOWS``; ``drive`` its letter, upper case. ``others``:
    letters of more drives whose paths are told, as ``D:/x``."""

    root: str
    drive: str = "C"
    others: frozenset[str] = frozenset()
    programs: str = "/Program Files"
    common: str = "/Program Files/Common Files"
    profiles: str = "/Documents and Settings"
    """Guest paths: what the variables of their names stand for."""

    def resolve(self, text: str) -> str | None:
        """The guest path (``/WINDOWS/system32/x``) of a path in the registry; None for drives that aren't
        known, UNC paths and names that only a search would find."""
        path = self._expand(text.strip().strip('"')).replace("/", "\\")
        path = re.sub(r"^\\(?:\?\?|\\\?)\\", "", path)  # \??\C:\x and \\?\C:\x
        lower, prefix = path.lower(), ""
        if lower.startswith("\\systemroot\\"):
            path = f"{self.root}\\{path[12:]}"
        elif lower.startswith(("system32\\", "syswow64\\")):
            path = f"{self.root}\\{path}"
        elif match := _DRIVE.match(path):
            letter = match[1].upper()
            if letter != self.drive:
                if letter not in self.others:
                    return None
                prefix = f"{letter}:"
            path = path[2:]
        elif path.startswith("\\\\") or not path.startswith("\\"):
            return None
        names = [name for name in path.replace("/", "\\").split("\\") if name not in ("", ".")]
        return None if ".." in names else f"{prefix}/" + "/".join(names)

    def search(self, name: str) -> tuple[str, ...]:
        """Where Windows looks for a program that is named without a folder."""
        plain = name.strip().strip('"')
        names = (plain,) if plain.lower().endswith(_EXTENSIONS) else (plain, plain + ".exe")
        return tuple(f"{folder}/{each}" for each in names for folder in (f"{self.root}/system32", self.root))

    def _spelt(self, path: str) -> str:
        """A guest path with its drive's letter."""
        return f"{self.drive}:{path}" if path.startswith("/") else path

    def _expand(self, text: str) -> str:
        values = {
            "systemroot": f"{self.drive}:{self.root}",
            "windir": f"{self.drive}:{self.root}",
            "systemdrive": f"{self.drive}:",
            "programfiles": self._spelt(self.programs),
            "commonprogramfiles": self._spelt(self.common),
            "allusersprofile": self._spelt(f"{self.profiles}/All Users"),
        }
        return re.sub(r"%([^%\\]+)%", lambda match: values.get(match[1].lower(), match[0]), text)


def driver_path(service: str, image_path: str | None, paths: SystemPaths) -> str | None:
    """The guest path of a driver: its ImagePath, or where the kernel looks without one."""
    if not image_path:
        return f"{paths.root}/system32/drivers/{service}.sys"
    return relative_to_root(image_path, paths)


def relative_to_root(text: str, paths: SystemPaths) -> str | None:
    """The guest path of a service's file: one that names no place lies below the Windows folder."""
    found = paths.resolve(text)
    plain = text.strip().strip('"')
    if found is None and plain and plain[0] not in "\\/%" and ":" not in plain:
        return paths.resolve(f"\\SystemRoot\\{plain}")
    return found


def command_program(command: str) -> str:
    """The program of a command line: quoted, or up to the first known extension, or the first word."""
    text = command.strip()
    if text.startswith('"'):
        return text[1:].partition('"')[0]
    first = re.split(r"[ \t]", text, maxsplit=1)[0]
    if not any(sep in first for sep in "\\/:%"):
        return first  # a bare name, as in "regsvr32 C:\\x.ocx": what follows are arguments
    # Unquoted paths may hold spaces, but neither a drive nor an option begins within one.
    head = re.split(r"[ \t]+(?=[A-Za-z]:[\\/]|[/\"])", text, maxsplit=1)[0]
    match = _PROGRAM.match(head)
    return match[1] if match else first


def command_targets(command: str) -> tuple[str, ...]:
    """The program of a command line and, for rundll32 and regsvr32, the DLL that it runs."""
    program = command_program(command)
    base = re.split(r"[\\/]", program)[-1].lower().removesuffix(".exe")
    if base not in ("rundll32", "regsvr32"):
        return (program,)
    rest = command.strip().lstrip('"')[len(program) :].lstrip('"').strip()
    words = [word for word in re.findall(r'"[^"]*"|[^\s,]+', rest) if not word.startswith(("/", "-"))]
    return (program, words[0].strip('"')) if words else (program,)

"""Known kinds of files that take space without being anybody's work: what each is, and what removing it costs.

The table is data; the first row that fits a path has it. Nothing here removes anything.
Sources: Microsoft KB 310312 (Disk Cleanup), KB 956324 (hotfix uninstall folders), KB 222193 (Windows File
Protection and dllcache), KB 301224 (System Restore), KB 314482 (paging files).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waste:
    """One kind. ``patterns`` are regular expressions over the whole guest path in lower case; ``{root}`` stands for
    the Windows folder, ``{profile}`` for any user's. ``safe``: nothing but time is lost by removing it."""

    kind: str
    title: str
    what: str
    cost: str
    safe: bool
    patterns: tuple[str, ...]


KINDS: tuple[Waste, ...] = (
    Waste(
        "pagefile",
        "page file",
        "memory that Windows moved to disk while it ran",
        "none: its content means nothing after a shutdown, and Windows makes the file anew",
        True,
        (r"/pagefile\.sys", r"/swapfile\.sys", r"/win386\.swp"),
    ),
    Waste(
        "hibernation",
        "hibernation file",
        "a copy of memory from the last hibernation, as large as the memory",
        "none where no session lies in it; a hibernated session is lost",
        False,
        (r"/hiberfil\.sys",),
    ),
    Waste(
        "dumps",
        "crash dumps",
        "memory as it was when Windows or a program crashed",
        "the crash can't be examined any more; dumps hold what was in memory, passwords too",
        True,
        (
            r"{root}/memory\.dmp",
            r"{root}/minidump/.*",
            r"{root}/pchealth/errorrep/.*",
            r".*/dr watson/.*",
            r".*/drwatson/.*\.dmp",
            r".*\.hdmp",
            r".*\.mdmp",
        ),
    ),
    Waste(
        "temporary",
        "temporary files",
        "what programs and installers left in their temporary folders",
        "none as a rule; an installer that waits for a restart may need its own",
        True,
        (
            r"{root}/temp/.*",
            r"/temp/.*",
            r"/tmp/.*",
            r"{profile}/local settings/temp/.*",
            r"{profile}/appdata/local/temp/.*",
        ),
    ),
    Waste(
        "browser-cache",
        "browser cache",
        "pages and pictures that Internet Explorer keeps; offline pages among them",
        "pages are loaded again",
        True,
        (
            r".*/temporary internet files/.*",
            r".*/content\.ie5/.*",
            r"{profile}/(?:local settings/)?application data/mozilla/firefox/profiles/[^/]*/cache/.*",
        ),
    ),
    Waste(
        "prefetch",
        "prefetch traces",
        "notes on what was read when programs started",
        "the next starts are slower until Windows has learnt again; a trace of what ran is lost",
        True,
        (r"{root}/prefetch/.*",),
    ),
    Waste(
        "dllcache",
        "system file cache",
        "second copies of protected system files, from which Windows File Protection repairs",
        "a damaged or replaced system file isn't repaired any more, or Windows asks for the CD",
        False,
        (r"{root}/system32/dllcache/.*",),
    ),
    Waste(
        "update-uninstall",
        "update uninstall files",
        "the files that updates and service packs replaced",
        "the updates can't be taken back",
        True,
        (r"{root}/\$ntuninstall[^/]*/.*", r"{root}/\$ntservicepackuninstall[^/]*/.*", r"{root}/ie\d[^/]*/.*"),
    ),
    Waste(
        "update-branches",
        "update branches",
        "versions of updated files that later updates choose from ($hf_mig$)",
        "later updates may install the wrong branch of a file",
        False,
        (r"{root}/\$hf_mig\$/.*",),
    ),
    Waste(
        "service-pack-files",
        "service pack files",
        "the service pack's own files, used when Windows adds a component",
        "Windows asks for the service pack when it adds a component or repairs a file",
        False,
        (r"{root}/servicepackfiles/.*",),
    ),
    Waste(
        "update-downloads",
        "update downloads",
        "what Windows Update downloaded to install",
        "none for installed updates; others are downloaded again, if their server still exists",
        True,
        (r"{root}/softwaredistribution/download/.*",),
    ),
    Waste(
        "update-database",
        "update database",
        "Windows Update's history and its log",
        "the update history is lost",
        False,
        (r"{root}/softwaredistribution/.*",),
    ),
    Waste(
        "restore-points",
        "restore points",
        "earlier states of system files and of the registry",
        "System Restore has nothing to go back to; snapshots of the image do that better",
        True,
        (
            r"/system volume information/_restore[^/]*/.*",
            r"/system volume information/\{{[0-9a-f-]*\}}\{{[0-9a-f-]*\}}",
        ),
    ),
    Waste(
        "recycle-bin",
        "recycle bin",
        "files that somebody deleted and could still take back",
        "they can't be taken back",
        True,
        (r"/recycler/.*", r"/recycled/.*", r"/\$recycle\.bin/.*"),
    ),
    Waste(
        "lost-clusters",
        "recovered fragments",
        "what CHKDSK found belonging to no file",
        "data that the disk check saved and nobody has looked at is lost",
        False,
        (r"/found\.\d\d\d/.*", r"/file\d{{4}}\.chk"),
    ),
    Waste(
        "setup-sources",
        "setup sources",
        "copies of installation files: Office's, Windows' own, drivers'",
        "Windows or Office ask for the CD when they add or repair something",
        False,
        (r"/msocache/.*", r"/i386/.*", r"{root}/i386/.*", r"{root}/driver cache/.*", r"{root}/options/.*"),
    ),
    Waste(
        "old-windows",
        "an earlier Windows",
        "what an upgrade kept of the system before, or unpacked to begin with",
        "the upgrade can't be taken back; documents may lie in it",
        False,
        (r"/windows\.old/.*", r"/\$windows\.~[^/]*/.*", r"/\$win_nt\$\.~[^/]*/.*"),
    ),
    Waste(
        "installer-cache",
        "installer cache",
        "the packages of installed programs, which Windows Installer repairs and removes them with",
        "installed programs can't be repaired, updated or removed any more",
        False,
        (r"{root}/installer/.*",),
    ),
    Waste(
        "offline-files",
        "offline files",
        "copies of files on servers, with changes that were never sent back",
        "changes that were never sent back are lost",
        False,
        (r"{root}/csc/.*",),
    ),
    Waste(
        "help",
        "help and tours",
        "Windows' help, tours and sample media",
        "help stays empty",
        True,
        (r"{root}/help/.*", r"{root}/srchasst/.*", r"{root}/web/wallpaper/.*", r"{root}/media/.*"),
    ),
    Waste(
        "logs",
        "setup and update logs",
        "texts that setup, updates and services wrote",
        "what happened can't be read up",
        True,
        (r"{root}/[^/]*\.log", r"{root}/debug/.*", r"{root}/system32/logfiles/.*"),
    ),
)


class WasteFinder:
    """Names the kind of waste that a path is, for one Windows folder."""

    def __init__(self, root: str = "/WINDOWS") -> None:
        profile = r"/(?:documents and settings|users)/[^/]*"
        values = {"root": re.escape(root.lower()), "profile": profile}
        rows = ["|".join(f"(?:{pattern.format(**values)})" for pattern in kind.patterns) for kind in KINDS]
        self._pattern = re.compile("|".join(f"(?P<k{index}>{row})" for index, row in enumerate(rows)), re.DOTALL)

    def kind(self, path: str) -> Waste | None:
        """The first kind that fits a file's guest path, None where it is none."""
        match = self._pattern.fullmatch(path.lower())
        return KINDS[int(match.lastgroup[1:])] if match and match.lastgroup else None

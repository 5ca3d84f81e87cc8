"""What a module needs, as the system's loader looks for it: over a handful of files in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from builders import xp
from builders.pe import PeSpec, build_pe
from byre.errors import MissingError
from byre.windows.closure import Closure, LoaderView, Resolver

ROOT = "/WINDOWS"
S32 = f"{ROOT}/system32"
KNOWN = frozenset({"ntdll.dll", "kernel32.dll"})


class Memory:
    """Implements ModuleSource over a dictionary; counts the reads."""

    def __init__(self, files: Mapping[str, bytes], assemblies: Mapping[str, str] | None = None) -> None:
        self.files = dict(files)
        self.assemblies = assemblies or {}
        self.reads: Counter[str] = Counter()

    def folder(self, path: str) -> dict[str, str]:
        rows = [name for name in self.files if name.rpartition("/")[0].lower() == path.lower()]
        return {name.rpartition("/")[2].lower(): name for name in rows}

    def side_by_side(self, name: str) -> str | None:
        return self.assemblies.get(name)

    def read(self, path: str) -> bytes:
        self.reads[path] += 1
        if path not in self.files:
            raise MissingError(f"has no {path}")
        return self.files[path]


def dll(
    imports: Mapping[str, list[str | int]] | None = None,
    exports: Mapping[str, str | None] | None = None,
    **more: object,
) -> bytes:
    return build_pe(PeSpec(imports=imports or {}, exports=exports or {}, **more))  # type: ignore[arg-type]


BASE = {
    f"{S32}/ntdll.dll": dll(exports={"RtlX": None}),
    f"{S32}/kernel32.dll": dll(
        {"ntdll.dll": ["RtlX"]}, {"CreateFileW": None, "HeapAlloc": "NTDLL.RtlX", "Gone": "NTDLL.Never"}
    ),
}


def closure(files: Mapping[str, bytes], start: str, view: LoaderView | None = None) -> Closure:
    return Resolver(Memory({**BASE, **files}), view or LoaderView(ROOT, KNOWN)).closure(start)


def test_everything_that_is_needed_is_found_and_named_once() -> None:
    found = closure({"/App/a.exe": dll({"KERNEL32.dll": ["CreateFileW"]}, dll=False)}, "/App/a.exe")
    assert [node.path for node in found.nodes] == ["/App/a.exe", f"{S32}/kernel32.dll", f"{S32}/ntdll.dll"]
    assert found.missing == found.missing_later == ()
    assert found.nodes[0].needs[0].how == "KnownDLLs"


def test_a_known_dll_beside_the_program_is_not_taken() -> None:
    files = {"/App/a.exe": dll({"KERNEL32.dll": ["CreateFileW"]}), "/App/kernel32.dll": dll()}
    assert closure(files, "/App/a.exe").nodes[0].needs[0].path == f"{S32}/kernel32.dll"


def test_another_dll_beside_the_program_is_taken_before_system32() -> None:
    files = {
        "/App/a.exe": dll({"helper.dll": ["Help"]}),
        "/App/helper.dll": dll(exports={"Help": None}),
        f"{S32}/helper.dll": dll(),
    }
    (need,) = closure(files, "/App/a.exe").nodes[0].needs
    assert (need.path, need.how) == ("/App/helper.dll", "the program's folder")


def test_the_programs_folder_counts_for_what_its_dlls_import() -> None:
    """And the answers for a system DLL are shared between programs only where that folder doesn't matter."""
    files = {
        **BASE,
        "/App/a.exe": dll({"lib.dll": ["L"]}),
        "/App/extra.dll": dll(exports={"E": None}),
        "/Other/b.exe": dll({"lib.dll": ["L"]}),
        f"{S32}/lib.dll": dll({"extra.dll": ["E"]}, {"L": None}),
        f"{S32}/extra.dll": dll(),
    }
    for order in (("/App/a.exe", "/Other/b.exe"), ("/Other/b.exe", "/App/a.exe")):
        resolver = Resolver(Memory(files), LoaderView(ROOT, KNOWN))
        results = {start: resolver.closure(start) for start in order}
        assert results["/App/a.exe"].missing == ()
        ((node, need),) = results["/Other/b.exe"].missing
        assert (node.path, need.path, need.missing) == (f"{S32}/lib.dll", f"{S32}/extra.dll", ("E",))


def test_missing_files_symbols_and_ordinals_are_named() -> None:
    files = {
        "/App/a.exe": dll({"nowhere.dll": ["X"], "KERNEL32.dll": ["CreateFileW", "NoSuch", 4711]}),
    }
    reasons = [need.reason for _, need in closure(files, "/App/a.exe").missing]
    assert reasons == ["isn't there", "doesn't export NoSuch, #4711"]


def test_forwarders_are_followed_to_their_end() -> None:
    files = {"/App/a.exe": dll({"KERNEL32.dll": ["HeapAlloc"]})}
    found = closure(files, "/App/a.exe")
    assert found.missing == ()
    assert found.nodes[0].needs[0].forwards == (f"{S32}/ntdll.dll",)
    broken = closure({"/App/a.exe": dll({"KERNEL32.dll": ["Gone"]})}, "/App/a.exe")
    assert broken.missing[0][1].missing == ("Gone (forwarded to NTDLL.Never)",)


def test_forwarders_in_a_circle_end() -> None:
    files = {
        "/App/a.exe": dll({"one.dll": ["F"]}),
        f"{S32}/one.dll": dll(exports={"F": "TWO.F"}),
        f"{S32}/two.dll": dll(exports={"F": "ONE.F"}),
    }
    assert closure(files, "/App/a.exe").missing[0][1].missing == ("F (forwarded to TWO.F)",)


def test_imports_in_a_circle_end() -> None:
    files = {
        f"{S32}/one.dll": dll({"two.dll": ["T"]}, {"O": None}),
        f"{S32}/two.dll": dll({"one.dll": ["O"]}, {"T": None}),
    }
    assert len(closure(files, f"{S32}/one.dll").nodes) == 2


def test_a_delay_load_that_is_missing_is_not_fatal() -> None:
    spec = PeSpec(delay_imports={"late.dll": ["L"], "there.dll": ["T"]})
    files = {"/App/a.exe": build_pe(spec), f"{S32}/there.dll": dll({"gone.dll": ["G"]}, {"T": None})}
    found = closure(files, "/App/a.exe")
    assert found.missing == ()
    assert [need.dll for _, need in found.missing_later] == ["late.dll", "gone.dll"]


def test_api_sets_are_named_and_exist_from_windows_7_on() -> None:
    files = {"/App/a.exe": dll({"api-ms-win-core-file-l1-1-0.dll": ["CreateFileW"]})}
    assert "API set" in str(closure(files, "/App/a.exe").missing[0][1].reason)
    later = closure(files, "/App/a.exe", LoaderView(ROOT, KNOWN, api_sets=True))
    assert later.missing == ()
    assert later.nodes[0].needs[0].how == "API set"


def test_side_by_side_assemblies_are_looked_into_last() -> None:
    sxs = f"{ROOT}/WinSxS/x86_Microsoft.VC80.CRT/msvcr80.dll"
    source = Memory(
        {**BASE, "/App/a.exe": dll({"MSVCR80.dll": ["m"]}), sxs: dll(exports={"m": None})}, {"msvcr80.dll": sxs}
    )
    (need,) = Resolver(source, LoaderView(ROOT, KNOWN)).closure("/App/a.exe").nodes[0].needs
    assert (need.path, need.how) == (sxs, "side by side")


def test_a_dll_for_another_machine_does_not_count() -> None:
    files = {"/App/a.exe": dll({"other.dll": ["O"]}), f"{S32}/other.dll": dll(exports={"O": None}, machine=0x8664)}
    assert closure(files, "/App/a.exe").missing[0][1].reason == "is for x64, the importer for x86"


def test_a_driver_looks_beside_itself_in_drivers_and_in_system32() -> None:
    files = {
        f"{S32}/drivers/a.sys": dll({"ntoskrnl.exe": ["K"], "b.sys": ["B"]}, subsystem=1),
        f"{S32}/drivers/b.sys": dll({"ntoskrnl.exe": ["K"]}, {"B": None}, subsystem=1),
        f"{S32}/ntoskrnl.exe": dll(exports={"K": None}, subsystem=1),
        "/Elsewhere/c.sys": dll({"b.sys": ["B"]}, subsystem=1),
    }
    assert closure(files, f"{S32}/drivers/a.sys").missing == ()
    assert closure(files, "/Elsewhere/c.sys").nodes[0].needs[0].path == f"{S32}/drivers/b.sys"


def test_names_that_are_paths_lead_nowhere() -> None:
    files = {"/App/a.exe": dll({r"..\..\x.dll": ["X"], "C:\\x.dll": ["X"]}), "/x.dll": dll(exports={"X": None})}
    assert [need.path for need in closure(files, "/App/a.exe").nodes[0].needs] == [None, None]


def test_what_cannot_be_read_is_said() -> None:
    files = {"/App/a.exe": dll({"bad.dll": ["X"]}), f"{S32}/bad.dll": b"MZ broken"}
    found = closure(files, "/App/a.exe")
    assert str(found.missing[0][1].reason).startswith("can't be read: not a PE file")
    assert found.nodes[1].error is not None


def test_a_whole_system_reads_each_file_once() -> None:
    source = Memory({path: data for path, data in xp.clean_files().items() if data[:2] == b"MZ"})
    resolver = Resolver(source, LoaderView(ROOT, KNOWN | {"user32.dll", "gdi32.dll"}))
    for path in source.files:
        found = resolver.closure(path)
        assert found.missing == (), path
        assert found.complete
    assert max(source.reads.values()) == 1

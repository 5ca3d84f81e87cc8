"""Plans: what goes, what stands in the way, and who gives way."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from byre.errors import UsageError
from byre.filesystems.base import Name
from byre.lite.slimming.owning import owned_rows, parts_of
from byre.lite.slimming.parts import SlimPlan, Use
from byre.lite.slimming.plan import Choice, plan_slim, unmatched, worth
from byre.windows.components import Component, Places
from byre.windows.paths import SystemPaths

PLACES = Places()


def _component(id: str, *files: str, profile: str = "lite", **more: tuple[str, ...]) -> Component:
    return Component(id, id, ("winxp",), profile, "lost", "test", files, (), **more)


GAMES = _component("games", "{system32}/sol.exe", "{system32}/cards.dll")
PRINTING = _component("printing", "{system32}/spool*", services=("Spooler",), keys=(r"SYSTEM\Control\Print",))
TEMP = _component("temp", "{root}/Temp/**", profile="safe")
UPDATES = _component("updates", "{root}/$NtUninstall*", "{root}/$NtUninstall*/**", profile="lean")
ALL = (GAMES, PRINTING, TEMP, UPDATES)
ROWS = (
    Name("/WINDOWS", 0, True),
    Name("/WINDOWS/Temp", 0, True),
    Name("/WINDOWS/Temp/deep", 0, True),
    Name("/WINDOWS/Temp/deep/x.tmp", 8192),
    Name("/WINDOWS/$NtUninstallKB1$", 0, True),
    Name("/WINDOWS/$NtUninstallKB1$/old.dll", 4096),
    Name("/WINDOWS/system32/SOL.EXE", 100),
    Name("/WINDOWS/system32/cards.dll", 50),
    Name("/WINDOWS/system32/dllcache/sol.exe", 100),
    Name("/WINDOWS/system32/dllcache/kept.exe", 100),
    Name("/WINDOWS/system32/spoolsv.exe", 10),
)


def _nothing(gone: frozenset[str]) -> Iterable[tuple[str, ...]]:
    return ()


def _plan(choice: Choice, *uses: Use, components: tuple[Component, ...] = ALL) -> SlimPlan:
    return plan_slim(choice, components, ROWS, PLACES, uses, _nothing)


def test_profiles_hold_the_ones_before() -> None:
    assert [part.component.id for part in _plan(Choice("safe")).parts] == ["temp"]
    assert [part.component.id for part in _plan(Choice("lean")).parts] == ["temp", "updates"]
    assert {part.component.id for part in _plan(Choice("lite")).parts} == {each.id for each in ALL}
    assert _plan(Choice(None)).parts == ()
    parts = parts_of(ALL, owned_rows(ALL, ROWS, PLACES))
    assert worth(parts) == {"safe": 8192, "lean": 12288, "lite": 12288 + 260}


def test_folders_go_whole_only_where_a_pattern_names_them() -> None:
    assert _plan(Choice("lean")).removed == ("/WINDOWS/Temp/deep", "/WINDOWS/$NtUninstallKB1$")
    spared = _plan(Choice("lean", keep=(r"c:\windows\temp\deep\*",)))
    assert spared.removed == ("/WINDOWS/$NtUninstallKB1$",)


def test_the_second_copy_in_dllcache_goes_along() -> None:
    plan = _plan(Choice(None, drop=("games",)))
    assert set(plan.files) == {
        "/WINDOWS/system32/SOL.EXE",
        "/WINDOWS/system32/cards.dll",
        "/WINDOWS/system32/dllcache/sol.exe",
    }


def test_the_second_copy_stays_with_another_file_of_its_name() -> None:
    def gone(*more: Name) -> set[str]:
        rows = (*ROWS, *more)
        listed = (*ALL, _component("app", "{programs}/App/**"))
        plan = plan_slim(Choice(None, drop=("app", "temp")), listed, rows, PLACES, (), _nothing)
        return {path for path in plan.files if "dllcache" in path}

    copy = "/WINDOWS/system32/dllcache/kept.exe"
    assert gone(Name("/Program Files/App/kept.exe", 1)) == {copy}
    assert gone(Name("/Program Files/App/kept.exe", 1), Name("/WINDOWS/system32/kept.exe", 1)) == set()
    assert gone(Name("/WINDOWS/Temp/kept.exe", 1)) == set()


def test_what_is_kept_wins() -> None:
    assert (
        _plan(Choice("lite", keep=("games",), drop=("games",))).files == _plan(Choice("lite", keep=("games",))).files
    )


@pytest.mark.parametrize("name", ["no-such-component", "C:\\", "/", "/*", "/a/../b", "{root}/x"])
def test_neither_component_nor_path_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        _plan(Choice(drop=(name,)))


def test_a_pattern_that_nothing_matches_is_refused() -> None:
    with pytest.raises(UsageError) as raised:
        _plan(Choice(drop=(r"C:\nowhere\x",)))
    assert raised.value.found == "/nowhere/x"


def test_what_was_named_and_fits_nothing_is_told() -> None:
    choice = Choice("safe", keep=(r"C:\WINDOWS\Temp\deep", r"C:\Typo\*"), drop=("games", r"C:\WINDOWS\No\**"))
    assert unmatched(choice, ALL, ROWS, PLACES, SystemPaths("/WINDOWS")) == ["/Typo/*", "/WINDOWS/No/**"]


@pytest.mark.parametrize("field", ["keep", "drop"])
def test_a_path_on_a_drive_that_isnt_there_is_refused(field: str) -> None:
    for path in (r"D:\WINDOWS\Temp", "d:/WINDOWS/Temp"):
        with pytest.raises(UsageError) as raised:
            _plan(Choice(**{field: (path,)}))
        assert raised.value.expected == "C:"


def test_a_use_of_a_file_stops_the_plan() -> None:
    plan = _plan(Choice("lite"), Use("a task", "/WINDOWS/system32/sol.exe"))
    (reason,) = plan.reasons
    assert (reason.part, reason.chain) == ("games", ("a task", "/WINDOWS/system32/sol.exe"))


def test_a_component_gives_way_where_asked() -> None:
    plan = _plan(Choice("lite", give_way=True), Use("a task", "/WINDOWS/system32/sol.exe"))
    assert plan.reasons == ()
    assert [reason.part for reason in plan.kept] == ["games"]
    assert not any("cards" in path for path in plan.files)


def test_what_was_named_by_path_never_gives_way() -> None:
    choice = Choice(None, drop=(r"C:\WINDOWS\system32\sol.exe",), give_way=True)
    assert _plan(choice, Use("a task", "/WINDOWS/system32/SOL.EXE")).reasons


def test_a_components_own_service_and_key_are_switched_off() -> None:
    spooler = Use("the service Spooler", "/WINDOWS/system32/spoolsv.exe", service="Spooler")
    key = Use("a monitor", "/WINDOWS/system32/spoolsv.exe", key=r"SYSTEM\Control\Print\Monitors\x")
    plan = _plan(Choice("lite"), spooler, key)
    assert plan.reasons == ()
    assert plan.services == ("Spooler",)
    near = Use("another", "/WINDOWS/system32/spoolsv.exe", key=r"SYSTEM\Control\Printers")
    assert _plan(Choice("lite"), spooler, near).reasons


def test_a_service_that_depends_on_a_disabled_one_stops_the_plan() -> None:
    spooler = Use("the service Spooler", "/WINDOWS/system32/spoolsv.exe", service="Spooler")
    fax = Use("the service Fax", "", service="Fax", needs_service="SPOOLER")
    (reason,) = _plan(Choice("lite"), spooler, fax).reasons
    assert reason.chain == ("the service Fax", "the service Spooler")


def test_classes_go_with_their_server() -> None:
    plan = _plan(Choice("lite"), Use("the class {1}", "/WINDOWS/system32/cards.dll", clsid="{1}"))
    assert (plan.reasons, plan.classes) == ((), ("{1}",))


def test_a_component_that_is_kept_needs_what_goes() -> None:
    chess = _component("chess", "{system32}/spool*", needs=("games",))
    plan = _plan(Choice(None, drop=("games",)), components=(GAMES, chess))
    (reason,) = plan.reasons
    assert "chess" in reason.chain[0]


def test_a_broken_chain_stops_the_plan_with_the_guests_own_spelling() -> None:
    def chains(gone: frozenset[str]) -> Iterable[tuple[str, ...]]:
        return [("the program x.exe", "/windows/system32/sol.exe")] if "/windows/system32/sol.exe" in gone else []

    plan = plan_slim(Choice("lite"), ALL, ROWS, PLACES, (), chains)
    assert plan.reasons[0].chain == ("the program x.exe", "/WINDOWS/system32/SOL.EXE")
    assert plan_slim(Choice("lean"), ALL, ROWS, PLACES, (), chains).reasons == ()


def test_what_lies_outside_stays_where_another_system_may_need_it() -> None:
    shared = _component("player", "{programs}/Player/*", "{system32}/player.dll")
    rows = (*ROWS, Name("/Program Files/Player/player.exe", 5), Name("/WINDOWS/system32/player.dll", 5))

    def plan(give_way: bool, others: tuple[str, ...]) -> SlimPlan:
        choice = Choice("lite", give_way=give_way)
        return plan_slim(choice, (*ALL, shared), rows, PLACES, (), _nothing, others=others)

    assert plan(False, ()).reasons == ()
    (reason,) = plan(False, ("/WINNT",)).reasons
    assert reason.part == "player" and reason.path == "/Program Files/Player/player.exe"
    assert reason.chain[0].startswith("the system in /WINNT")
    gave_way = plan(True, ("/WINNT",))
    assert {part.component.id for part in gave_way.parts} == {each.id for each in ALL}
    assert [each.part for each in gave_way.kept] == ["player"]

"""Plans for a whole guest in memory: a planted dependence of every kind stops one, what goes along is edited away."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from builders import xp
from builders.audited import Plant, clean_files
from builders.hive import Node, build_hive, expand_sz
from builders.memory_files import MemoryFiles
from builders.pe import PeSpec, build_pe
from builders.slim_guests import COMPONENTS, build_job, build_shortcut, component, plan_of, slim_guest
from byre.errors import ByreError, MissingError
from byre.lite.hive_editor import DeleteKey, DeleteValue, SetValue
from byre.lite.slimming.drives import AllDrives, Drive, letter_of
from byre.lite.slimming.guest import list_parts, plan_guest, planned_changes
from byre.lite.slimming.parts import SlimPlan
from byre.lite.slimming.plan import Choice
from byre.windows.registry import open_hive
from byre.windows.system_paths import system_paths

HOME = "/Program Files/Player"
PLAYER = f"{HOME}/player.exe"
LIBRARY = f"{HOME}/library.dll"
CLSID = "{11111111-2222-3333-4444-555555555555}"
NAMED = Choice(None, drop=("player",))
OWN = component("player", "{programs}/Player", "{programs}/Player/**")


def _program(name: str, imports: dict[str, list[str | int]], **more: dict[str, list[str | int]]) -> bytes:
    return build_pe(PeSpec(name=name, dll=False, imports=imports, **more))  # type: ignore[arg-type]


FILES = {
    PLAYER: _program("player.exe", {"KERNEL32.dll": ["ExitProcess"], "library.dll": ["Play"]}),
    LIBRARY: build_pe(PeSpec(name="library.dll", exports={"Play": None}, imports={"KERNEL32.dll": ["CloseHandle"]})),
}


def _plan(**planted: object) -> SlimPlan:
    write = {**FILES, **planted.pop("write", {})}  # type: ignore[dict-item]
    return plan_of(NAMED, Plant(write=write, **planted), OWN)  # type: ignore[arg-type]


def _set(path: str, **values: object) -> Callable[[Node], object]:
    def change(root: Node) -> None:
        root.at(path).values.update({("" if name == "default" else name): value for name, value in values.items()})  # type: ignore[misc]

    return change


def _classes(root: Node) -> None:
    root.at(rf"Classes\CLSID\{CLSID}\InprocServer32").values[""] = r"C:\Program Files\Player\library.dll"


def _extension(root: Node) -> None:
    _classes(root)
    root.at(r"Classes\Song\shellex\ContextMenuHandlers\Player").values[""] = CLSID


def _delay_load(root: Node) -> None:
    _classes(root)
    root.at(r"Microsoft\Windows\CurrentVersion\ShellServiceObjectDelayLoad").values["Player"] = CLSID


SERVICE = r"ControlSet001\Services\Planted"
SERVICE_VALUES = {
    "Type": 16,
    "Start": 3,
    "ErrorControl": 1,
    "ImagePath": expand_sz(r"C:\Program Files\Player\player.exe"),
}
RUN = r"Microsoft\Windows\CurrentVersion\Run"


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("the service Planted", {"system": _set(SERVICE, **SERVICE_VALUES)}),
        ("run-key", {"software": _set(RUN, Planted=rf"C:{PLAYER}".replace("/", "\\"))}),
        ("files of type Song", {"software": _set(r"Classes\Song\shell\open\command", default=rf'"C:{PLAYER}" "%1"')}),
        ("shell extension", {"software": _extension}),
        ("shell-delay-load", {"software": _delay_load}),
        ("task", {"write": {f"{xp.ROOT}/Tasks/Play.job": build_job(r"C:\Program Files\Player\player.exe")}}),
        (
            "startup-folder",
            {
                "write": {
                    f"{xp.PROFILE}/operator/Start Menu/Programs/Startup/Play.lnk": build_shortcut(
                        local=r"C:\Program Files\Player\player.exe"
                    )
                }
            },
        ),
        ("boot driver", {"system": _set(SERVICE, Type=1, Start=0, ErrorControl=1, ImagePath=r"Program Files\x.sys")}),
    ],
)
def test_a_planted_need_of_each_kind_stops_the_plan(kind: str, plant: dict[str, object]) -> None:
    if kind == "boot driver":
        plant = {
            "system": _set(
                SERVICE, Type=1, Start=0, ErrorControl=1, ImagePath=r"\??\C:\Program Files\Player\player.exe"
            )
        }
    plan = _plan(**plant)
    assert plan.reasons, kind
    assert any(kind in reason.chain[0] and reason.chain[-1] in (PLAYER, LIBRARY) for reason in plan.reasons)
    assert _plan().reasons == ()


@pytest.mark.parametrize("name", ["ftdisk", "PartMgr", "RpcSs", "PlugPlay", "SamSs", "VolSnap"])
def test_a_service_that_the_start_needs_is_not_disabled(name: str) -> None:
    own = component("own", "{system32}/calc.exe", "{programs}/Player/**", services=[name])
    plan = plan_of(Choice(None, drop=("own",)), Plant(write={PLAYER: b"x"}), own)
    assert ("the start", f"the service {name}".lower()) in {
        (reason.chain[0], reason.chain[-1].lower()) for reason in plan.reasons
    }


def _users(imports: dict[str, list[str | int]], **more: dict[str, list[str | int]]) -> dict[str, bytes]:
    return {f"{xp.SYSTEM32}/uses.exe": _program("uses.exe", imports, **more)}


def test_a_programs_import_closure_stops_the_plan() -> None:
    component_of = component("shared", "{system32}/shared.dll")
    shared = build_pe(PeSpec(name="shared.dll", exports={"Do": None}))
    middle = build_pe(PeSpec(name="middle.dll", exports={"Go": None}, imports={"shared.dll": ["Do"]}))
    files = {f"{xp.SYSTEM32}/shared.dll": shared, f"{xp.SYSTEM32}/middle.dll": middle}
    plant = Plant(write={**files, **_users({"middle.dll": ["Go"]})})
    (reason,) = plan_of(Choice(None, drop=("shared",)), plant, component_of).reasons
    assert reason.chain == (
        f"the program {xp.SYSTEM32}/uses.exe",
        f"{xp.SYSTEM32}/middle.dll",
        f"{xp.SYSTEM32}/shared.dll",
    )


def test_a_registered_server_that_stays_and_needs_what_goes_stops_the_plan() -> None:
    server = build_pe(PeSpec(name="server.dll", imports={"library.dll": ["Play"]}))
    files = {f"{xp.SYSTEM32}/server.dll": server, f"{xp.SYSTEM32}/library.dll": FILES[LIBRARY]}

    def register(root: Node) -> None:
        root.at(rf"Classes\CLSID\{CLSID}\InprocServer32").values[""] = r"C:\WINDOWS\system32\server.dll"

    own = component("library", "{system32}/library.dll")
    (reason,) = plan_of(Choice(None, drop=("library",)), Plant(write=files, software=register), own).reasons
    assert reason.chain[0] == f"the class {CLSID} {xp.SYSTEM32}/server.dll"


def test_a_delayed_import_is_told_and_stops_nothing() -> None:
    own = component("shared", "{system32}/shared.dll")
    files = {f"{xp.SYSTEM32}/shared.dll": build_pe(PeSpec(name="shared.dll", exports={"Do": None}))}
    files |= _users({"KERNEL32.dll": ["ExitProcess"]}, delay_imports={"shared.dll": ["Do"]})
    plan = plan_of(Choice(None, drop=("shared",)), Plant(write=files), own)
    assert plan.reasons == ()
    (dependent,) = plan.parts[0].needed_by
    assert dependent.later and dependent.kind == "program" and dependent.name.endswith("uses.exe")


def test_an_export_that_is_forwarded_to_what_goes_stops_the_plan() -> None:
    own = component("shared", "{system32}/shared.dll")
    files = {
        f"{xp.SYSTEM32}/shared.dll": build_pe(PeSpec(name="shared.dll", exports={"Do": None})),
        f"{xp.SYSTEM32}/front.dll": build_pe(PeSpec(name="front.dll", exports={"Do": "SHARED.Do"})),
        **_users({"front.dll": ["Do"]}),
    }
    (reason,) = plan_of(Choice(None, drop=("shared",)), Plant(write=files), own).reasons
    assert reason.chain[0].endswith("uses.exe") and reason.chain[-1] == f"{xp.SYSTEM32}/shared.dll"


def test_another_copy_that_the_loader_finds_is_enough() -> None:
    own = component("shared", "{programs}/App/shared.dll")
    shared = build_pe(PeSpec(name="shared.dll", exports={"Do": None}))
    app = "/Program Files/App"
    files = {f"{app}/uses.exe": _program("uses.exe", {"shared.dll": ["Do"]}), f"{app}/shared.dll": shared}
    assert plan_of(Choice(None, drop=("shared",)), Plant(write=files), own).reasons
    files[f"{xp.SYSTEM32}/shared.dll"] = shared
    assert plan_of(Choice(None, drop=("shared",)), Plant(write=files), own).reasons == ()
    files[f"{xp.SYSTEM32}/shared.dll"] = build_pe(PeSpec(name="shared.dll", exports={"Other": None}))
    (reason,) = plan_of(Choice(None, drop=("shared",)), Plant(write=files), own).reasons
    assert reason.path == f"{app}/shared.dll"


def test_a_users_own_file_types_and_classes_count() -> None:
    def user(root: Node) -> None:
        root.at(r"Software\Classes\Song\shell\open\command").values[""] = r"C:\Program Files\Player\player.exe %1"

    def classes(root: Node) -> None:
        root.at(rf"CLSID\{CLSID}\InprocServer32").values[""] = r"C:\Program Files\Player\library.dll"

    hive = Node()
    classes(hive)
    folder = f"{xp.PROFILE}/operator/Local Settings/Application Data/Microsoft/Windows"
    plan = _plan(user=user, write={f"{folder}/UsrClass.dat": build_hive(hive, name="UsrClass.dat")})
    (reason,) = plan.reasons
    assert reason.chain[0] == "files of type Song of operator (open)"
    assert [step.edit for step in plan.steps] == [DeleteKey(rf"HKU\operator_Classes\CLSID\{CLSID}")]


def test_names_in_any_alphabet_are_followed() -> None:
    home = "/Program Files/Дом 家"
    own = component("home", "{programs}/Дом 家", "{programs}/Дом 家/**")
    files = {f"{home}/ПЛЕЕР.exe": FILES[PLAYER], f"{home}/library.dll": FILES[LIBRARY]}
    command = r"C:\Program Files\Дом 家\плеер.EXE /s"
    plan = plan_of(Choice(None, drop=("home",)), Plant(write=files, software=_set(RUN, Дом=command)), own)
    (reason,) = plan.reasons
    assert reason.path == f"{home}/ПЛЕЕР.exe" and "Дом" in reason.chain[0]


def test_what_is_the_components_own_goes_along() -> None:
    own = component(
        "player",
        "{programs}/Player",
        "{programs}/Player/**",
        types=["Song*"],
        runs=["Player"],
        keys=[r"NTUSER\Software\Player", r"SOFTWARE\Classes\*\shellex\ContextMenuHandlers\Player"],
        subcomponents=["player"],
        uninstall=["Player"],
    )

    def software(root: Node) -> None:
        _extension(root)
        root.at(r"Classes\Song1\shell\open\command").values[""] = r'"C:\Program Files\Player\player.exe" "%1"'
        root.at(RUN).values["Player"] = r"C:\Program Files\Player\player.exe"
        root.at(r"Microsoft\Windows\CurrentVersion\Uninstall\Player").values["DisplayName"] = "Player"
        root.at(r"Microsoft\Windows\CurrentVersion\Setup\OC Manager\Subcomponents").values["Player"] = 1
        root.at(r"Microsoft\Windows NT\CurrentVersion\Winlogon").values["SFCScan"] = 1

    def user(root: Node) -> None:
        root.at(r"Software\Player\Skins").values["a"] = 1
        root.at(rf"Software\{RUN}").values["player"] = r"C:\Program Files\Player\player.exe"

    links = {
        f"{xp.PROFILE}/All Users/Start Menu/Programs/Playing/Player.lnk": build_shortcut(
            local=r"C:\Program Files\Player\PLAYER.exe"
        ),
        f"{xp.PROFILE}/operator/Desktop/Spiel.lnk": build_shortcut(
            items=("C:", "Program Files", "Player", "player.exe")
        ),
        f"{xp.PROFILE}/operator/Desktop/Other.lnk": build_shortcut(local=r"C:\WINDOWS\system32\cmd.exe"),
    }
    plant = Plant(write={**FILES, **links}, software=software, user=user)
    plan = plan_of(NAMED, plant, own)
    assert plan.reasons == ()
    edits = {(type(step.edit), step.edit.key) for step in plan.steps}
    assert {
        (DeleteKey, rf"HKLM\SOFTWARE\Classes\CLSID\{CLSID}"),
        (DeleteKey, r"HKLM\SOFTWARE\Classes\Song1\shell\open"),
        (DeleteKey, r"HKLM\SOFTWARE\Classes\Song\shellex\ContextMenuHandlers\Player"),
        (DeleteKey, r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\Player"),
        (DeleteKey, r"HKU\operator\Software\Player"),
        (DeleteValue, rf"HKLM\SOFTWARE\{RUN}"),
        (DeleteValue, rf"HKU\operator\Software\{RUN}"),
        (SetValue, r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\OC Manager\Subcomponents"),
        (SetValue, r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon"),
    } == edits
    assert {step.part for step in plan.steps} == {"player", None}
    gone = {name for name in links if "Other" not in name}
    assert set(plan.parts[0].shortcuts) == gone and gone <= set(plan.files)
    assert f"{xp.PROFILE}/All Users/Start Menu/Programs/Playing" in plan.removed
    changes = planned_changes(slim_guest(plant), plan, image="memory")[1]
    written = {each.path.rpartition("/")[2] for each in changes} - {path.rpartition("/")[2] for path in plan.removed}
    assert written == {"SOFTWARE", "NTUSER.DAT"}


def test_the_default_users_and_the_logon_screens_hives_are_edited_too() -> None:
    own = component("player", "{programs}/Player/**", keys=[r"NTUSER\Control Panel\Desktop"])
    hive = xp.clean_files()[f"{xp.PROFILE}/operator/NTUSER.DAT"]
    plant = Plant(write={**FILES, f"{xp.PROFILE}/Default User/NTUSER.DAT": hive})
    keys = {step.edit.key for step in plan_of(NAMED, plant, own).steps}
    assert keys == {rf"HKU\{name}\Control Panel\Desktop" for name in ("operator", "Default User", ".DEFAULT")}


def test_a_users_hive_that_cant_be_read_is_left_alone_and_noted() -> None:
    own = component(
        "player", "{programs}/Player/**", keys=[r"NTUSER\Software\Microsoft\Windows\CurrentVersion\Internet Settings"]
    )
    plant = Plant(write={**FILES, f"{xp.PROFILE}/guest/NTUSER.DAT": b"regf" + bytes(8000)})
    plan = plan_of(NAMED, plant, own)
    assert any("guest/NTUSER.DAT is left alone" in note for note in plan.notes)
    assert {step.edit.key for step in plan.steps} == {
        rf"HKU\{name}\Software\Microsoft\Windows\CurrentVersion\Internet Settings"
        for name in ("operator", ".DEFAULT")
    }


def test_file_protection_is_only_touched_where_it_scans() -> None:
    def policy(root: Node) -> None:
        root.at(r"Policies\Microsoft\Windows NT\Windows File Protection").values["SfcScan"] = 2

    (step,) = [each for each in _plan(software=policy).steps if each.kind == "protection"]
    assert step.edit.key.endswith("Windows File Protection") and "instead of 2" in step.said
    assert not _plan().steps
    safe = plan_of(Choice("safe"), Plant(software=policy))
    assert safe.files and not safe.steps


def test_the_list_says_what_depends_on_each_component_alone() -> None:
    own = component("shared", "{system32}/shared.dll")
    files = {
        f"{xp.SYSTEM32}/shared.dll": build_pe(PeSpec(name="shared.dll", exports={"Do": None})),
        **_users({"shared.dll": ["Do"]}),
        **FILES,
    }
    guest = slim_guest(Plant(write=files, software=_set(r"Classes\Song\shell\open\command", default=rf"C:{PLAYER}")))
    parts = {part.component.id: part for part in list_parts(guest, (own, OWN), lambda count: None)}
    (program,) = parts["shared"].needed_by
    assert (program.kind, program.path, program.along) == ("program", f"{xp.SYSTEM32}/shared.dll".lower(), False)
    assert [(each.kind, each.along) for each in parts["player"].needed_by] == [("file type", False)]


def test_a_page_file_on_another_volume_is_noted() -> None:
    def paging(root: Node) -> None:
        manager = root.at(r"ControlSet001\Control\Session Manager\Memory Management")
        manager.values["PagingFiles"] = [r"C:\pagefile.sys 768 1536", r"D:\my swap.sys 768 1536", r"?:\pagefile.sys"]

    assert plan_of(Choice("safe"), Plant(system=paging)).notes == (
        r"the page file D:\my swap.sys lies on a drive that isn't known in this image, and stays",
    )


def test_outlook_express_goes_as_windows_xp_registers_it() -> None:
    home, setup = "/Program Files/Outlook Express", r"Microsoft\Active Setup\Installed Components"
    guids = {
        "{44BBA840-CC51-11CF-AAFA-00AA00B6015C}": r'"C:\Program Files\Outlook Express\setup50.exe" /APP:OE /user',
        "{7790769C-0471-11d2-AF11-00C04FA35D02}": r'"C:\Program Files\Outlook Express\setup50.exe" /APP:WAB /user',
    }

    def software(root: Node) -> None:
        for guid, command in guids.items():
            root.at(rf"{setup}\{guid}").values["StubPath"] = command
        for name in ("mailto", "Microsoft Internet Mail Message"):
            command = r'"C:\Program Files\Outlook Express\msimn.exe" /mailurl:%1'
            root.at(rf"Classes\{name}\shell\open\command").values[""] = command

    def user(root: Node) -> None:
        for guid in guids:
            root.at(rf"Software\{setup}\{guid}").values["Version"] = "6,0,2900,5512"

    files = {f"{home}/{name}": FILES[PLAYER] for name in ("msimn.exe", "setup50.exe", "wab.exe", "library.dll")}
    drop = ("outlook-express", "address-book")
    plan = plan_of(Choice(None, drop=drop), Plant(write=files, software=software, user=user))
    assert plan.reasons == () and home in plan.removed
    keys = {step.edit.key for step in plan.steps}
    wanted = {rf"{top}\{setup}\{guid}" for top in (r"HKLM\SOFTWARE", r"HKU\operator\Software") for guid in guids}
    assert wanted | {r"HKLM\SOFTWARE\Classes\mailto\shell\open"} <= keys


def test_damaged_hives_and_shortcuts_raise_nothing_but_errors_of_our_own() -> None:
    source = random.Random(5)
    hives = [f"{xp.SYSTEM32}/config/{name}" for name in ("SYSTEM", "SOFTWARE", "DEFAULT")]
    hives.append(f"{xp.PROFILE}/operator/NTUSER.DAT")
    whole = build_shortcut(local=r"C:\WINDOWS\system32\utilman.exe", items=("C:", "WINDOWS", "x"))
    for _ in range(12):
        write = {}
        for path in source.sample(hives, 2):
            data = bytearray(clean_files()[path])
            for _ in range(source.choice((1, 10, 40))):
                data[source.randrange(4096, len(data))] = source.choice((0, 255, source.randrange(256)))
            write[path] = bytes(data)
        link = bytearray(whole)
        link[source.randrange(20, len(link))] = source.randrange(256)
        write[f"{xp.PROFILE}/operator/Desktop/x.lnk"] = bytes(link)
        try:
            guest = slim_guest(Plant(write=write))
            plan = plan_guest(Choice("lite", give_way=True), guest, COMPONENTS)
            planned_changes(guest, plan, image="memory")
        except ByreError:
            continue


SHELL_FOLDERS = r"Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"


def test_what_starts_from_a_folder_by_another_name_stops_the_plan() -> None:
    """German: Startmenü\\Programme\\Autostart, and %ProgramFiles% is Programme."""

    def software(root: Node) -> None:
        root.at(r"Microsoft\Windows\CurrentVersion").values["ProgramFilesDir"] = r"C:\Programme"
        root.at(r"Classes\Song\shell\open\command").values[""] = expand_sz(r'"%ProgramFiles%\Player\player.exe" "%1"')
        names = root.at(SHELL_FOLDERS).values
        names["Common Startup"] = expand_sz(r"%ALLUSERSPROFILE%\Startmenü\Programme\Autostart")

    user = xp.user_hive()
    user.at(rf"Software\{SHELL_FOLDERS}").values["Startup"] = expand_sz(r"%USERPROFILE%\Startmenü\Autostart")
    link = build_shortcut(local=r"C:\Programme\Player\player.exe")
    places = (f"{xp.PROFILE}/All Users/Startmenü/Programme/Autostart", f"{xp.PROFILE}/operator/Startmenü/Autostart")
    files = {
        "/Programme/Player/player.exe": FILES[PLAYER],
        "/Programme/Player/library.dll": FILES[LIBRARY],
        f"{xp.PROFILE}/operator/NTUSER.DAT": build_hive(user, name="ntuser.dat"),
        **{f"{place}/Play.lnk": link for place in places},
    }
    own = component("player", "{programs}/Player/**")
    plan = plan_of(Choice(None, drop=("player",)), Plant(write=files, software=software), own)
    said = {reason.chain[0] for reason in plan.reasons}
    assert {f"startup-folder {place}/Play.lnk" for place in places} <= said
    assert any("files of type Song" in each for each in said)


def test_a_choice_on_a_system_drive_that_isnt_c_stays() -> None:
    def software(root: Node) -> None:
        root.at(r"Microsoft\Windows NT\CurrentVersion").values["SystemRoot"] = r"D:\WINDOWS"

    user = xp.user_hive()
    user.at(r"Control Panel\Desktop").values["Wallpaper"] = r"D:\WINDOWS\Web\Wallpaper\Azul.jpg"
    files = {
        f"{xp.ROOT}/Web/Wallpaper/Azul.jpg": b"x",
        f"{xp.PROFILE}/operator/NTUSER.DAT": build_hive(user, name="ntuser.dat"),
    }
    plan = plan_of(Choice("lean"), Plant(write=files, software=software))
    assert f"{xp.ROOT}/Web/Wallpaper/Azul.jpg" not in plan.files


def test_programs_and_profiles_may_have_other_names() -> None:
    def software(root: Node) -> None:
        current = root.at(r"Microsoft\Windows\CurrentVersion").values
        current |= {"ProgramFilesDir": r"C:\Programme", "CommonFilesDir": r"C:\Programme\Gemeinsame Dateien"}
        root.at(r"Microsoft\Windows NT\CurrentVersion\ProfileList").values["ProfilesDirectory"] = expand_sz(
            r"%SystemDrive%\Dokumente und Einstellungen"
        )

    home, profile = "/Programme/Messenger", "/Dokumente und Einstellungen/anna"
    files = {
        f"{home}/msmsgs.exe": FILES[PLAYER],
        f"{home}/library.dll": FILES[LIBRARY],
        "/Programme/Gemeinsame Dateien/SpeechEngines/x.dll": b"x",
        f"{profile}/Lokale Einstellungen/Temp/x.tmp": b"x",
    }
    user = xp.user_hive()
    user.at(rf"Software\{SHELL_FOLDERS}").values["Local Settings"] = expand_sz(r"%USERPROFILE%\Lokale Einstellungen")
    user.at(rf"Software\{RUN}").values["MSMSGS"] = r"C:\Programme\Messenger\msmsgs.exe /background"
    hive = {f"{profile}/NTUSER.DAT": build_hive(user, name="ntuser.dat")}
    plan = plan_of(Choice("lite"), Plant(write={**files, **hive}, software=software))
    assert plan.reasons == () and home in plan.removed and set(files) <= set(plan.files)
    assert DeleteValue(rf"HKU\anna\Software\{RUN}", "MSMSGS") in [step.edit for step in plan.steps]


def test_users_whose_hives_lie_elsewhere_keep_what_they_may_use() -> None:
    def software(root: Node) -> None:
        key = root.at(r"Microsoft\Windows NT\CurrentVersion\ProfileList\S-1-5-21-1-2-3-1004")
        key.values["ProfileImagePath"] = r"C:\Homes\anna"

    hive = clean_files()[f"{xp.PROFILE}/operator/NTUSER.DAT"]
    write = {"/Homes/anna/NTUSER.DAT": hive, f"{xp.SYSTEM32}/kbdgr.dll": b"x"}
    plan = plan_of(Choice("lean"), Plant(write=write, software=software))
    assert any("isn't known" in note and "anna" in note for note in plan.notes)
    (left,) = [each for each in plan.left if each.part == "keyboard-layouts"]
    assert "anna isn't where users' hives are looked for" in left.why


def test_a_component_that_isnt_there_is_told() -> None:
    plan = plan_of(Choice(None, drop=("themes", "printing", "fax"), keep=("fax",)))
    assert plan.notes == ("themes isn't in this image",)


def test_a_folder_whose_name_is_a_colon_is_no_drive() -> None:
    """Other systems make such names on NTFS."""
    system = slim_guest(Plant(write={"/:/x.tmp": b"odd"}))
    second = Drive("D", 2, MemoryFiles({"/:/y.tmp": b"odd", "/z.tmp": b"z"}))
    files = AllDrives(system.files, (second,))
    assert [letter_of(path) for path in ("/:/x.tmp", "D:/:/y.tmp", "D:/z.tmp")] == [None, "D", "D"]
    for path, data in (("/:/x.tmp", b"odd"), ("D:/:/y.tmp", b"odd"), ("D:/z.tmp", b"z")):
        assert files.read(files.lookup(path)) == data and files.lookup(path).path == path
    with pytest.raises(MissingError, match="no drive E:"):
        files.lookup("E:/z.tmp")


def test_a_copy_of_a_code_page_that_goes_leaves_the_code_page_installed() -> None:
    copy = f"{xp.SYSTEM32}/dllcache/c_437.nls"
    plan = plan_of(Choice(None, drop=(copy,)), Plant(write={copy: b"copy"}))
    assert plan.removed == (copy,) and [step.kind for step in plan.steps if step.kind == "code page"] == []


def test_a_second_system_on_the_volume_keeps_programs_that_it_may_share() -> None:
    other = {"/WINNT/system32/config/SYSTEM": b"regf", "/WINNT/system32/ntoskrnl.exe": b"MZ"}
    alone, beside = _plan(), _plan(write=other)
    assert alone.reasons == ()
    assert {(each.part, each.path) for each in beside.reasons} == {("player", LIBRARY)}


def test_a_device_whose_filter_would_be_disabled_stops_the_plan() -> None:
    """As the lower filter imapi of every drive that writes CDs."""

    def system(root: Node) -> None:
        _set(r"ControlSet001\Services\Imapi", Type=1, Start=1, ErrorControl=1)(root)
        drive = root.at(r"ControlSet001\Enum\IDE\CdRomMAKER_____DRIVE_1.00____\5&1&0&0.0.0")
        drive.values = {"FriendlyName": "MAKER DRIVE", "LowerFilters": ["imapi"]}

    own = component("burning", "{system32}/drivers/imapi.sys", services=["Imapi"])
    plant = Plant(write={f"{xp.SYSTEM32}/drivers/imapi.sys": b"x"}, system=system)
    plan = plan_of(Choice(None, drop=("burning",)), plant, own)
    assert ("the device MAKER DRIVE", "the service Imapi") in {reason.chain for reason in plan.reasons}


def test_infrared_goes_with_the_class_that_its_filter_belongs_to() -> None:
    """As a real Windows XP has it: the class of infrared devices names IRENUM."""
    place = r"ControlSet001\Control\Class\{6BDD1FC5-810F-11D0-BEC7-08002BE2092F}"

    def system(root: Node) -> None:
        _set(r"ControlSet001\Services\IRENUM", Type=1, Start=3, ErrorControl=1)(root)
        root.at(place).values = {"Class": "Infrared", "UpperFilters": ["IRENUM"]}

    files = {f"{xp.SYSTEM32}/irmon.dll": b"x", f"{xp.SYSTEM32}/drivers/irenum.sys": b"x"}
    plan = plan_of(Choice("lean"), Plant(write=files, system=system))
    assert plan.reasons == () and "IRENUM" in plan.services
    assert any(isinstance(step.edit, DeleteKey) and "6BDD1FC5" in step.edit.key for step in plan.steps)


def test_variables_of_folders_on_another_drive_lead_there() -> None:
    root = Node()
    root.at(r"Microsoft\Windows\CurrentVersion").values["ProgramFilesDir"] = r"D:\Programme"
    hive = open_hive(build_hive(root, name="SOFTWARE"), path="SOFTWARE")
    paths = system_paths("/WINDOWS", "C", hive, frozenset("D"))
    assert paths.resolve(r'"%ProgramFiles%\Player\player.exe"') == "D:/Programme/Player/player.exe"
    assert paths.resolve(r"%CommonProgramFiles%\x.dll") == "D:/Programme/Common Files/x.dll"
    assert system_paths("/WINDOWS", "C", hive).resolve(r"%ProgramFiles%\x.exe") == "/Program Files/x.exe"

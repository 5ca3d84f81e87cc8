"""What one guest uses, judged from its registry; and what can't be judged stays."""

from __future__ import annotations

import lzma
import os
from dataclasses import replace
from pathlib import Path

import pytest

from builders import xp
from builders.audited import Plant
from builders.hive import Node
from builders.slim_guests import plan_of, slim_guest
from byre.lite.slimming import in_use
from byre.lite.slimming.evidence import _nls, _user
from byre.lite.slimming.in_use import Evidence, Fonts, Nls, UserSettings, Verdict, faces_of, judge_all
from byre.lite.slimming.plan import Choice
from byre.windows.components.component import JUDGEMENTS
from byre.windows.fact import known, unknown
from byre.windows.paths import SystemPaths
from byre.windows.registry import open_hive

DATA = Path(os.environ.get("BYRE_FIELD_DATA", Path(__file__).parents[3] / "shared" / "data"))
PAGES = {"acp": "1252", "oemcp": "437", "maccp": "10000", "1252": "c_1252.nls", "37": "c_037.nls", "932": "c_932.nls"}
LAYOUTS = {"00000409": "kbdus.dll", "00000407": "kbdgr.dll", "0000040f": "kbdic.dll", "00000419": "kbdru.dll"}
NLS = Nls(PAGES, frozenset({"0409"}), LAYOUTS, frozenset({"kbd101.dll"}))
USER = UserSettings("joe", frozenset({"0000040f"}), frozenset({"040f", "0409"}), frozenset({866}))
FONTS = Fonts(
    {
        "comic.ttf": frozenset({"comic sans ms"}),
        "impact.ttf": frozenset({"impact"}),
        "mangal.ttf": frozenset({"mangal"}),
    },
    frozenset({"impact"}),
)
EVIDENCE = Evidence(known(NLS), known((USER,)), known(FONTS), known({}), known(()))


def _why(judgement: str, path: str, evidence: Evidence = EVIDENCE) -> str | None:
    return judge_all(evidence)[judgement].why(path)


def _nls_with(**changes: object) -> Evidence:
    return replace(EVIDENCE, nls=known(replace(NLS, **changes)))  # type: ignore[arg-type]


def _user_with(**changes: object) -> Evidence:
    return replace(EVIDENCE, users=known((USER, replace(USER, name="ann", **changes))))  # type: ignore[arg-type]


def test_every_name_that_a_component_may_give_has_its_judgement() -> None:
    assert set(in_use.JUDGEMENTS) == set(JUDGEMENTS)


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_what_cant_be_judged_stays(name: str) -> None:
    evidence = Evidence(*(unknown("the hive is damaged") for _ in range(5)))
    said = judge_all(evidence)[name].why("/windows/system32/c_874.nls")
    assert said == "it can't be told: the hive is damaged"


@pytest.mark.parametrize("number", ["1252", "437", "850", "10000", "20127", "28591", "861", "866"])
def test_code_pages_in_use_stay(number: str) -> None:
    assert _why("code-pages", f"/windows/system32/c_{number}.nls")


@pytest.mark.parametrize("number", ["037", "874", "932", "1256", "28592"])
def test_code_pages_that_nobody_has_go(number: str) -> None:
    assert _why("code-pages", f"/windows/system32/c_{number}.nls") is None


def test_a_language_of_a_user_or_the_system_keeps_its_code_pages() -> None:
    japanese = _user_with(languages=frozenset({"0411"}))
    assert _why("code-pages", "/windows/system32/c_932.nls", japanese) == "the language 0411 of ann has it"
    assert "the system's language" in (
        _why("code-pages", "/x/c_874.nls", _nls_with(languages=frozenset({"041e"}))) or ""
    )


def test_a_file_that_isnt_named_as_a_code_page_stays() -> None:
    assert _why("code-pages", "/windows/system32/c_is2022.dll")
    assert _why("code-pages", "/windows/system32/c_g18030.dll")


def test_without_the_systems_own_code_page_all_stay() -> None:
    assert "ACP" in (_why("code-pages", "/x/c_874.nls", _nls_with(code_pages={"oemcp": "437"})) or "")


def test_layouts_of_users_the_system_and_the_keyboard_stay() -> None:
    assert _why("keyboard-layouts", "/windows/system32/kbdic.dll") == "joe has the layout 0000040f"
    assert _why("keyboard-layouts", "/windows/system32/kbdus.dll")
    assert _why("keyboard-layouts", "/windows/system32/kbd101.dll") == "the keyboard's driver names it"
    assert _why("keyboard-layouts", "/windows/system32/kbdgr.dll") is None
    german = _nls_with(languages=frozenset({"0407"}))
    assert _why("keyboard-layouts", "/windows/system32/kbdgr.dll", german)


def test_a_layout_that_nothing_explains_keeps_all() -> None:
    assert "a0000409" in (_why("keyboard-layouts", "/x/kbdgr.dll", _user_with(layouts=frozenset({"a0000409"}))) or "")


@pytest.mark.parametrize(
    "evidence",
    [
        _nls_with(code_pages={**PAGES, "acp": "936"}),
        _nls_with(languages=frozenset({"0412"})),
        _user_with(languages=frozenset({"0404"})),
        _user_with(layouts=frozenset({"e0010411"})),
    ],
)
def test_anything_east_asian_keeps_the_input_methods(evidence: Evidence) -> None:
    assert _why("input-methods", "/windows/ime/imjp8_1/imjpcic.dll", evidence)
    assert _why("input-methods", "/windows/ime/imjp8_1/imjpcic.dll") is None


def test_languages_of_the_user_interface_stay_with_whom_they_belong_to() -> None:
    assert _why("languages", "/windows/mui/0409") and _why("languages", "/windows/system32/mui/040f/shell32.dll.mui")
    assert _why("languages", "/windows/mui/fallback/0407/user32.dll.mui") is None
    assert _why("languages", "/windows/mui/muisetup.exe") == "it belongs to no language of its own"


def test_fonts_that_windows_or_a_user_names_stay() -> None:
    assert _why("fonts", "/windows/fonts/comic.ttf") is None
    assert _why("fonts", "/windows/fonts/impact.ttf") == "Windows names impact"
    assert (
        _why("fonts", "/windows/fonts/mangal.ttf", _user_with(faces=frozenset({"mangal"}))) == "ann has chosen mangal"
    )
    assert (
        _why("fonts", "/x", replace(EVIDENCE, fonts=known(Fonts({})))) == "it can't be told: SOFTWARE lists no fonts"
    )


@pytest.mark.parametrize(
    ("title", "faces"),
    [
        ("Comic Sans MS Bold (TrueType)", {"comic sans ms bold", "comic sans ms"}),
        ("Batang & BatangChe (TrueType)", {"batang", "batangche"}),
        ("MS Sans Serif 8,10,12,14,18,24 (VGA res)", {"ms sans serif"}),
        ("Modern (Plotter)", {"modern"}),
        ("", set()),
        pytest.param("Fixedsys" + " 1" * 8000 + "x", {"fixedsys"}, id="what no face is long enough for"),
    ],
)
def test_faces_are_read_from_the_names_of_fonts(title: str, faces: set[str]) -> None:
    assert set(faces_of(title)) == faces


def test_portability_keeps_caches_and_the_files_that_are_lacking() -> None:
    lacking = replace(EVIDENCE, lacking=known({"intelide.sys": "intelide.sys isn't in system32\\drivers"}))
    for kept in (
        "/windows/driver cache/i386/driver.cab",
        "/windows/servicepackfiles/i386/intelide.sys",
        "/windows/servicepackfiles/i386/sp3.cab",
        "/i386/intelide.sy_",
        "/windows/system32/dllcache/intelide.sys",
    ):
        assert "byre mend" in (_why("portability", kept, lacking) or "")
    assert _why("portability", "/windows/system32/dllcache/calc.exe", lacking) is None
    assert _why("portability", "/windows/driver cache/i386/driver.cab") is None


def test_printers_and_what_users_chose_stay() -> None:
    assert _why("printers", "/x") is None
    assert "Laser" in (_why("printers", "/x", replace(EVIDENCE, printers=known(("Laser",)))) or "")
    chosen = _user_with(files=frozenset({"/windows/web/wallpaper/bliss.bmp"}))
    assert _why("users-choice", "/windows/web/wallpaper/bliss.bmp", chosen) == "ann has chosen it"
    assert _why("users-choice", "/windows/web/wallpaper/azul.jpg", chosen) is None


def _hive(name: str) -> bytes:
    path = DATA / f"{name}.xz"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return lzma.decompress(path.read_bytes())


@pytest.mark.field
def test_a_real_systems_code_pages_are_read() -> None:
    key = open_hive(_hive("corrupted_system_hive"), path="SYSTEM").key("ControlSet001")
    assert key is not None
    nls = _nls(key)
    assert (nls.code_pages["acp"], nls.code_pages["28591"]) == ("1252", "c_28591.nls")
    assert "20000" not in nls.code_pages  # an empty text: not installed
    verdict = judge_all(replace(EVIDENCE, nls=known(nls)))["code-pages"]
    gone = [
        page for page, file in nls.code_pages.items() if file.startswith("c_") and verdict.why(f"/x/{file}") is None
    ]
    assert {"874", "932", "1256"} <= set(gone)
    assert not set(gone) & {"1252", "437", "850", "10000", "20127", "28591"}


@pytest.mark.field
def test_a_real_users_settings_are_read() -> None:
    there = {"/windows/web/wallpaper/bliss.bmp", "/windows/system32/logon.scr"}
    user = _user("joe", open_hive(_hive("NTUSER_XP.DAT"), path="x"), SystemPaths("/WINDOWS"), there)
    assert user.layouts == {"0000040f", "00000409"}
    assert user.languages == {"040f", "0409"}
    assert user.files == there
    assert "tahoma" in user.faces


def _world(root: Node) -> None:
    for name in ("ControlSet001", "ControlSet002"):
        control = root.at(rf"{name}\Control")
        control.at(r"Nls\CodePage").values |= {"MACCP": "10000", "874": "c_874.nls", "850": "c_850.nls"}
        root.at(rf"{name}\Services\PCIIde").values["Start"] = 0
        for layout, file in LAYOUTS.items():
            control.at(rf"Keyboard Layouts\{layout}").values["Layout File"] = file.upper()


def _fonts(root: Node) -> None:
    key = root.at(r"Microsoft\Windows NT\CurrentVersion")
    key.at("Fonts").values = {"Comic Sans MS (TrueType)": "COMIC.TTF", "Impact (TrueType)": "IMPACT.TTF"}
    key.at("FontSubstitutes").values = {"Headline": "Impact,0"}


def _user_hive(root: Node) -> None:
    root.at(r"Keyboard Layout\Preload").values = {"1": "d0000407"}
    root.at(r"Keyboard Layout\Substitutes").values = {"d0000407": "00000407"}
    root.at(r"Control Panel\Desktop").values["Wallpaper"] = r"C:\WINDOWS\Web\Wallpaper\Bliss.bmp"


PLANTED = (
    *(f"{xp.SYSTEM32}/{name}" for name in ("c_874.nls", "c_850.nls", "KBDGR.DLL", "kbdru.dll", "kbdus.dll")),
    *(f"{xp.ROOT}/Fonts/{name}" for name in ("comic.ttf", "impact.ttf", "tahoma.ttf")),
    *(f"{xp.ROOT}/Web/Wallpaper/{name}" for name in ("Bliss.bmp", "Azul.jpg")),
    f"{xp.ROOT}/Driver Cache/i386/driver.cab",
    f"{xp.SYSTEM32}/dllcache/c_874.nls",
)


def _world_plant(**more: object) -> Plant:
    files = dict.fromkeys(PLANTED, b"x")
    return Plant(write=files, system=_world, software=_fonts, user=_user_hive, **more)  # type: ignore[arg-type]


def test_lean_takes_what_is_not_in_use_and_tells_the_registry() -> None:
    plan = plan_of(Choice("lean", drop=("fonts-optional",)), _world_plant())
    gone = set(plan.files) & set(PLANTED)
    assert {path.rpartition("/")[2] for path in gone} == {
        "c_874.nls",
        "kbdru.dll",
        "comic.ttf",
        "Azul.jpg",
        "driver.cab",
    }
    assert f"{xp.SYSTEM32}/dllcache/c_874.nls" in gone
    said = {step.said for step in plan.steps}
    assert "code page 874: not installed" in said and "font Comic Sans MS (TrueType): off the list" in said
    left = {(each.part, path.rpartition("/")[2]): each.why for each in plan.left for path in each.files}
    assert left["keyboard-layouts", "KBDGR.DLL"] == "operator has the layout 00000407"
    assert left["wallpapers", "Bliss.bmp"] == "operator has chosen it"
    assert left["fonts-optional", "impact.ttf"] == "Windows names impact"


def test_the_driver_cache_stays_while_a_controllers_driver_is_missing() -> None:
    plan = plan_of(Choice("lean"), _world_plant(remove=(f"{xp.DRIVERS}/intelide.sys",)))
    assert f"{xp.ROOT}/Driver Cache/i386/driver.cab" not in plan.files
    (left,) = [each for each in plan.left if each.part == "driver-cache"]
    assert "intelide.sys isn't in system32\\drivers" in left.why


def test_a_hive_that_cant_be_read_keeps_layouts_and_code_pages() -> None:
    hives = frozenset({f"{xp.PROFILE}/operator/NTUSER.DAT"})
    plan = plan_of(Choice("lean"), _world_plant(unreadable=hives))
    kept = {each.part for each in plan.left if each.why.startswith("it can't be told")}
    assert {"code-pages", "keyboard-layouts", "wallpapers"} <= kept
    gone = [path for path in plan.files if "dllcache" not in path]  # that goes for itself
    assert not [path for path in gone if path.lower().endswith((".nls", "kbdru.dll", ".jpg"))]


def test_a_value_that_is_no_text_says_nothing_and_raises_nothing() -> None:
    def strange(root: Node) -> None:
        _world(root)
        root.at(r"ControlSet001\Control\Nls\CodePage").values["ACP"] = b"\xff\xd8\x00"
        root.at(r"ControlSet001\Control\Keyboard Layouts\zzzz").values["Layout File"] = 7

    guest = slim_guest(Plant(write=dict.fromkeys(PLANTED, b"x"), system=strange, user=_user_hive))
    verdict: Verdict = guest.verdicts["code-pages"]
    assert verdict.whole is not None and "ACP" in verdict.whole

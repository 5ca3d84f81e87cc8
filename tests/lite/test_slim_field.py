"""Plans for a guest with the hives of a real Windows XP: each profile holds, and takes what it says."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import pytest

from builders import xp
from builders.audited import Plant
from builders.slim_guests import COMPONENTS, plan_of
from byre.lite.slimming.plan import Choice
from byre.windows.components import Component, Places

DATA = Path(os.environ.get("BYRE_FIELD_DATA", Path(__file__).parents[3] / "shared" / "data"))
pytestmark = pytest.mark.field


def _hive(name: str) -> bytes:
    path = DATA / f"{name}.xz"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    return lzma.decompress(path.read_bytes())


def _stand_ins(component: Component) -> list[str]:
    """Paths that a component names without a pattern, and its marks in folders that are its own."""
    found = []
    for pattern in component.files:
        path = pattern
        for name, value in Places().values().items():
            path = path.replace("{" + name + "}", value.replace("*", "operator"))
        folder = path.removesuffix("/**")
        if "*" not in path and "." in path.rpartition("/")[2]:
            found.append(path)
        elif folder != path and "*" not in folder:
            found.append(f"{folder}/{component.marks[0]}")
    return found


@pytest.mark.parametrize("profile", ["safe", "lean", "lite"])
def test_a_real_systems_registry_asks_for_nothing_that_a_profile_takes(profile: str) -> None:
    files = {path: b"stands in" for each in COMPONENTS for path in _stand_ins(each)}
    files[f"{xp.SYSTEM32}/config/SYSTEM"] = _hive("corrupted_system_hive")
    files[f"{xp.PROFILE}/operator/NTUSER.DAT"] = _hive("NTUSER_XP.DAT")
    plan = plan_of(Choice(profile), Plant(write=files))
    assert plan.reasons == ()
    taken = {part.component.id for part in plan.parts}
    assert {"temporary-files", "page-file"} <= taken
    assert ("infrared" in taken) == (profile != "safe")
    assert ({"cd-burning", "themes", "web-folders", "system-restore"} <= taken) == (profile == "lite")

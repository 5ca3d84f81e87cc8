"""What Private and Lean count: each kind by the paths where it lies, numbers only."""

from __future__ import annotations

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from builders.hive import Node, build_hive
from builders.memory_files import MemoryFiles
from builders.provenance_defects import EXPLORER, user_hive
from byre.audit.judging import judge
from byre.audit.leftovers import LEAN, PRIVATE, WASTES, survey_volume
from byre.audit.personal import TRACES
from byre.audit.private import RULES

HOME = "/Documents and Settings/anna"
KINDS = [
    ("documents", f"{HOME}/My Documents/letter.doc"),
    ("documents", "/Users/anna/Documents/letter.doc"),
    ("documents", f"{HOME}/Desktop/list.txt"),
    ("pictures", f"{HOME}/My Documents/My Pictures/cat.jpg"),
    ("mail", f"{HOME}/Local Settings/Application Data/Identities/{{1}}/Microsoft/Outlook Express/Inbox.dbx"),
    ("mail", "/data/archive.pst"),
    ("mail", f"{HOME}/Application Data/Microsoft/Address Book/anna.wab"),
    ("mail", f"{HOME}/Application Data/Thunderbird/Profiles/x.default/Mail/Local Folders/Inbox"),
    ("history", f"{HOME}/Local Settings/History/History.IE5/index.dat"),
    ("history", f"{HOME}/Application Data/Mozilla/Firefox/Profiles/x/places.sqlite"),
    ("history", f"{HOME}/Cookies/anna@example.txt"),
    ("browser passwords", f"{HOME}/Application Data/Mozilla/Firefox/Profiles/x/signons3.txt"),
    ("browser passwords", f"{HOME}/Application Data/Opera/Opera/profile/wand.dat"),
    ("credentials", f"{HOME}/Application Data/Microsoft/Credentials/S-1-5/Credentials"),
    ("credentials", "/keys/server.pfx"),
    ("recent", f"{HOME}/Recent/letter.lnk"),
    ("dial-up", "/Documents and Settings/All Users/Application Data/Microsoft/Network/Connections/Pbk/rasphone.pbk"),
    ("event logs", "/WINDOWS/system32/config/SecEvent.Evt"),
    ("restore points", "/System Volume Information/_restore{1}/RP1/snapshot/_REGISTRY_MACHINE_SAM"),
    ("swap", "/pagefile.sys"),
    ("swap", "/hiberfil.sys"),
    ("dumps", "/WINDOWS/Minidump/Mini010101-01.dmp"),
    ("registry copies", "/WINDOWS/repair/sam"),
]
NEITHER = [
    "/Documents and Settings/All Users/Documents/My Pictures/Sample Pictures/Sunset.jpg",
    "/Documents and Settings/Default User/My Documents/desktop.ini",
    f"{HOME}/My Documents/desktop.ini",
    f"{HOME}/My Documents/Thumbs.db",
    "/WINDOWS/system32/ntdll.dll",
    "/Program Files/Instrument/instrument.exe",
]


@pytest.mark.parametrize(("kind", "path"), KINDS)
def test_a_file_is_counted_for_its_kind(kind: str, path: str) -> None:
    found = survey_volume(MemoryFiles({path: b"x" * 10}), "/WINDOWS").counts
    assert (found[kind].files, found[kind].bytes) == (1, 10)
    assert [each for each in found if each in PRIVATE] == [kind]


@pytest.mark.parametrize("path", NEITHER)
def test_what_setup_makes_is_nobodys(path: str) -> None:
    assert not set(survey_volume(MemoryFiles({path: b"x"}), "/WINDOWS").counts) & set(PRIVATE)


def test_every_private_kind_has_a_path_here() -> None:
    assert set(PRIVATE) - {kind for kind, _ in KINDS} == {"chats"}


def test_waste_says_what_removing_it_costs() -> None:
    paths = {"/WINDOWS/Temp/a.tmp": b"x", "/WINDOWS/system32/dllcache/a.dll": b"x"}
    facts = facts_of(Plant(write=paths))
    found = {row.finding.where: row for row in judge(facts).findings if row.rule.question == "lean"}
    assert found["temporary files"].rule.id == "LEAN-001"
    assert found["system file cache"].rule.id == "LEAN-002"
    for kind in WASTES.values():
        assert kind.title in LEAN.values()
    assert all("removing it costs: " in row.finding.consequence for row in found.values())


def test_nothing_personal_is_named() -> None:
    """Neither a user, nor a file, nor what a list holds comes into a finding."""
    secret = "Anna Secret"

    def hive(root: Node) -> object:
        root.at(rf"{EXPLORER}\RecentDocs").values["0"] = f"{secret}.doc"
        root.at(rf"{EXPLORER}\RunMRU").values.update({"a": rf"\\server\{secret}", "MRUList": "a"})
        root.at(r"Software\Microsoft\Internet Explorer\TypedURLs").values["url1"] = f"http://{secret}/"
        return root.at(r"Software\Microsoft\Internet Explorer\IntelliForms\SPW").values.update({"x": secret.encode()})

    security = Node()
    security.at(rf"Policy\Secrets\RasDialParams!{secret}#0")
    files = {
        **user_hive(hive),
        f"{HOME}/My Documents/{secret}.doc": b"x",
        f"{xp.SYSTEM32}/config/SECURITY": build_hive(security, name="SECURITY"),
    }
    report = judge(facts_of(Plant(write=files)))
    rows = [each.finding for each in report.findings if each.rule.question == "private"]
    assert not any("anna" in f"{row.where} {row.evidence} {row.consequence}".lower() for row in rows)
    told = {row.where: row.evidence for row in rows}
    assert told["recent files"] == "1 entry"
    assert told["typed commands and paths"] == "1 entry"
    assert told["passwords of web forms"] == "1 entry"
    assert told["passwords of dial-up and VPN connections"] == "1 entry"
    assert told["LSA secrets"] == "present"
    assert {rule.id for rule in RULES} == {"PRIV-001", "PRIV-002", "PRIV-003", "PRIV-004"}
    assert len(TRACES) == 7

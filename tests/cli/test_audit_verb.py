"""``byre audit`` and ``byre explain`` as a user runs them, on the specimen and copies of it with real damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import byre as package
from byre.audit.catalogue import RULES
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
MBR_SIGNATURE, BOOT_SECTOR, VOLUME = 510, 63 * 512, 63 * 512


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    byre("convert", "-O", "raw", SPECIMEN, tmp_path / "x.img")
    return tmp_path / "x.img"


def poke(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def rules(payload: dict[str, object], *severities: str) -> set[str]:
    found = payload["findings"]
    assert isinstance(found, list)
    return {row["rule"] for row in found if row["severity"] in (severities or ("medium", "high", "critical"))}


INTRUDERS = {
    *("CLEAN-001", "CLEAN-002", "CLEAN-010", "CLEAN-011", "CLEAN-018", "CLEAN-022", "CLEAN-025", "CLEAN-027"),
}
"""What the specimen's infected state must show, and nothing else at medium and above."""


def test_the_infected_specimen_fails_with_evidence() -> None:
    payload = byre_json("audit", f"{SPECIMEN}@infected", status=2)
    assert rules(payload) == INTRUDERS
    clean = next(row for row in payload["questions"] if row["question"] == "clean")
    assert clean["verdict"] == "fail"
    where = {row["where"] for row in payload["findings"] if row["rule"] == "CLEAN-010"}
    assert {"/WINDOWS/Temp/netmgr32.exe", "/WINDOWS/Temp/upd.exe", "/WINDOWS/system32/svch0st.exe"} <= where


def test_the_specimen_is_silent_at_medium_and_above() -> None:
    payload = byre_json("audit", f"{SPECIMEN}@clean")
    assert payload["schema"] == "byre/audit/1"
    assert rules(payload) == set()
    verdicts = {row["question"]: row["verdict"] for row in payload["questions"]}
    assert (verdicts["sound"], verdicts["complete"], verdicts["portable"]) == ("pass", "pass", "notes")
    assert (verdicts["clean"], verdicts["genuine"]) == ("pass", "pass")


def test_targets_differ() -> None:
    payload = byre_json("audit", SPECIMEN, "--for", "qemu:q35", "--for", "virtualbox", status=2)
    assert payload["targets"] == ["qemu:q35", "virtualbox"]
    assert rules(payload) == {"PORT-001"}
    starts = {row["target"]: row["starts"] for row in payload["predictions"]}
    assert (starts["qemu"], starts["qemu:q35"], starts["virtualbox"]) == (True, False, True)


def test_fail_on_decides_the_exit_status() -> None:
    byre("audit", SPECIMEN, "--fail-on", "low", status=2)
    byre("audit", SPECIMEN, "--fail-on", "medium", status=0)
    byre("audit", SPECIMEN, "--for", "vmware:lsi", "--only", "sound", status=0)


def test_what_cannot_be_audited_is_no_finding(tmp_path: Path) -> None:
    byre("audit", tmp_path / "none.qcow2", status=66)
    byre("audit", SPECIMEN, "--for", "amiga", status=64)
    (tmp_path / "cut.qcow2").write_bytes(SPECIMEN.read_bytes()[:60])
    byre("audit", tmp_path / "cut.qcow2", status=65)


def test_damage_below_the_file_system_is_found(raw: Path) -> None:
    poke(raw, BOOT_SECTOR + 0x1C, (64).to_bytes(4, "little"))
    payload = byre_json("audit", raw, status=2)
    assert rules(payload) == {"BOOT-003"}
    poke(raw, BOOT_SECTOR + 0x1C, (63).to_bytes(4, "little"))
    poke(raw, MBR_SIGNATURE, b"\0\0")
    assert "BOOT-001" in rules(byre_json("audit", raw, status=2))


def test_a_damaged_mirror_of_the_mft_is_unsound(raw: Path) -> None:
    with raw.open("rb") as file:
        file.seek(VOLUME)
        sector = file.read(512)
    mirror = int.from_bytes(sector[0x38:0x40], "little") * sector[0x0D] * 512
    poke(raw, VOLUME + mirror + 100, b"\xff" * 8)
    payload = byre_json("audit", raw, status=2)
    assert rules(payload) == {"SOUND-005"}
    assert "MFTMirr" in payload["findings"][0]["evidence"]


def test_an_inactive_partition_is_predicted(raw: Path) -> None:
    poke(raw, 0x1BE, b"\0")
    payload = byre_json("audit", raw, status=2)
    assert rules(payload) == {"BOOT-002"}
    assert "Missing operating system" in payload["predictions"][0]["sentence"]


def test_a_refcount_that_is_too_low_is_unsound(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    shutil.copyfile(SPECIMEN, image)
    data = image.read_bytes()
    table = int.from_bytes(data[48:56], "big")
    block = int.from_bytes(data[table : table + 8], "big")
    poke(image, block + 2 * (len(data) // 65536 - 1), b"\0\0")
    payload = byre_json("audit", image, status=2)
    assert rules(payload) == {"SOUND-001"}
    assert payload["grade"] == "F"


def test_reports_are_written_whole_and_never_over_a_file(tmp_path: Path) -> None:
    byre("audit", SPECIMEN, "--report", tmp_path / "a.json", "--report", tmp_path / "a.md")
    stored = json.loads((tmp_path / "a.json").read_text())
    assert stored == byre_json("audit", SPECIMEN)
    page = (tmp_path / "a.md").read_text()
    assert "grade B, Extra Quality" in page.splitlines()[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.md"]
    byre("audit", SPECIMEN, "--report", tmp_path / "a.md", status=73)
    assert (tmp_path / "a.md").read_text() == page
    (tmp_path / "link.md").symlink_to(tmp_path / "elsewhere.md")
    byre("audit", SPECIMEN, "--report", tmp_path / "link.md", status=73)
    byre("audit", SPECIMEN, "--report", tmp_path / "a.pdf", status=64)
    byre("audit", SPECIMEN, "--report", tmp_path / "none" / "a.md", status=66)
    byre("audit", SPECIMEN, "--report", tmp_path / "b.md", "--report", tmp_path / "b.md", status=64)


def test_the_terminal_says_the_verdict_first() -> None:
    lines = byre("audit", SPECIMEN).stdout.splitlines()
    assert lines[0].endswith("specimen.qcow2: grade B, Extra Quality")
    assert lines[1].startswith("  It would start on QEMU's default machine. No sign was found")
    refused = byre("audit", SPECIMEN, "--for", "vmware:lsi", status=2).stdout.splitlines()
    assert refused[1].startswith("  On VMware with LSI Logic: STOP 0x0000007B")
    assert refused[2] == "  Extra Quality is refused: Portable failed."


def test_explain_prints_a_rule() -> None:
    assert byre("explain", "boot-014").stdout.startswith("BOOT-014: ")
    assert byre_json("explain", "PORT-001")["symptom"] == RULES["PORT-001"].symptom
    byre("explain", "BOOT-999", status=66)


def test_the_image_is_not_changed(raw: Path) -> None:
    before = raw.stat()
    byre("audit", raw)
    assert raw.stat().st_mtime_ns == before.st_mtime_ns


def test_the_library_audits() -> None:
    assert package.audit(SPECIMEN, targets=("proxmox",)).targets == ("proxmox",)


def test_the_library_is_called_as_the_package_that_it_is() -> None:
    from byre import audit
    from byre.audit import Report, judge

    report = audit(f"{SPECIMEN}@clean", only=("sound",))
    assert isinstance(report, Report)
    assert package.audit.judge is judge


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Three images: one that is well, one that doesn't start, one that is no image any more."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    shutil.copyfile(SPECIMEN, folder / "a.qcow2")
    shutil.copyfile(SPECIMEN.with_name("farm.qcow2"), folder / "b.qcow2")
    return folder


def test_several_images_are_audited_and_the_worst_counts(shelf: Path) -> None:
    payload = byre_json("audit", shelf / "a.qcow2", shelf / "b.qcow2", status=2)
    assert payload["schema"] == "byre/audits/1"
    assert [Path(each["image"]).name for each in payload["reports"]] == ["a.qcow2", "b.qcow2"]
    assert payload["failed"] == []


def test_an_image_that_cannot_be_audited_goes_before_findings(shelf: Path) -> None:
    (shelf / "c.qcow2").write_bytes(SPECIMEN.read_bytes()[:60])
    done = byre("audit", f"{shelf}/*.qcow2", "--report", shelf / "all.json", "--jobs", "2", status=65)
    assert "c.qcow2" in done.stderr
    assert "not audited: corrupt" in done.stdout
    stored = json.loads((shelf / "all.json").read_text())
    assert len(stored["reports"]) == 2
    assert [each["exit_status"] for each in stored["failed"]] == [65]


def test_a_pattern_that_is_quoted_is_matched_by_us(shelf: Path) -> None:
    one = byre_json("audit", "?.qcow2", "--jobs", "1", folder=shelf, status=2)
    assert [each["image"] for each in one["reports"]] == ["a.qcow2", "b.qcow2"]
    state = byre_json("audit", "a*.qcow2@infected", folder=shelf, status=None)
    assert [each["image"] for each in state["reports"]] == ["a.qcow2@infected"]
    byre("audit", "*.vdi", folder=shelf, status=66)
    (shelf / "a*.qcow2").write_bytes(SPECIMEN.read_bytes())
    assert byre_json("audit", "a*.qcow2", folder=shelf, status=None)["image"] == "a*.qcow2"


def test_processes_tell_the_same_as_one(shelf: Path) -> None:
    words = ("audit", shelf / "a.qcow2", shelf / "b.qcow2", "--no-cache", "--jobs")
    assert byre_json(*words, "2", status=2) == byre_json(*words, "1", status=2)


def test_a_bill_of_materials_is_of_one_image(shelf: Path) -> None:
    byre("audit", shelf / "a.qcow2", "--sbom", shelf / "a.cdx.json", status=None)
    assert json.loads((shelf / "a.cdx.json").read_text())["bomFormat"] == "CycloneDX"
    byre("audit", shelf / "a.qcow2", shelf / "b.qcow2", "--sbom", shelf / "b.cdx.json", status=64)
    assert not (shelf / "b.cdx.json").exists()


def test_every_report_is_written_in_one_run(shelf: Path) -> None:
    names = ("r.html", "r.json", "r.sarif", "r.md")
    byre("audit", shelf / "b.qcow2", *(word for name in names for word in ("--report", shelf / name)), status=2)
    assert {path.name for path in shelf.iterdir()} == {"a.qcow2", "b.qcow2", *names}
    for name in names:
        assert "BOOT-001" in (shelf / name).read_text(), name


def test_a_waiver_takes_a_finding_out_of_the_status_only(shelf: Path) -> None:
    waivers = shelf / "w.toml"
    both = "".join(
        f'[[waiver]]\nrule = "{rule}"\nreason = "a data disk"\nwho = "me"\nexpires = 2999-01-01\n'
        for rule in ("BOOT-001", "BOOT-003", "BOOT-005")
    )
    waivers.write_text(both)
    payload = byre_json("audit", shelf / "b.qcow2", "--waivers", waivers)
    assert {row["rule"] for row in payload["findings"]} == {"BOOT-001", "BOOT-003", "BOOT-005"}
    assert payload["counts"]["critical"] == 0
    assert payload["grade"] == "F"
    waivers.write_text(both.replace("2999", "1999", 1))
    assert "WAIV-001" in rules(byre_json("audit", shelf / "b.qcow2", "--waivers", waivers, status=2))
    waivers.write_text("[[waiver]]\nrule = 'BOOT-001'\n")
    byre("audit", shelf / "b.qcow2", "--waivers", waivers, status=64)


def test_only_what_is_new_since_the_baseline_counts(shelf: Path) -> None:
    byre("audit", shelf / "b.qcow2", "--report", shelf / "then.json", status=2)
    payload = byre_json("audit", shelf / "b.qcow2", "--baseline", shelf / "then.json")
    assert {row["new"] for row in payload["findings"]} == {False}
    text = byre("audit", shelf / "b.qcow2", "--baseline", shelf / "then.json").stdout
    assert "known from the baseline (3)" in text
    byre("audit", shelf / "b.qcow2", "--baseline", shelf / "none.json", status=66)


def test_an_unknown_question_counts_where_it_is_asked_to(shelf: Path) -> None:
    byre("audit", shelf / "b.qcow2", "--only", "portable", status=0)
    byre("audit", shelf / "b.qcow2", "--only", "portable", "--fail-on-unknown", status=2)
    byre("audit", shelf / "a.qcow2", "--only", "sound", "--fail-on-unknown", status=0)


def test_progress_goes_by_stages() -> None:
    lines = byre("audit", SPECIMEN, "--progress", "json", "--no-cache", status=None).stderr.splitlines()
    last = json.loads(lines[-1])
    assert last["finished"]
    assert last["done"] <= last["total"]


def test_a_report_is_not_written_through_a_link_that_came_meanwhile(tmp_path: Path) -> None:
    from byre.cli.audit_files import publish
    from byre.errors import ExistsError

    (tmp_path / "victim").write_text("keep")
    (tmp_path / "r.md").symlink_to(tmp_path / "victim")
    with pytest.raises(ExistsError):
        publish(tmp_path / "r.md", "text")
    assert (tmp_path / "victim").read_text() == "keep"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.md", "victim"]


def test_explain_lists_rules_by_question() -> None:
    lines = byre("explain").stdout.splitlines()
    heads = [line.split(":")[0] for line in lines if line and not line.startswith((" ", "EQ"))]
    assert heads[0] == "Sound"
    assert heads[-1] == "Waivers"
    every = byre_json("explain")["rules"]
    assert {row["id"] for row in every} == {*RULES, "WAIV-001"}
    assert {row["question"] for row in byre_json("explain", "Lean")["rules"]} == {"lean"}
    assert byre("explain", "waiv-001").stdout.startswith("WAIV-001: No waiver")

"""Lists of known hashes: imported from an RDS, text and CSV; asked by audits; whole or not at all."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import byre as package
from builders import xp
from builders.memory_files import MemoryFiles
from byre.audit.census_of import census_of
from byre.audit.known_hashes import open_known
from byre.audit.scanners import Scanners
from byre.errors import CorruptImageError, ExistsError, MissingError, UsageError
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
ONE, TWO = (hashlib.sha1(text).hexdigest() for text in (b"one", b"two"))


def rds(path: Path, *digests: str, table: str = "FILE") -> Path:
    """A database with the tables that NIST's RDS 3 has, as far as they matter."""
    with closing(sqlite3.connect(path)) as made, made:
        made.execute(f"CREATE TABLE {table} (sha256 TEXT, sha1 TEXT, md5 TEXT, file_name TEXT, package_id INTEGER)")
        made.execute("CREATE TABLE VERSION (version TEXT, build_set TEXT, release_date TEXT)")
        made.execute("INSERT INTO VERSION VALUES ('2024.03.1', 'legacy', '2024-03-01 00:00:00')")
        rows = [("AB" * 32, digest.upper(), "CD" * 16, "x.dll", 1) for digest in digests]
        made.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", rows)
    return path


def test_an_rds_is_imported_with_its_date(tmp_path: Path) -> None:
    store = open_known(tmp_path / "k.sqlite", create=True)
    made = store.add(rds(tmp_path / "rds.db", ONE, ONE, TWO), name="NSRL", bad=False)
    assert (made.digests, made.dated, made.bad) == (2, "2024-03-01 00:00:00", False)
    assert store.who_knows([ONE]) == (("NSRL", False),)
    assert store.who_knows(["ab" * 32]) == ()
    store.close()


def test_text_and_csv_are_imported_by_the_length_of_their_digests(tmp_path: Path) -> None:
    source = tmp_path / "list.csv"
    source.write_text(f'"SHA-1","MD5","FileName"\n"{ONE.upper()}","{"cd" * 16}","a.dll"\n# note\n{"ef" * 32}  b\n')
    store = open_known(tmp_path / "k.sqlite", create=True)
    assert store.add(source, name="x", bad=True).digests == 2
    assert store.who_knows(["cd" * 16]) == ()
    assert store.who_knows([ONE, "ef" * 32]) == (("x", True),)
    store.close()


def test_a_source_without_digests_leaves_nothing(tmp_path: Path) -> None:
    store = open_known(tmp_path / "k.sqlite", create=True)
    (tmp_path / "empty.txt").write_text("nothing\n")
    (tmp_path / "cut.db").write_bytes(rds(tmp_path / "r.db", ONE).read_bytes()[:5000])
    for source in (tmp_path / "empty.txt", tmp_path / "cut.db", rds(tmp_path / "other.db", ONE, table="OTHER")):
        with pytest.raises(CorruptImageError):
            store.add(source, name="x", bad=False)
        assert store.lists() == ()
    with pytest.raises(MissingError):
        store.add(tmp_path / "none", name="x", bad=False)
    store.close()


def test_a_name_is_taken_once_and_a_list_can_be_removed(tmp_path: Path) -> None:
    store = open_known(tmp_path / "k.sqlite", create=True)
    source = rds(tmp_path / "r.db", ONE)
    store.add(source, name="x", bad=False)
    with pytest.raises(ExistsError):
        store.add(source, name="x", bad=False)
    store.remove("x")
    assert (store.lists(), store.who_knows([ONE])) == ((), ())
    with pytest.raises(MissingError):
        store.remove("x")
    store.close()


def test_another_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_known(rds(tmp_path / "r.db", ONE))
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(CorruptImageError):
        open_known(tmp_path / "text")


def test_an_audit_asks_the_lists(tmp_path: Path) -> None:
    files = xp.clean_files()
    known, evil = (hashlib.sha1(files[f"{xp.SYSTEM32}/{name}"]).hexdigest() for name in ("hal.dll", "smss.exe"))
    store = open_known(tmp_path / "k.sqlite", create=True)
    store.add(rds(tmp_path / "good.db", known), name="good", bad=False)
    (tmp_path / "bad.txt").write_text(evil)
    store.add(tmp_path / "bad.txt", name="bad", bad=True)
    store.close()
    programs, census = census_of(MemoryFiles(files), xp.ROOT, Scanners(known=tmp_path / "k.sqlite"))
    assert [each.path for each in programs.value or () if each.known == "good"] == [f"{xp.SYSTEM32}/hal.dll"]
    scan = next(each for each in census.scans if each.name == "known")
    assert [(hit.path, hit.name) for hit in scan.hits] == [(f"{xp.SYSTEM32}/smss.exe", "bad")]
    assert "2024-03-01" in (scan.date or "")


def test_the_verb_from_import_to_removal(tmp_path: Path) -> None:
    store = tmp_path / "k.sqlite"
    source = rds(tmp_path / "r.db", ONE, TWO)
    assert byre_json("known", "import", source, "--name", "NSRL", "--db", store)["lists"][0]["digests"] == 2
    byre("known", "import", source, "--name", "NSRL", "--db", store, status=73)
    assert "NSRL" in byre("known", "list", "--db", store).stdout
    assert byre_json("known", "info", "NSRL", "--db", store)["lists"][0]["dated"] == "2024-03-01 00:00:00"
    looked = byre_json("audit", SPECIMEN, "--only", "clean", "--known", store)["guest"]["looked"]
    assert any("2024-03-01" in (each["date"] or "") for each in looked if each["name"] == "known hashes")
    byre("known", "remove", "NSRL", "--db", store)
    assert byre_json("known", "list", "--db", store)["lists"] == []
    byre("audit", SPECIMEN, "--known", tmp_path / "none", status=66)


def test_the_users_own_database_lies_where_xdg_says(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text(ONE)
    byre("known", "import", tmp_path / "l.txt", environment={"XDG_DATA_HOME": str(tmp_path / "data")})
    assert (tmp_path / "data" / "byre" / "known.sqlite").exists()

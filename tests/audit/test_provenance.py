"""Where a system comes from: the table of markers, the sentence, catalogs by the guest's own roots."""

from __future__ import annotations

import hashlib
import struct

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from builders.provenance_defects import CATROOT, EXECUTIVE, evaluation, extras
from builders.signed_catalogs import authority, signed_catalog
from byre.audit.genuine import summary
from byre.audit.judging import judge
from byre.audit.provenance import MARKER_KINDS, marker_rows
from byre.windows import signed_data
from byre.windows.pe import parse_pe


def test_every_marker_is_well_formed() -> None:
    rows = marker_rows()
    assert len({row.name for row in rows}) == len(rows) >= 8
    for row in rows:
        assert row.kind in MARKER_KINDS
        assert row.source
        assert row.pattern
        assert all(pattern.startswith(("/", "{root}", "{system32}", "{programs}")) for pattern in row.pattern)
        assert all(key.startswith(("SOFTWARE\\", "SYSTEM\\")) for key in row.keys)


def test_genuine_is_answered_with_the_origin() -> None:
    facts = facts_of(Plant())
    said = "installed 2008-04-15, Service Pack 3, build 2600.xpsp.080413-2111, 1 hotfix"
    assert summary(facts) == said
    answer = next(each for each in judge(facts).answers if each.question == "genuine")
    assert answer.sentence == f"nothing found; {said}"


def test_the_kernels_note_holds_time_and_length() -> None:
    told = facts_of(Plant(system=evaluation(172_800))).provenance.value
    assert told is not None
    assert (told.set_up, told.trial_minutes) == ("2008-04-15T00:00:00Z", 172_800)
    found = next(
        each for each in judge(facts_of(Plant(system=evaluation(172_800)))).findings if each.rule.id == "GEN-004"
    )
    assert "from 2008-08-13 on it stops an hour after each start" in found.finding.consequence


@pytest.mark.parametrize("data", [b"", b"\0" * 11, b"\xff" * 12, b"\xff" * 40])
def test_a_note_that_makes_no_sense_is_harmless(data: bytes) -> None:
    plant = Plant(system=lambda root: root.at(EXECUTIVE).values.update({"PriorityQuantumMatrix": data}))
    judge(facts_of(plant))


def stored(certificate: bytes) -> bytes:
    """A certificate as the registry keeps it: properties, the certificate itself among them."""
    return struct.pack("<III", 3, 1, 20) + bytes(20) + struct.pack("<III", 32, 1, len(certificate)) + certificate


def test_a_catalogs_root_may_be_in_the_guests_own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    root = authority("A root", None, start=1997, years=30)
    publisher = authority("A publisher", root)
    thumbprint = hashlib.sha1(root.certificate).hexdigest()
    monkeypatch.setattr(signed_data, "KNOWN_ROOTS", {thumbprint: "A root"})
    digests = [parse_pe(data, path=path).digest("sha1") for path, data in extras().items()]
    catalog = signed_catalog(digests, publisher, [publisher])
    store = rf"Microsoft\SystemCertificates\ROOT\Certificates\{thumbprint.upper()}"
    verdicts = []
    for blob in (b"junk", stored(root.certificate)):
        facts = facts_of(
            Plant(
                write={**extras(), f"{CATROOT}/nt5.cat": catalog},
                software=lambda node, blob=blob: node.at(store).values.update({"Blob": blob}),  # type: ignore[misc]
            )
        )
        verdicts.append({name: trust.verdict for name, trust in facts.census.catalogs})
    assert verdicts == [{"nt5.cat": "unknown root"}, {"nt5.cat": "trusted"}]
    assert facts.programs.value is not None
    known = {each.path: each.known for each in facts.programs.value}
    assert known[f"{xp.SYSTEM32}/byre07.dll"] == "nt5.cat"

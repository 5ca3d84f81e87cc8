"""Signatures of catalogs: trusted, of an unknown root, broken; held against the time that is vouched for."""

from __future__ import annotations

import contextlib
import hashlib
import random
from datetime import UTC, datetime

import pytest

from builders.signed_catalogs import Authority, authority, members, signed_catalog
from byre.errors import ByreError, CorruptImageError
from byre.windows import signed_data
from byre.windows.catalogs import parse_catalog
from byre.windows.signed_data import verify_signed_data

DIGESTS = [hashlib.sha1(b"a").digest(), (hashlib.sha1(b"b").digest(), "User32.dll")]
THEN, LATER = datetime(2008, 4, 15, tzinfo=UTC), datetime(2015, 1, 1, tzinfo=UTC)


def root() -> Authority:
    return authority("A root", None, start=1997, years=30)


def publisher() -> Authority:
    return authority("A publisher", root())


def stamper() -> Authority:
    return authority("A time stamper", root(), years=30)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbprint = hashlib.sha1(root().certificate).hexdigest()
    monkeypatch.setattr(signed_data, "KNOWN_ROOTS", {thumbprint: "A root"})


def test_a_catalog_names_its_files() -> None:
    found = parse_catalog(signed_catalog(DIGESTS, publisher(), [publisher(), root()]), path="x.cat")
    assert found.digests == {DIGESTS[0], DIGESTS[1][0]}
    assert found.names == {DIGESTS[1][0]: "user32.dll"}


@pytest.mark.usefixtures("known")
def test_a_signature_that_leads_to_a_known_root_is_trusted() -> None:
    trust = verify_signed_data(signed_catalog(DIGESTS, publisher(), [publisher(), root()]), path="x.cat")
    assert (trust.verdict, trust.signer, trust.root) == ("trusted", "A publisher", "A root")
    assert trust.signed_at is None
    assert "isn't vouched for" in str(trust.reason)


@pytest.mark.usefixtures("known")
def test_the_root_may_come_from_elsewhere() -> None:
    data = signed_catalog(DIGESTS, publisher(), [publisher()])
    assert verify_signed_data(data, path="x").reason == "the certificate of A publisher has an issuer that isn't here"
    assert verify_signed_data(data, path="x", certificates=[b"junk", root().certificate]).verdict == "trusted"


@pytest.mark.usefixtures("known")
def test_certificates_are_held_against_the_time_that_is_vouched_for() -> None:
    inside = [publisher(), root(), stamper()]
    then = verify_signed_data(signed_catalog(DIGESTS, publisher(), inside, stamp=(stamper(), THEN)), path="x")
    assert (then.verdict, then.signed_at, then.reason) == ("trusted", "2008-04-15T00:00:00Z", None)
    late = verify_signed_data(signed_catalog(DIGESTS, publisher(), inside, stamp=(stamper(), LATER)), path="x")
    assert late.verdict == "unknown root"
    assert "wasn't valid when it signed" in str(late.reason)


def test_a_root_that_nobody_knows_vouches_for_nothing() -> None:
    trust = verify_signed_data(signed_catalog(DIGESTS, publisher(), [publisher(), root()]), path="x")
    assert (trust.verdict, trust.reason) == ("unknown root", "the root A root isn't known here")


@pytest.mark.usefixtures("known")
def test_a_catalog_that_was_changed_after_it_was_signed_is_broken() -> None:
    other = members([hashlib.sha1(b"c").digest()])
    data = signed_catalog(DIGESTS, publisher(), [publisher(), root()], signed_content=other)
    trust = verify_signed_data(data, path="x")
    assert (trust.verdict, trust.reason) == ("broken", "the content isn't what was signed")


@pytest.mark.usefixtures("known")
def test_a_certificate_that_its_issuer_did_not_sign_leads_nowhere() -> None:
    forged = authority("A publisher", authority("A root", None, start=1998), start=2002)
    impostor = Authority(forged.certificate, publisher().key)
    faked = authority("The root that isn't", None)
    data = signed_catalog(DIGESTS, authority("A forger", faked), [authority("A forger", faked), impostor, root()])
    assert verify_signed_data(data, path="x").verdict == "unknown root"


def test_damage_is_byres_own_error_or_never_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbprint = hashlib.sha1(root().certificate).hexdigest()
    monkeypatch.setattr(signed_data, "KNOWN_ROOTS", {thumbprint: "A root"})
    whole = signed_catalog(DIGESTS, publisher(), [publisher(), root()])
    rng = random.Random(29)
    with pytest.raises(CorruptImageError):
        verify_signed_data(b"junk", path="x")
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(ByreError):
            verify_signed_data(bytes(data), path="fuzz")
            parse_catalog(bytes(data), path="fuzz")

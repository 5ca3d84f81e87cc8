from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from byre import errors
from byre.errors import ByreError, CorruptImageError

BRANCHES = sorted(ByreError.__subclasses__(), key=lambda cls: cls.__name__)
CONTRACT = {
    "UsageError": 64,
    "CorruptImageError": 65,
    "MissingError": 66,
    "UnsupportedError": 69,
    "ExistsError": 73,
    "StorageError": 74,
    "LockedError": 75,
    "RefusedReferenceError": 77,
    "InterruptedByUserError": 130,
}


def test_each_branch_has_the_exit_status_of_the_contract() -> None:
    assert {cls.__name__: cls.exit_code for cls in BRANCHES} == CONTRACT


def test_each_branch_has_a_kind_of_its_own() -> None:
    assert len({cls.kind for cls in (ByreError, *BRANCHES)}) == len(BRANCHES) + 1


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = {line.split()[1]: int(line.split()[2]) for line in (errors.__doc__ or "").splitlines() if "── " in line}
    assert drawn == CONTRACT


@pytest.mark.parametrize("cls", [ByreError, *BRANCHES])
def test_errors_survive_a_trip_to_another_process(cls: type[ByreError]) -> None:
    error = cls("bad table", path="x.qcow2", offset=0x30000, found=1, expected="2 entries", hint="Run it.")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is cls and back.what == error.what and back.fields() == error.fields()
    assert str(back) == str(error)


def test_the_text_names_file_offset_found_expected_and_next_step() -> None:
    error = CorruptImageError("the L1 table is too small", path=Path("web.qcow2"), offset=0x28, found=1, expected=2)
    assert str(error) == "web.qcow2: the L1 table is too small (at offset 0x28, found 1, expected 2)."
    assert str(CorruptImageError("is broken", hint="Run 'byre check'.")) == "is broken. Run 'byre check'."


def test_bytes_are_shown_as_hex_and_not_at_length() -> None:
    assert "found 51 46 49 fb" in str(CorruptImageError("x", found=b"QFI\xfb"))
    assert str(CorruptImageError("x", found=bytes(1000))).endswith("00 ...).")


def test_fields_make_the_same_error_again() -> None:
    error = CorruptImageError("x", path="p", offset=3)
    assert str(CorruptImageError("x", **error.fields())) == str(error)  # type: ignore[arg-type]

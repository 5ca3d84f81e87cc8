from __future__ import annotations

from builders.hive import WRITTEN, Node, build_hive, expand_sz
from byre.differences.registry import HiveComparison, KeyChange
from byre.volumes.problems import Problems
from byre.windows.registry import open_hive


def compare(old: Node, new: Node, *, hive: str = "SOFTWARE") -> list[KeyChange]:
    before, after = (open_hive(build_hive(node, name=hive), path=hive) for node in (old, new))
    return HiveComparison(hive, rf"HKLM\{hive}", Problems()).compare(before, after)


def tree() -> Node:
    root = Node()
    root.at(r"A\Run").values = {"keep": "same", "edit": "old", "drop": 1}
    root.at(r"B\C").values = {"x": [r"one", "two"]}
    return root


def test_values_are_told_with_what_they_were_and_are() -> None:
    new = tree()
    new.at(r"A\Run").values = {"keep": "same", "edit": expand_sz("new"), "add": b"\1\2"}
    (change,) = compare(tree(), new)
    assert (change.kind, change.full_path) == ("changed", r"HKLM\SOFTWARE\A\Run")
    told = [(value.kind, value.name, value.before, value.after) for value in change.values]
    assert told == [
        ("added", "add", None, "01 02"),
        ("removed", "drop", "1 (0x1)", None),
        ("changed", "edit", "old", "new"),
    ]


def test_a_key_that_came_or_went_is_told_with_all_below_it() -> None:
    new = tree()
    del new.keys["B"]
    new.at(r"N\M\O").values = {"": "default"}
    found = [(change.kind, change.path, change.below) for change in compare(tree(), new)]
    assert found == [
        ("removed", "B", False),
        ("removed", r"B\C", True),
        ("added", "N", False),
        ("added", r"N\M", True),
        ("added", r"N\M\O", True),
    ]


def test_a_name_in_other_case_is_the_same_key() -> None:
    new = tree()
    new.keys["b"] = new.keys.pop("B")
    assert compare(tree(), new) == []


def test_another_time_alone_is_folded_away() -> None:
    new = tree()
    new.at(r"A\Run").written = WRITTEN + 10_000_000
    (change,) = compare(tree(), new)
    assert change.noise == "last-written time only" and change.written_before != change.written_after


def test_secrets_are_hidden_in_both_states() -> None:
    old, new = Node(), Node()
    path = r"Microsoft\Windows NT\CurrentVersion\Winlogon"
    old.at(path).values = {"DefaultPassword": "hunter2", "DefaultUserName": "op"}
    new.at(path).values = {"DefaultPassword": "hunter3", "DefaultUserName": "root"}
    (change,) = compare(old, new)
    told = {value.name: (value.before, value.after) for value in change.values}
    assert told == {"DefaultPassword": ("(hidden)", "(hidden)"), "DefaultUserName": ("op", "root")}
    account = r"SAM\Domains\Account\Users\000001F4"
    old, new = Node(), Node()
    old.at(account).values, new.at(account).values = {"V": b"hash one"}, {"V": b"hash two", "F": b"data"}
    (change,) = compare(old, new, hive="SAM")
    assert "hash" not in repr(change) and b"hash one".hex(" ") not in repr(change)
    assert {value.after for value in change.values} == {"(hidden)"}


def test_a_loop_of_keys_ends() -> None:
    """Both hives with a subkey list that leads back to its own key."""
    data = bytearray(build_hive(tree(), name="SOFTWARE"))
    hive = open_hive(bytes(data), path="x")
    top = hive.root.subkey("A")
    assert top is not None
    child = top.subkey("Run")
    assert child is not None
    listed = 4096 + 4 + top.subkey_list
    at = data.index(child.cell.to_bytes(4, "little"), listed)
    data[at : at + 4] = hive.root.cell.to_bytes(4, "little")
    loop = open_hive(bytes(data), path="loop")
    assert HiveComparison("SOFTWARE", "x", Problems()).compare(loop, loop) == []
    found = HiveComparison("SOFTWARE", "x", Problems()).compare(hive, loop)
    assert 0 < len(found) < 100


def test_names_of_snmp_communities_are_hidden() -> None:
    old, new = Node(), Node()
    snmp = r"ControlSet001\Services\SNMP\Parameters"
    old.at(rf"{snmp}\ValidCommunities").values = {}
    new.at(rf"{snmp}\ValidCommunities").values = {"s3cret": 4}
    new.at(rf"{snmp}\TrapConfiguration\s3cret").values = {"1": "10.0.0.1"}
    changes = compare(old, new, hive="SYSTEM")
    assert "s3cret" not in repr(changes)
    told = {change.path.rpartition("\\")[2]: [value.name for value in change.values] for change in changes}
    assert told["ValidCommunities"] == ["(hidden)"] and told["(hidden)"] == ["1"]


def test_passwords_inside_values_are_hidden_and_still_counted_as_changes() -> None:
    old, new = tree(), tree()
    old.at(r"A\Run").values = {"u": "http://a:one@h/", "v": "x.exe /password:one"}
    new.at(r"A\Run").values = {"u": "http://a:two@h/", "v": "x.exe /password:two"}
    (change,) = compare(old, new)
    assert [value.after for value in change.values] == ["http://(hidden)@h/", "x.exe /password:(hidden)"]

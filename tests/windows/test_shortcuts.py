"""Shortcuts: the ways in which one says its target, and files that are none."""

from __future__ import annotations

import random

import pytest

from builders.slim_guests import build_shortcut
from byre.errors import ByreError, CorruptImageError
from byre.windows.shortcuts import MAX_LINK, parse_shortcut

NAME = r"C:\Program Files\Messenger\msmsgs.exe"


def test_the_path_with_variables_is_the_best_target() -> None:
    data = build_shortcut(variable=r"%SystemRoot%\system32\calc.exe", local=NAME, arguments="/s")
    link = parse_shortcut(data, path="x.lnk")
    assert link.targets == (r"%SystemRoot%\system32\calc.exe", NAME)
    assert link.arguments == "/s"


def test_link_info_says_the_local_path() -> None:
    link = parse_shortcut(build_shortcut(local=NAME, arguments="-x", unicode=False), path="x.lnk")
    assert (link.targets, link.arguments) == ((NAME,), "-x")


def test_a_list_of_items_spells_long_names() -> None:
    data = build_shortcut(items=("C:", "Program Files", "Ünïcödé 名前", "player.exe"))
    assert parse_shortcut(data, path="x.lnk").targets == ("C:\\Program Files\\Ünïcödé 名前\\player.exe",)


def test_a_shortcut_may_lead_nowhere() -> None:
    assert parse_shortcut(build_shortcut(), path="x.lnk").targets == ()
    assert parse_shortcut(build_shortcut(items=("Z",)), path="x.lnk").targets == ()


@pytest.mark.parametrize("data", [b"", b"MZ", bytes(76), build_shortcut()[:40], build_shortcut() + bytes(MAX_LINK)])
def test_what_is_no_shortcut_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptImageError) as raised:
        parse_shortcut(data, path="x.lnk")
    assert raised.value.path == "x.lnk"


def test_damage_raises_nothing_but_errors_of_our_own() -> None:
    whole = build_shortcut(variable="%x%", local=NAME, items=("C:", "a", "b.exe"), arguments="y")
    source = random.Random(7)
    for _ in range(3000):
        data = bytearray(whole[: source.randrange(len(whole))] if source.random() < 0.3 else whole)
        for _ in range(source.randrange(1, 6)):
            if data:
                data[source.randrange(len(data))] = source.randrange(256)
        try:
            parse_shortcut(bytes(data), path="x.lnk")
        except ByreError:
            continue

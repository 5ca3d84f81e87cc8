"""The machine follows from the guest's facts; what the guest can't live with is named with its STOP."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from builders.hive import Node
from byre.errors import UsageError
from byre.machine.controllers import OFFERED, TARGETS
from byre.machine.evidence import Evidence, other_system, windows_system
from byre.machine.hardware import CONTROLLERS
from byre.machine.impossible import problems
from byre.machine.overrides import override, parse_file, parse_settings
from byre.machine.profile import machine_name, profile
from byre.machine.reading import beside, profile_image
from byre.windows.fact import known
from byre.windows.guest import DiskFile

SPECIMEN = Path(xp.__file__).parents[2] / "src" / "byre" / "samples" / "specimen.qcow2"


def evidence(plant: Plant | None = None, **changes: Any) -> Evidence:
    facts = facts_of(plant or Plant())
    assert facts.guest is not None
    system, why = windows_system(facts.guest)
    given = {"name": "xp", "system": system, "why": why, "architecture": "i386", "facts": facts, **changes}
    return Evidence(**given)


def test_the_specimen_gets_what_windows_xp_likes() -> None:
    machine = profile_image(SPECIMEN)
    assert (machine.system.value, machine.architecture.value, machine.cpu.value) == ("winxp", "i386", "qemu32")
    assert (machine.chipset.value, machine.controller.value, machine.bus) == ("i440fx", "piix3-ide", "ide")
    assert (machine.network.value, machine.sound.value, machine.pointer.value) == ("rtl8139", "ac97", "ps2")
    assert (machine.clock.value, machine.acpi.value, machine.hpet.value) == ("localtime", True, False)
    assert machine.hidden.value == ("nx", "lm")
    assert "RTL8139" in machine.network.reason and "halaacpi.dll" in machine.acpi.reason


def test_a_tablet_is_given_only_to_a_guest_with_usb_drivers() -> None:
    assert profile(evidence()).pointer.value == "ps2"
    drivers = frozenset({"hidusb", "mouhid", "usbuhci"})
    assert profile(evidence(drivers=drivers)).pointer.value == "usb-tablet"


@pytest.mark.parametrize(
    ("size", "in_use", "memory"), [(384 << 20, True, 384), (384 << 20, False, 256), (1, True, 64)]
)
def test_a_hibernated_guest_wakes_with_the_memory_it_had(size: int, in_use: bool, memory: int) -> None:
    found = evidence()
    assert found.facts is not None and found.facts.guest is not None
    guest = replace(found.facts.guest, hibernation=DiskFile("/hiberfil.sys", size, in_use))
    machine = profile(replace(found, facts=replace(found.facts, guest=guest)))
    assert machine.memory.value == memory << 20


@pytest.mark.parametrize(
    ("hal", "acpi"),
    [("halacpi.dll", True), ("halmacpi.dll", True), ("hal.dll", False), ("halmps.dll", False)],
)
def test_acpi_follows_the_hal_that_is_installed(hal: str, acpi: bool) -> None:
    found = evidence()
    assert found.facts is not None and found.facts.guest is not None
    guest = replace(found.facts.guest, hal=known(f"some HAL ({hal})"))
    assert profile(replace(found, facts=replace(found.facts, guest=guest))).acpi.value is acpi


def test_a_guest_that_knows_only_virtualbox_gets_its_controller() -> None:
    """A real image made on VirtualBox has 7111 and neither 7010 nor the class (measured)."""

    def forget(root: Node) -> None:
        database = root.at(r"ControlSet001\Control\CriticalDeviceDatabase")
        for name in [each for each in database.keys if "7010" in each or "cc_01" in each.lower()]:
            del database.keys[name]

    facts = facts_of(Plant(system=forget))
    machine = profile(evidence(facts=facts))
    assert machine.controller.value == "piix4-ide" and "not from piix3-ide" in machine.controller.reason
    assert problems(evidence(facts=facts), machine) == ()


def test_a_disk_of_linux_and_one_of_dos_are_told_by_their_file_systems() -> None:
    assert other_system(("ext4", "swap"), "mbr")[0] == "linux"
    assert other_system(("fat16",), "mbr", frozenset({"io.sys", "command.com"}))[0] == "dos"
    assert other_system(("fat16",), "mbr", frozenset({"ldlinux.sys", "command.com"}))[0] == "linux"
    assert other_system(("fat16",), "mbr")[0] == "unknown"
    linux = profile(Evidence("web", *other_system(("ext4",), "gpt"), efi_only=True))
    assert (linux.clock.value, linux.firmware.value, linux.architecture.value) == ("utc", "uefi", "x86_64")


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_gets_a_controller_that_it_offers(target: str) -> None:
    machine = profile(evidence(), target)
    assert machine.controller.value in OFFERED.get(target, CONTROLLERS)


def test_there_is_no_machine_for_a_target_that_does_not_exist() -> None:
    with pytest.raises(UsageError) as caught:
        profile(evidence(), "amiga")
    assert "kubevirt" in (caught.value.hint or "")


def test_kubevirt_has_no_controller_for_xp_and_the_stop_is_named() -> None:
    found = evidence()
    named = {each.setting: each.consequence for each in problems(found, profile(found, "kubevirt"))}
    assert "STOP 0x0000007B" in named["controller"]


@pytest.mark.parametrize(
    ("name", "value", "stop"),
    [
        ("controller", "virtio-blk", "STOP 0x0000007B"),
        ("controller", "lsi53c895a", "STOP 0x0000007B"),
        ("acpi", "off", "STOP 0x000000A5"),
        ("apic", "off", "STOP 0x00000079"),
        ("chipset", "q35", "STOP 0x000000A5"),
        ("memory", "32MiB", "STOP 0x0000007D"),
        ("firmware", "uefi", "nothing starts"),
        ("pointer", "usb-tablet", "pointer stays"),
    ],
)
def test_a_setting_that_the_guest_cannot_live_with_is_named_with_its_end(name: str, value: str, stop: str) -> None:
    found = evidence()
    assert problems(found, profile(found)) == ()
    machine = override(profile(found), name, value)
    (problem,) = problems(found, machine)
    assert problem.setting == name and stop in problem.consequence and problem.certain


def test_settings_win_and_say_where_they_come_from() -> None:
    (setting,) = parse_settings(["nic=e1000"])
    machine = override(profile(evidence()), setting.name, setting.value, setting.source)
    assert (machine.network.value, machine.network.reason) == ("e1000", "--set")


@pytest.mark.parametrize(
    "text",
    ["nic", "nic=token-ring", "speed=9", "memory=1", "cpus=0", "cpu=a,b", "hidden=$(x)", "acpi=?", "name=x"],
)
def test_a_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        for each in parse_settings([text]):
            override(profile(evidence()), each.name, each.value)


def test_the_file_beside_an_image_is_read_and_its_mistakes_name_it(tmp_path: Path) -> None:
    found = parse_file(b'[machine]\nnetwork = "pcnet"\nmemory = "128MiB"\nhidden = ["nx"]\nacpi = true\n', path="M")
    machine = profile(evidence())
    for each in found:
        machine = override(machine, each.name, each.value, each.source)
    assert (machine.memory.value, machine.network.value, machine.hidden.value) == (128 << 20, "pcnet", ("nx",))
    for wrong in (
        b"[machine",
        b"[other]\nx=1",
        b"machine = 1",
        b"[machine]\nspeed = 1",
        b"[machine]\ncpu = 1.5",
        b"\xff",
    ):
        with pytest.raises(UsageError) as caught:
            parse_file(wrong, path="MACHINE.toml")
        assert caught.value.path == "MACHINE.toml"


def test_a_pipe_in_the_file_s_place_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "MACHINE.toml")
    with pytest.raises(UsageError) as caught:
        beside(tmp_path / "xp.qcow2")
    assert caught.value.path == str(tmp_path / "MACHINE.toml")


def test_a_name_is_safe_wherever_it_goes() -> None:
    assert machine_name('x"; rm -rf /$(y)<é>') == "x-rm-rf-y"
    assert machine_name("...") == "machine"
    assert len(machine_name("a" * 300)) == 40

"""The owner's .inf files: which section counts for which Windows, and that any text is read or passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byre.lite.mending.given_drivers import GivenDriver, read_given

INF = """
[Version]
Class=%kind%
[Manufacturer]
%m% = Acme{decorations}
[Acme]
%d% = plain, PCI\\VEN_1&DEV_1
[Acme.NTx86]
%d% = plain, PCI\\VEN_1&DEV_2
[Acme.NTx86.5.1]
%d% = plain, PCI\\VEN_1&DEV_3, PCI\\CC_0106
[Acme.NTamd64.5.2]
%d% = plain, PCI\\VEN_1&DEV_4
%d% = plain, ROOT\\NOTHING
[Acme.NTx86.6.1]
%d% = plain, PCI\\VEN_1&DEV_5
[plain.NTx86.Services]
AddService = wanted, 0x2, service
[plain.NT.Services]
AddService = general, 0x2, service
[service]
ServiceBinary = %12%\\{file}
[Strings]
kind = "hdc"
"""
ALL = ", NTx86, NTx86.5.1, NTamd64.5.2, NTx86.6.1"


def _read(
    decorations: str, version: tuple[int, int], architecture: str = "x86", file: str = "acme.sys"
) -> tuple[GivenDriver, ...] | str:
    text = INF.replace("{decorations}", decorations).replace("{file}", file)
    return read_given("acme.inf", text.encode(), version=version, architecture=architecture)


@pytest.mark.parametrize(
    ("decorations", "version", "architecture", "ids"),
    [
        ("", (5, 0), "x86", ("pci#ven_1&dev_1",)),
        (ALL, (5, 0), "x86", ("pci#ven_1&dev_2",)),
        (ALL, (5, 1), "x86", ("pci#ven_1&dev_3", "pci#cc_0106")),
        (ALL, (5, 2), "x86", ("pci#ven_1&dev_3", "pci#cc_0106")),
        (ALL, (6, 1), "x86", ("pci#ven_1&dev_5",)),
        (ALL, (6, 0), "x64", ("pci#ven_1&dev_4",)),
    ],
)
def test_the_newest_section_that_is_not_newer_than_the_guest_counts(
    decorations: str, version: tuple[int, int], architecture: str, ids: tuple[str, ...]
) -> None:
    found = _read(decorations, version, architecture)
    assert not isinstance(found, str)
    (driver,) = found
    assert driver.ids == ids
    assert driver.service == ("wanted" if architecture == "x86" else "general")
    assert driver.class_guid == "{4D36E96A-E325-11CE-BFC1-08002BE10318}"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-be-sig", "utf-8-sig"])
def test_an_inf_is_read_in_every_encoding_that_windows_takes(encoding: str) -> None:
    text = INF.replace("{decorations}", "").replace("{file}", "acme.sys").lstrip().replace("\n", "\r\n")
    data = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-sig" else text.encode(encoding)
    (driver,) = read_given("acme.inf", data, version=(5, 1), architecture="x86")
    assert isinstance(driver, GivenDriver) and driver.file == "acme.sys"


@pytest.mark.parametrize("architecture", ["x64", "unknown"])
def test_what_is_for_another_processor_is_said(architecture: str) -> None:
    assert "names no controller" in str(_read(", NTx86", (5, 1), architecture))


@pytest.mark.parametrize("file", ["..\\..\\config\\SAM", "%11%\\evil.exe", ".sys", "a/b.dll"])
def test_only_a_driver_s_plain_name_is_taken(file: str) -> None:
    assert isinstance(_read("", (5, 1), file=file), str)


def test_other_kinds_of_devices_are_passed_over() -> None:
    text = INF.replace('kind = "hdc"', 'kind = "Net"')
    assert read_given("net.inf", text.encode(), version=(5, 1), architecture="x86") == ()


@given(st.binary(max_size=400), st.text(alphabet='[]=,%"\\\\.;NTx86.51 \n', max_size=200))
def test_any_inf_is_read_or_passed_over(raw: bytes, text: str) -> None:
    for data in (raw, (INF + text).encode(), text.encode() + INF.encode()):
        found = read_given("x.inf", data, version=(5, 1), architecture="x86")
        for driver in () if isinstance(found, str) else found:
            assert driver.file.endswith(".sys") and "\\" not in driver.service

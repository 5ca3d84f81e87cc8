"""What each target is told: the texts whole, and that no text from outside can become more than text in them."""

from __future__ import annotations

import plistlib
import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.machines import SNAPSHOTS, a_machine, a_subject
from byre.errors import UsageError
from byre.machine.export import libvirt, vmware
from byre.machine.export.plan import ExportPlan, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import conf_comment, one_line, plain_name, powershell, toml_text, vmx_text, yaml
from byre.machine.export.targets import EXPORT_TARGETS, export_target
from byre.machine.hardware import Machine

GOLDEN = Path(__file__).parent / "golden"
FORMS = [(target.name, form) for target in EXPORT_TARGETS for form in target.forms]
WRITTEN = WrittenDisk(size=16 << 20, file_size=123_456, digest="00" * 32)
HOSTILE = st.text(min_size=0, max_size=60) | st.sampled_from(
    [
        "'; rm -rf ~ #",
        '"><disk type="file"/>',
        "$(reboot)`reboot`",
        "x\ny",
        "\u2019; Remove-VM *",
        'a|b"c',
        "]]>&xxe;<!ENTITY",
        "#{system('id')}",
        "../../etc/passwd",
        "\ud800\x00\u2028",
        "- !!python/object:os.system",
    ]
)


def native_machine(target: str) -> Machine:
    """One that the target has every part of."""
    return {
        "virtualbox": a_machine(controller="piix4-ide", network="pcnet", cpu="host"),
        "vmware": a_machine(controller="piix4-ide", network="pcnet", sound="es1370"),
        "esxi": a_machine(controller="piix4-ide", network="pcnet", sound="es1370"),
        "hyperv": a_machine(controller="piix4-ide", sound="none"),
        "kubevirt": a_machine(controller="ich9-ahci", chipset="q35", network="e1000e", sound="none"),
    }.get(target, a_machine())


def made(target: str, form: str) -> tuple[Subject, ExportPlan, tuple[TextFile, ...]]:
    entry = export_target(target)
    keeps = SNAPSHOTS if form in entry.snapshots else ()
    subject = a_subject(form, native_machine(target), snapshots=keeps, ahci=True)
    module = entry.load()
    return subject, module.plan(subject), module.texts(subject, WRITTEN)


@pytest.mark.parametrize(("target", "form"), FORMS)
def test_the_texts_are_those_that_were_looked_at(target: str, form: str) -> None:
    """Where this fails on purpose: look at the difference, and write the new text over the old."""
    _, plan, texts = made(target, form)
    assert not plan.refusals
    folder = GOLDEN / f"{target}-{form}"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(plan.texts)
    for text in texts:
        assert text.text == (folder / text.path).read_bytes().decode(), f"{folder.name}/{text.path}"


@pytest.mark.parametrize(("target", "form"), FORMS)
def test_the_plan_names_every_text_and_two_lines_that_import_it(target: str, form: str) -> None:
    _, plan, texts = made(target, form)
    assert plan.texts == tuple(text.path for text in texts)
    assert len(plan.lines) >= 2
    readme = next((text.text for text in texts if text.path == "README.md"), None)
    annotation = next((text.text for text in texts if text.path.endswith(".ovf")), "")
    assert all(line in (readme or "") or line in annotation for line in plan.lines if ">" not in line)


@settings(max_examples=40)
@given(name=HOSTILE, title=HOSTILE, source=HOSTILE, snapshot=HOSTILE)
@pytest.mark.parametrize(("target", "form"), FORMS)
def test_names_from_outside_stay_text_in_every_target(
    target: str, form: str, name: str, title: str, source: str, snapshot: str
) -> None:
    subject = a_subject(form, native_machine(target), title=title, source=source)
    if form in export_target(target).snapshots:
        subject = replace(subject, snapshots=SNAPSHOTS[:1])
    harmless = export_target(target).load().texts(replace(subject, title="t", source="s"), WRITTEN)
    subject = replace(
        subject,
        machine=replace(subject.machine, name=name),
        snapshots=tuple(replace(each, name=snapshot) for each in subject.snapshots),
    )
    texts = export_target(target).load().texts(subject, WRITTEN)
    for text in texts:
        text.text.encode()
        assert not text.path.startswith("/") and ".." not in text.path.split("/") and text.path.isascii()
        _looks_harmless(text, harmless)


def _looks_harmless(text: TextFile, harmless: tuple[TextFile, ...]) -> None:
    """The shape is that of the same export with short names: as many elements, lines, words, strings."""
    suffix = text.path.rpartition(".")[2]
    same = next((each for each in harmless if each.path.rpartition(".")[2] == suffix), None)
    if suffix in ("xml", "ovf", "vbox") and not text.path.startswith("snapshots/"):
        assert same is not None
        tags = [each.tag for each in ElementTree.fromstring(text.text).iter()]
        assert tags == [each.tag for each in ElementTree.fromstring(same.text).iter()]
        assert "<!" not in text.text
    elif suffix == "xml":
        assert len(ElementTree.fromstring(text.text).findall("disks/disk")) == 1
    elif suffix == "sh":
        assert same is not None
        assert len(shlex.split(text.text, comments=True)) == len(shlex.split(same.text, comments=True))
    elif suffix == "plist":
        assert same is not None
        assert plistlib.loads(text.text.encode()).keys() == plistlib.loads(same.text.encode()).keys()
    elif suffix in ("vmx", "conf", "yaml", "ps1") or text.path in ("Vagrantfile", "Dockerfile"):
        assert same is not None
        assert len(text.text.splitlines()) == len(same.text.splitlines())
    if suffix == "vmx":
        assert all(re.fullmatch(r'[A-Za-z0-9:.]+ = "[\x20-\x7e]*"', line) and line.count('"') == 2
                   for line in text.text.splitlines())  # fmt: skip


@given(HOSTILE)
def test_every_quoting_is_total_and_its_own_inverse(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", plain_name(text))
    assert len(plain_name(text)) <= 63
    inside = powershell(text)[1:-1]
    assert re.sub("(['\u2018\u2019\u201a\u201b])\\1", "", inside).translate(
        dict.fromkeys(map(ord, "'‘’‚‛"))
    ) == re.sub("(['\u2018\u2019\u201a\u201b])\\1", "", inside)
    assert vmx_text(text).isascii() and '"' not in vmx_text(text)
    assert "\n" not in conf_comment(text)
    clean = text.encode("utf-8", "replace").decode()
    assert tomllib.loads(f"a = {toml_text(text)}") == {"a": clean}
    assert len(yaml({"a": [{"b": one_line(text)}]}).splitlines()) == 2


def test_a_vmx_value_is_read_back_as_it_was() -> None:
    escaped = vmx_text('say "hä|"')
    raw = re.sub(r"\|([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), escaped)
    assert raw.encode("latin-1").decode() == 'say "hä|"'


def test_a_controller_that_the_target_has_not_is_a_refusal_that_names_what_it_has() -> None:
    plan = vmware.plan(a_subject("vmx", a_machine(controller="virtio-blk")))
    assert [refusal.forceable for refusal in plan.refusals] == [True]
    assert "virtio-blk" in plan.refusals[0].reason and "lsi53c1030" in plan.refusals[0].reason


def test_a_network_card_that_the_target_has_not_is_replaced_and_said() -> None:
    plan = vmware.plan(a_subject("vmx", a_machine(network="rtl8139")))
    assert not plan.refusals
    assert any("rtl8139" in note and "vlance" in note for note in plan.notes)


def test_q35_with_an_ide_disk_can_not_be_forced_on_libvirt() -> None:
    plan = libvirt.plan(a_subject("kvm", a_machine(chipset="q35")))
    assert [refusal.forceable for refusal in plan.refusals] == [False]


@pytest.mark.parametrize(
    ("ahci", "system", "refused", "forceable"),
    [
        (False, "winxp", True, False),
        (None, "winxp", True, True),
        (None, "linux", False, True),
        (True, "winxp", False, True),
    ],
)
def test_kubevirt_wants_a_driver_for_ahci(ahci: bool | None, system: str, refused: bool, forceable: bool) -> None:
    kubevirt = export_target("kubevirt").load()
    plan = kubevirt.plan(a_subject("containerdisk", a_machine(system=system), ahci=ahci))
    assert bool(plan.refusals) == refused
    assert all(each.forceable == forceable for each in plan.refusals)


@pytest.mark.parametrize("target", ["libvirt", "qemu", "utm", "proxmox"])
@pytest.mark.parametrize("hidden", [("nx", "lm")])
def test_hidden_features_reach_the_targets_that_can_hide_them(target: str, hidden: tuple[str, ...]) -> None:
    entry = export_target(target)
    subject = a_subject(entry.forms[0], a_machine(hidden=hidden))
    said = "".join(text.text for text in entry.load().texts(subject, None) if text.path != "README.md")
    assert ("nx" in said) == (target != "proxmox")
    if target == "proxmox":
        assert any("nx, lm" in note for note in entry.load().plan(subject).notes)


@pytest.mark.parametrize(("target", "form"), FORMS)
def test_no_network_is_plugged_in_by_an_export(target: str, form: str) -> None:
    """Vagrant and KubeVirt have no such switch: their plans say so."""
    _, plan, texts = made(target, form)
    said = "".join(text.text for text in texts)
    marks = {
        "libvirt": '<link state="down" />',
        "proxmox": "link_down=1",
        "virtualbox": 'cable="false"' if form == "vbox" else "AutomaticAllocation>false",
        "vmware": 'startConnected = "FALSE"' if form == "vmx" else "AutomaticAllocation>false",
        "esxi": "AutomaticAllocation>false",
        "hyperv": "-IsLegacy $true -Name",
        "utm": "<key>IsolateFromHost</key>\n\t\t\t<true/>",
        "qemu": "restrict=on",
    }
    if target in marks:
        assert marks[target] in said
    else:
        assert any("network" in note for note in plan.notes)


def test_the_form_is_as_said_or_as_the_output_is_called() -> None:
    target = export_target("vmware")
    assert (target.form(None, None), target.form(None, "x.OVA"), target.form("ova", "x")) == ("vmx", "ova", "ova")
    with pytest.raises(UsageError) as caught:
        target.form("vdi", None)
    assert caught.value.expected == "vmx or ova"
    with pytest.raises(UsageError):
        export_target("hyperv").form(None, "x.ova")
    with pytest.raises(UsageError) as caught:
        export_target("xen")
    assert "kubevirt" in str(caught.value.expected)

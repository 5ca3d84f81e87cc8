"""``byre targets``."""

from __future__ import annotations

import json

import pytest

from byre.cli.main import main


def test_all_targets_are_listed_with_their_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    said = capsys.readouterr().out
    assert "azure.whole-mib" in said and "kubevirt" in said


def test_one_target_gives_reasons_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "azure"]) == 0
    said = capsys.readouterr().out
    assert "why" in said and "Add-AzVhd" in said and "hyperv" not in said


def test_json_has_a_schema_and_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "byre/targets/1"
    azure = next(target for target in found["targets"] if target["name"] == "azure")
    assert azure["size_multiple"] == 1 << 20
    assert {"id", "says", "reason", "source", "checked"} == set(azure["rules"][0])


def test_unknown_target_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "xen"]) == 64
    assert "azure" in capsys.readouterr().err

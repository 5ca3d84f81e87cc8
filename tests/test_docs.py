"""The pages are true: every verb, format and exit status is in them, links lead somewhere, output isn't stale."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest

import byre as package
from byre.cli.main import MODULES, VERBS
from byre.disks.formats import FORMATS
from byre.errors import ByreError
from programs import byre
from sessions import comparable, cut_to, sessions_of

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SAMPLES = Path(package.__file__).parent / "samples"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_and_is_in_the_readme_and_the_list(verb: str) -> None:
    page = ROOT / "docs" / "verbs" / f"{verb}.md"
    assert page.exists(), f"docs/verbs/{verb}.md is missing"
    assert page.read_text().startswith(f"# byre {verb}\n")
    assert f"](docs/verbs/{verb}.md)" in README.read_text()
    assert f"]({verb}.md)" in (ROOT / "docs" / "verbs" / "README.md").read_text()


def test_no_page_is_of_a_verb_that_does_not_exist() -> None:
    assert {page.stem for page in (ROOT / "docs" / "verbs").glob("*.md")} - {"README"} <= set(VERBS)


def test_every_format_is_in_the_readme() -> None:
    section = README.read_text().split("## Formats")[1].split("\n## ")[0].lower()
    for entry in FORMATS:
        if entry.module is not None:
            assert entry.name in section, entry.name


def test_every_exit_status_is_on_its_page() -> None:
    page = (ROOT / "docs" / "exit-statuses.md").read_text()
    for cls in (ByreError, *ByreError.__subclasses__()):
        assert re.search(rf"^\| {cls.exit_code} \| `{cls.kind}` \|.*`{cls.__name__}` \|$", page, re.MULTILINE), cls


@pytest.mark.parametrize("verb", VERBS)
def test_every_verdict_is_on_the_page_of_exit_statuses(verb: str) -> None:
    verdicts = import_module(f"byre.cli.{MODULES.get(verb, verb)}").VERDICTS
    told = set(re.findall(r"(?:^|\s{2,}|: )([1-3]) ", verdicts, re.MULTILINE))
    page = (ROOT / "docs" / "exit-statuses.md").read_text()
    row = re.search(rf"^\| (?:`\w+`, )*`{verb}`(?:, `\w+`)* \|(.*)\|$", page, re.MULTILINE)
    columns = [cell.strip() for cell in row[1].split("|")] if row else ["", "", "", ""]
    assert told - {"1" if verb == "check" else ""} == {str(n) for n in (1, 2, 3) if columns[n]}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def shown_sessions(page: Path) -> list[tuple[str, str]]:
    return sessions_of(page.read_text())


def test_the_readmes_session_is_what_the_program_says_today(tmp_path: Path) -> None:
    """Run it again, in order, on the samples. Times differ from run to run; nothing else may."""
    for sample in SAMPLES.glob("*.qcow2"):
        shutil.copyfile(sample, tmp_path / sample.name)
    sessions = shown_sessions(README)
    assert len(sessions) >= 4
    for command, shown in sessions:
        words = shlex.split(command, comments=True)[1:]
        done = byre(*words, status=None, folder=tmp_path)
        assert done.returncode < 64, done.stderr
        if shown:
            hint = f"{command}: run tools/refresh_sessions.py"
            assert cut_to(done.stdout, shown) == comparable(shown.removesuffix("...")), hint


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "verbs").glob("*.md")), ids=lambda page: page.stem)
def test_the_sessions_on_the_verbs_pages_are_what_the_program_says_today(page: Path, tmp_path: Path) -> None:
    """A shown output may be cut short at its end, or with '...'."""
    for sample in SAMPLES.glob("*.qcow2"):
        shutil.copyfile(sample, tmp_path / sample.name)
    for command, shown in shown_sessions(page):
        done = byre(*shlex.split(command, comments=True)[1:], status=None, folder=tmp_path)
        assert done.returncode < 64, done.stderr
        expected = comparable(shown.removesuffix("..."))
        assert comparable(done.stdout)[: len(expected)] == expected, command

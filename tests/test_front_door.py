"""What a newcomer meets first: the package, the demo, the sample, and make's own scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import byre as package
from oracles import run_tool
from programs import byre, byre_json

ROOT = Path(__file__).parents[1]
SAMPLE = Path(package.__file__).parent / "samples" / "farm.qcow2"


@pytest.mark.slow
def test_the_demo_runs_to_its_end_and_leaves_what_it_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "demo.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for verb in (
        "audit",
        "diff",
        "info",
        "snapshot create",
        "snapshot revert",
        "convert",
        "compare",
        "check",
        "slim",
        "export",
    ):
        assert f"$ byre {verb} " in done.stdout
    assert "Now your own image" in done.stdout and "Traceback" not in done.stdout + done.stderr
    names = sorted(path.name for path in (tmp_path / "demo").iterdir())
    made = [
        "clean.json",
        "farm-as-it-was.raw",
        "farm-for-the-shelf.qcow2",
        "infected.html",
        "lean.qcow2",
        "specimen.ova",
    ]
    assert names == sorted([*made, "farm.qcow2", "specimen.qcow2"])


def test_the_sample_is_small_and_has_two_snapshots() -> None:
    assert SAMPLE.stat().st_size <= 500_000
    told = byre_json("info", SAMPLE)
    assert told["format"] == "qcow2" and [entry["name"] for entry in told["snapshots"]] == ["clean", "spring"]


@pytest.mark.oracle
def test_the_sample_is_sound_for_qemu_and_holds_ntfs_in_each_state(tmp_path: Path) -> None:
    run_tool("qemu-img", "check", "-q", SAMPLE)
    for state, names in (("clean", {"Farm", "Notes"}), ("spring", {"Farm", "Notes"})):
        raw = tmp_path / f"{state}.raw"
        run_tool("qemu-img", "convert", "-l", f"snapshot.name={state}", "-O", "raw", SAMPLE, raw)
        listed = run_tool("fls", "-o", "63", raw)
        assert names <= {line.split("\t")[1] for line in listed.splitlines()}


@pytest.mark.slow
def test_wheel_and_sdist_carry_what_they_must(tmp_path: Path) -> None:
    """The build wants hatchling from the package index: skipped where pip can't have it."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip can't build here: {done.stderr[-200:]}")
    (wheel,) = tmp_path.glob("byre-*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"byre/py.typed", "byre/samples/farm.qcow2", "byre/cli/main.py"} <= names
    assert {"byre/reports/html/frame.html.j2", "byre/reports/html/style.css"} <= names
    assert not {name for name in names if name.startswith(("tests", "tools", "bench"))}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_tree_lists_what_an_sdist_takes() -> None:
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"src", "tests", "docs", "tools", "Makefile", "README.md", "LICENSE"} <= set(wanted)


def make_venv(folder: Path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run tools/make-venv.sh where only these programs are on the PATH (name -> shell script)."""
    for name in ("sh", "dirname", "printf", "rm", "cat"):
        found = next(path for path in (Path("/bin") / name, Path("/usr/bin") / name) if path.exists())
        (folder / name).symlink_to(found)
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "make-venv.sh"), str(folder / "venv"), "run"],
        env={"PATH": str(folder), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def stub_python(version: str, *, ensurepip: bool = True) -> str:
    """An interpreter that only answers what the script asks of it."""
    major, minor, _ = (int(part) for part in version.split("."))
    answers = {
        "'%d.%d.%d'": f"echo {version}",
        "'%d.%d'": f"echo {major}.{minor}",
    }
    return f"""
case "$2" in
*'%d.%d.%d'*) {answers["'%d.%d.%d'"]} ;;
*'%d.%d'*) {answers["'%d.%d'"]} ;;
*'< (3, 11)'*) exit {int((major, minor) < (3, 11))} ;;
*'>= (3, 15)'*) exit {int((major, minor) >= (3, 15))} ;;
*ensurepip*) exit {int(not ensurepip)} ;;
*) echo "the environment is made by $0" >&2; exit 9 ;;
esac"""


def test_without_python_make_says_which_and_how(tmp_path: Path) -> None:
    done = make_venv(tmp_path, {})
    assert done.returncode == 1 and "no Python was found" in done.stderr and "PYTHON=" in done.stderr


def test_an_older_python_is_named(tmp_path: Path) -> None:
    done = make_venv(tmp_path, {"python3": stub_python("3.9.2")})
    assert done.returncode == 1 and "python3 is Python 3.9.2: too old" in done.stderr


def test_a_newer_python_beside_an_older_one_is_taken(tmp_path: Path) -> None:
    done = make_venv(tmp_path, {"python3": stub_python("3.9.2"), "python3.12": stub_python("3.12.4")})
    assert "python3 is Python 3.9.2, and Byre needs 3.11: taking python3.12 (3.12.4)" in done.stderr
    assert "made by " in done.stderr and "python3.12" in done.stderr.split("made by ")[1]


def test_a_python_without_ensurepip_names_the_package(tmp_path: Path) -> None:
    done = make_venv(tmp_path, {"python3": stub_python("3.11.2", ensurepip=False), "apt-get": "exit 0"})
    assert done.returncode == 1 and "sudo apt-get install python3.11-venv" in done.stderr


def test_uv_is_taken_where_it_is_and_left_where_it_fails(tmp_path: Path) -> None:
    done = make_venv(tmp_path, {"uv": "exit 1", "python3": stub_python("3.12.4")})
    assert "with uv" in done.stderr and "trying again with venv and pip" in done.stderr


def test_oracle_tools_are_quick_when_all_is_there_and_never_fail() -> None:
    done = subprocess.run(
        ["sh", ROOT / "tools" / "oracle-tools.sh"],
        env={**os.environ, "PATH": "/usr/bin:/bin"} if os.getuid() else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0


def test_missing_oracle_tools_are_named_with_their_packages(tmp_path: Path) -> None:
    for name in ("sh", "dirname", "cat"):
        found = next(path for path in (Path("/bin") / name, Path("/usr/bin") / name) if path.exists())
        (tmp_path / name).symlink_to(found)
    script = (ROOT / "tools" / "oracle-tools.sh").read_text().replace('PATH="$PATH:/usr/sbin:/sbin"', "")
    copy = tmp_path / "tools"
    copy.mkdir()
    (copy / "oracle-tools.sh").write_text(script)
    (copy / "oracle-tools.txt").write_text("no-such-qemu-img  qemu-utils\nno-such-qemu-io  qemu-utils\n")
    done = subprocess.run(
        ["/bin/sh", copy / "oracle-tools.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "no-such-qemu-img no-such-qemu-io" in done.stderr and done.stderr.count("qemu-utils") == 1


SKIPPING = """
import pytest

@pytest.mark.oracle
def test_compares():
    pytest.skip("qemu-img is missing: install qemu-utils")

def test_plain():
    pytest.skip("not here")
"""


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_a_skipped_oracle_test_fails_only_under_ci(ci: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(SKIPPING)
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = oracle: x\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            f"pythonpath={ROOT / 'tests'}",
            tmp_path,
        ],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    assert ("1 failed, 1 skipped" if ci else "2 skipped") in done.stdout


def test_make_help_lists_the_doors() -> None:
    said = subprocess.run(["make", "-C", ROOT, "-s", "help"], capture_output=True, text=True, check=True).stdout
    for door in ("demo", "test", "lint", "fuzz", "help"):
        assert f"make {door} " in said


def test_python_m_byre_is_the_program() -> None:
    assert byre("--version").stdout == f"byre {package.__version__}\n"

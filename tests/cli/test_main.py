from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import byre as package
from byre.cli.main import STATUSES, VERBS, main
from byre.errors import ByreError, CorruptImageError
from effort import slowness
from programs import COMMAND, byre, byre_json


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    return path


def verb_that(raises: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes 'byre info' run into this."""
    module = importlib.import_module("byre.cli.info")

    def run(args: object, out: object) -> int:
        raise raises

    monkeypatch.setattr(module, "run", run)


def test_no_argument_lists_every_verb() -> None:
    said = byre().stdout
    for name, summary in VERBS.items():
        assert f"  {name} " in said and summary in " ".join(said.split())


def test_help_version_and_help_of_a_verb() -> None:
    assert byre("--help").stdout == byre("help").stdout == byre().stdout
    assert byre("--version").stdout == f"byre {package.__version__}\n"
    assert byre("help", "info").stdout == byre("info", "--help").stdout


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_has_an_example_its_verdicts_and_the_shared_options_in_its_help(name: str) -> None:
    said = byre(name, "--help", environment={"COLUMNS": "100"}).stdout
    assert f"byre {name} " in said.split("examples:")[1]
    verdicts = said.split("exit status:")[1]
    assert "0 " in verdicts and STATUSES.strip().split("\n")[0] in verdicts
    if "Actions:" in said:  # a verb of verbs, as 'byre snapshot create': the options are the inner ones
        action = said.split("Actions:")[1].split()[1]
        said = byre(name, action, "--help", environment={"COLUMNS": "100"}).stdout
    assert "--debug" in said and "--json" in said and "--progress" in said


@pytest.mark.parametrize("name", VERBS)
def test_help_fits_a_narrow_terminal(name: str) -> None:
    said = byre(name, "--help", environment={"COLUMNS": "70"}).stdout
    head = said.split("examples:")[0]
    assert max(map(len, head.splitlines())) <= 70


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["inof", "x"], "Did you mean 'byre info'?"),
        (["frobnicate"], "'byre --help' lists the verbs"),
        (["--json", "info"], "the verb comes first"),
        (["info"], "IMAGE"),
        (["info", "x", "--jsn"], "Did you mean '--json'?"),
        (["info", "x", "--js"], "there is no option '--js'"),
        (["info", "x", "y"], "unrecognized arguments: y"),
        (["info", "x", "--progress", "loud"], "invalid choice"),
    ],
)
def test_wrong_words_are_usage_errors_that_say_what_to_do(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 64
    told = capsys.readouterr()
    if "--json" in words:
        assert says in json.loads(told.out)["message"]
    else:
        assert told.out == "" and says in told.err and told.err.startswith("byre: ") and told.err.count("\n") == 1


def test_an_image_called_like_an_option_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "--json").write_bytes(bytes(512))
    done = subprocess.run(
        [*COMMAND, "info", "--", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "raw" in done.stdout and not done.stdout.startswith("{")


def test_an_error_with_json_is_an_object_with_the_fields(tmp_path: Path) -> None:
    gone = tmp_path / "gone.qcow2"
    told = byre_json("info", gone, status=66)
    assert told["schema"] == "byre/error/1"
    assert (told["error"], told["exit_status"], told["path"]) == ("missing", 66, str(gone))
    assert told["what"] in told["message"] and set(told) >= {"offset", "found", "expected", "hint"}


def test_an_unexpected_exception_is_told_as_a_bug_with_what_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(KeyError("refcount"), monkeypatch)
    assert main(["info", "https://me:secret@host/x.qcow2?token=abc"]) == 70
    told = capsys.readouterr().err
    assert told.startswith("byre: this is a bug in Byre: KeyError: 'refcount'") and told.count("\n") == 1
    assert package.__version__ in told and "byre info" in told and "Traceback" not in told
    assert "secret" not in told and "abc" not in told


@pytest.mark.parametrize("error", [RecursionError("too deep"), MemoryError(), ValueError("x\ny"), AssertionError()])
def test_every_kind_of_exception_exits_with_70_and_one_paragraph(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(error, monkeypatch)
    assert main(["info", "x", "--json"]) == 70
    told = json.loads(capsys.readouterr().out)
    assert told["error"] == "internal" and "bug" in told["message"]


def test_debug_shows_the_traceback_of_a_bug_and_of_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(KeyError("refcount"), monkeypatch)
    assert main(["info", "x", "--debug"]) == 70
    told = capsys.readouterr().err
    assert "Traceback" in told and "KeyError: 'refcount'" in told and "this is a bug" in told


def test_the_systems_own_refusal_is_an_io_error_not_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(PermissionError(13, "Permission denied", "/some/where"), monkeypatch)
    assert main(["info", "x"]) == 74
    assert capsys.readouterr().err == "byre: /some/where: Permission denied.\n"


def test_ctrl_c_exits_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(KeyboardInterrupt(), monkeypatch)
    assert main(["info", "x"]) == 130
    assert capsys.readouterr().err == "byre: interrupted; nothing half-made was left behind.\n"


WAITING = """
import sys, time
from byre.cli import info
from byre.cli.main import main
def run(args, out):
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        print("cleaned up", flush=True)
info.run = run
sys.exit(main(["info", "x"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_clean_up_and_exit_with_130(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == "cleaned up\n" and err.count("\n") == 1 and "interrupted" in err


def test_nohup_is_honoured() -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, "-c", WAITING.replace("time.sleep(600)", "sys.stdin.read()")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate("go on\n", timeout=120)
    assert (process.returncode, out) == (0, "cleaned up\n")


def test_a_reader_that_leaves_is_no_traceback(image: Path) -> None:
    line = f"{' '.join(COMMAND)} info {image} | head -0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.stderr == "" and done.returncode in (0, 141)


def test_a_result_that_cannot_be_written_is_an_io_error(image: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "info", image], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 74 and "No space left" in done.stderr and done.stderr.count("\n") == 1


def test_a_closed_stdout_is_no_traceback(image: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(COMMAND)} info {image} >&-"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr


def test_a_name_that_is_not_utf8_can_be_told(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/disk-\xff.raw"
    Path(os.fsdecode(name)).write_bytes(bytes(512))
    for extra in ([], ["--json"]):
        done = subprocess.run([*COMMAND, "info", name, *extra], capture_output=True, check=False)
        assert done.returncode == 0 and done.stderr == b""
    done = subprocess.run([*COMMAND, "info", name + b"x", "--json"], capture_output=True, check=False)
    assert done.returncode == 66
    assert os.fsencode(json.loads(done.stdout)["path"]) == name + b"x"


def test_no_color_and_pipes_get_plain_text(image: Path) -> None:
    assert "\x1b" not in byre("info", image, environment={"NO_COLOR": "1"}).stdout
    assert "\x1b" not in byre("info", "--help").stdout


def test_exit_statuses_in_the_help_are_those_of_the_errors() -> None:
    for cls in ByreError.__subclasses__():
        assert f"{cls.exit_code} " in STATUSES


def test_verbs_run_from_another_thread_leave_the_signals_alone(image: Path) -> None:
    import threading

    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(main(["info", str(image), "--json"])))
    thread.start()
    thread.join()
    assert statuses == [0]


def test_a_corrupt_image_is_65(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    verb_that(CorruptImageError("bad", path="a\nb", offset=0x200, found=1, expected=2, hint="Look."), monkeypatch)
    assert main(["info", "x"]) == 65
    assert capsys.readouterr().err == "byre: a\\x0ab: bad (at offset 0x200, found 1, expected 2). Look.\n"


@pytest.mark.slow
def test_starting_costs_little_more_than_a_bare_interpreter() -> None:
    """The promise is 120 ms of CPU on a machine like ours; the least of several, because other programs run too."""

    def cpu_seconds(command: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    bare = min(cpu_seconds([sys.executable, "-c", "pass"]) for _ in range(9))
    ours = min(cpu_seconds([*COMMAND, "--help"]) for _ in range(9))
    assert ours - bare < 0.120 * slowness()


def test_the_overview_imports_nothing_heavy() -> None:
    code = "import sys; from byre.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"numpy", "rich", "zstandard", "isal", "asyncio"}.isdisjoint(done.stderr.split())


def test_every_module_imports_where_fcntl_is_missing() -> None:
    """As on Windows, as far as that can be seen from here."""
    # Started, never imported; but for the first on Linux only.
    programs = {"byre.__main__", "byre.lite.ntfs_helper", "byre.lite.ntfs_confinement"}
    names = [
        module.name for module in pkgutil.walk_packages(package.__path__, "byre.") if module.name not in programs
    ]
    code = f"""
import sys
for name in ("fcntl", "termios", "pwd", "grp", "resource"):
    sys.modules[name] = None
import importlib
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

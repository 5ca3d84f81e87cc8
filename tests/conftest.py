"""What every test has: the oracle tools, and under CI no skipped oracle test."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from builders.opened import AT_THE_END
from oracles import UNDER_CI, require_tool

os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# What a developer's shell has set must not change what Byre prints.
for _name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS"):
    os.environ.pop(_name, None)
# What tests make, QEMU's account and other tools read.
os.umask(0o022)
# Nor may the lists of hashes that a developer has imported.
os.environ["XDG_DATA_HOME"] = "/nonexistent"

# A proxy is for other machines: the servers that tests start are on this one.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1"
# How pytest was told to run is not for a pytest that a test starts.
os.environ.pop("PYTEST_ADDOPTS", None)
# Whoever runs the tests in the background or under nohup has signals ignored, and every child would inherit that. It
# doesn't inherit a handler: we ignore them still, and they mean to our children what they mean to anybody's.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    with suppress(ValueError):  # not in the main thread
        if signal.getsignal(_number) is signal.SIG_IGN:
            signal.signal(_number, lambda *_: None)

# The user's own cache is neither used nor filled.
os.environ["XDG_CACHE_HOME"] = _CACHE = tempfile.mkdtemp(prefix="byre-test-cache-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

# The same cases on every machine and in every run, however busy it is; more of them are what 'make fuzz' is for.
settings.register_profile(
    "byre", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("byre")
# Hypothesis also tries constants of whatever local modules are loaded: other cases with every order of the tests, and
# with every way in which they are shared out among workers.
with suppress(ImportError, AttributeError):  # it is Hypothesis' own business, and may be elsewhere in another release
    from hypothesis.internal.conjecture import providers

    _none = providers._local_constants
    providers._get_local_constants = lambda: _none


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """No more workers than the container may have processors: it sees all of its host's, and may use two of them."""
    with suppress(OSError, ValueError):
        quota, _, period = Path("/sys/fs/cgroup/cpu.max").read_text().partition(" ")
        return max(1, min(len(os.sched_getaffinity(0)), round(int(quota) / int(period))))
    return None


@pytest.fixture
def tool() -> Callable[[str], str]:
    """``tool("qemu-img")`` is its path; without it the test is skipped, naming the package."""
    return require_tool


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    """No test leaves one of its own files open: a descriptor is no object, so nobody would warn of it."""
    before = _open_temporary()
    yield
    AT_THE_END.close()
    if _open_temporary() - before:
        gc.collect()  # what only a cycle still holds is no leak
        assert not _open_temporary() - before


def _open_temporary() -> set[tuple[str, str]]:
    """(number, name) of each descriptor of a file below the temporary folder. Linux only; none elsewhere."""
    found = set()
    with suppress(FileNotFoundError):
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 (it is asked after every test)
            with suppress(OSError):
                found.add((number, os.readlink(f"/proc/self/fd/{number}")))  # noqa: PTH115
    return {row for row in found if row[1].startswith(tempfile.gettempdir())}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marked = item.get_closest_marker("oracle") is not None
    if UNDER_CI and marked and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"an oracle test was skipped, which is a failure under CI: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module that skips itself hides whether there were oracle tests in it."""
    report = yield
    if UNDER_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"a test module was skipped, which is a failure under CI: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    skipped = report.longrepr
    return str(skipped[2] if isinstance(skipped, tuple) else skipped)

"""Machines run as a user would run them: a real QEMU under TCG, with a guest of one sector."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from builders.failing_qemu import failing_kvm
from builders.range_server import serve
from builders.stub_machines import message_disk
from builders.tiny_guest import KEY_SECTOR, SECTOR, write_guest
from byre.cli.main import main
from byre.cli.output import Output
from byre.machine.qemu.accelerator import Accelerator
from byre.machine.qemu.process import monitor
from byre.machine.qemu.qmp import QmpClient
from oracles import require_tool
from programs import COMMAND, byre, byre_json

pytestmark = pytest.mark.oracle
SPECIMEN = Path(__file__).parents[2] / "src" / "byre" / "samples" / "specimen.qcow2"


PATIENCE = 240.0
"""Seconds for what takes one or two where nothing else runs."""


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it doesn't happen"
        time.sleep(0.05)


@dataclass(frozen=True)
class Owner:
    """A ``byre run`` in the foreground; the files take what it says on stdout and stderr."""

    process: subprocess.Popen[bytes]
    out: Path
    notices: Path

    def says(self, words: str) -> None:
        """Wait until it has said this on stderr."""
        until(lambda: self.process.poll() is not None or words in self.notices.read_text())
        assert self.process.poll() is None, self.out.read_text() + self.notices.read_text()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Bench:
    """A place where machines run: its own runtime and scratch folders. Mutable: it ends what it has started."""

    folder: Path
    started: list[Owner] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {"BYRE_RUNTIME_DIR": str(self.folder / "run"), "TMPDIR": str(self.folder / "scratch")}

    @property
    def serial(self) -> Path:
        return self.folder / "serial.txt"

    def run(self, image: Path | str, *words: str, serial: bool = True) -> Owner:
        """Start ``byre run`` and wait until it says that the machine runs and how to end it."""
        owner = self.start(image, *words, serial=serial)
        owner.says("or Ctrl-C ends it\n")
        return owner

    def start(self, image: Path | str, *words: str, serial: bool = True) -> Owner:
        command = [*COMMAND, "run", str(image), "--accel", "tcg", "--display", "none", *words]
        if serial:
            command += ["--serial", f"file:{self.serial}"]
        said = [self.folder / f"{len(self.started)}.{name}" for name in ("out", "err")]
        with said[0].open("w") as out, said[1].open("w") as notices:
            process = subprocess.Popen(
                command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=notices,
            )
        owner = Owner(process, *said)
        self.started.append(owner)
        return owner

    def hears(self, text: str) -> None:
        """Wait until the guest has said exactly this on its serial port."""
        until(lambda: self.serial.exists() and self.serial.read_text() == text)

    def byre(self, *words: str | Path, status: int | None = 0) -> subprocess.CompletedProcess[str]:
        return byre(*words, status=status, environment=self.environment)

    def ps(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.byre("ps", "--json").stdout)["machines"]
        return found

    def left(self) -> list[Path]:
        """Everything that runs have left behind."""
        return [path for part in ("run", "scratch") for path in (self.folder / part).rglob("*") if path.is_file()]


@pytest.fixture
def bench() -> Iterator[Bench]:
    require_tool("qemu-system-x86_64")
    folder = Path(tempfile.mkdtemp(prefix="byre-", dir="/tmp"))  # a socket's path is short
    folder.chmod(0o711)
    for name in ("run", "scratch"):
        (folder / name).mkdir(mode=0o711)
    place = Bench(folder)
    yield place
    for run in (folder / "run").glob("*/qmp.sock"):
        byre("stop", run.parent.name, "--now", status=None, environment=place.environment)
    for owner in place.started:
        owner.kill()
    left = processes_below(folder)
    shutil.rmtree(folder)
    assert not left, "a QEMU has outlived its test"


@pytest.fixture
def guest(bench: Bench) -> Path:
    return write_guest(bench.folder / "tiny.raw")


def key_of(image: Path) -> str:
    return byre("read", image, str(KEY_SECTOR * SECTOR), "1", status=0).stdout.rstrip("\0")


def ended(owner: Owner) -> tuple[int, str, str]:
    status = owner.process.wait(PATIENCE)
    return status, owner.out.read_text(), owner.notices.read_text()


def test_nothing_that_the_guest_writes_lasts(bench: Bench, guest: Path) -> None:
    before = guest.read_bytes()
    owner = bench.run(guest)
    bench.hears("A")
    bench.byre("type", "tiny", "xy")
    bench.hears("Axy")
    assert not list((bench.folder / "scratch").rglob("*.qcow2")), "the overlay has no name while QEMU has it"
    assert "has shut down" in bench.byre("stop", "tiny").stdout
    status, out, _ = ended(owner)
    assert (status, out) == (0, "tiny: the guest has shut down\n")
    assert guest.read_bytes() == before and bench.left() == []


def test_what_a_kept_machine_writes_stays_and_its_image_is_locked(bench: Bench, guest: Path) -> None:
    image = bench.folder / "tiny.qcow2"
    byre("convert", guest, image)
    owner = bench.run(image, "--keep")
    bench.hears("A")
    bench.byre("type", "tiny", "c")
    bench.hears("Ac")  # a key that is still on its way would be in the state
    bench.byre("savevm", "tiny", "here")
    assert "has a snapshot 'here' already" in bench.byre("savevm", "tiny", "here", status=73).stderr
    assert "has no snapshot 'there'" in bench.byre("loadvm", "tiny", "there", status=66).stderr
    bench.byre("type", "tiny", "d")
    bench.hears("Acd")
    bench.byre("loadvm", "tiny", "here")
    bench.byre("type", "tiny", "e")
    bench.hears("Acde")
    assert bench.byre("snapshot", "create", image, "mine", status=75).returncode == 75
    assert bench.byre("snapshot", "delete", image, "here", status=75).returncode == 75
    bench.byre("stop", "tiny")
    assert ended(owner)[0] == 0
    assert key_of(image) == "e"
    names = [each["name"] for each in byre_json("snapshot", "list", image)["snapshots"]]
    assert names[0].startswith("before-run-") and names[1] == "here"


def test_a_machine_resumes_from_the_state_in_a_snapshot(bench: Bench, guest: Path) -> None:
    image = bench.folder / "tiny.qcow2"
    byre("convert", guest, image)
    owner = bench.run(image, "--keep", "--no-snapshot")
    bench.hears("A")
    bench.byre("type", "tiny", "c")
    bench.hears("Ac")
    bench.byre("savevm", "tiny", "here")
    bench.byre("stop", "tiny")
    ended(owner)
    owner = bench.run(f"{image}@here", "--json")
    bench.byre("type", "tiny", "z")
    bench.hears("z")
    bench.byre("stop", "tiny")
    payload = json.loads(ended(owner)[1])
    assert payload["resumed"] is True and payload["kept"] is False
    cold = bench.run(f"{image}@here", "--cold")
    bench.hears("A")
    bench.byre("stop", "tiny", "--now", status=1)
    ended(cold)


def test_a_state_of_another_machine_starts_cold_and_says_why(bench: Bench, guest: Path) -> None:
    image = bench.folder / "tiny.qcow2"
    byre("convert", guest, image)
    owner = bench.run(image, "--keep", "--no-snapshot", "--set", "nic=e1000")
    bench.hears("A")
    bench.byre("savevm", "tiny", "here")
    bench.byre("stop", "tiny", "--now", status=1)
    ended(owner)
    owner = bench.run(image, "--snapshot", "here", "--set", "nic=pcnet")
    bench.hears("A")
    bench.byre("stop", "tiny", "--now", status=1)
    status, _, notices = ended(owner)
    assert status == 0
    assert "can't be used here" in notices and "starts cold" in notices


def test_two_runs_of_one_image_work_at_once(bench: Bench, guest: Path) -> None:
    one = bench.run(guest)
    two = bench.run(guest, "--name", "other", serial=False)
    three = bench.run(guest, serial=False)
    assert [(each["name"], each["state"]) for each in bench.ps()] == [
        (name, "running") for name in ("other", "tiny", "tiny-2")
    ]
    for name in ("other", "tiny", "tiny-2"):
        bench.byre("stop", name, "--now", status=1)
    assert [ended(each)[0] for each in (one, two, three)] == [0, 0, 0]
    assert bench.left() == []


@pytest.mark.parametrize("suffix", ["vdi", "vmdk", "vhd", "vhdx"])
def test_other_formats_run_over_our_own_server(bench: Bench, guest: Path, suffix: str) -> None:
    image = bench.folder / f"tiny.{suffix}"
    byre("convert", guest, image)
    digest = image.read_bytes()
    owner = bench.run(image)
    bench.hears("A")
    bench.byre("type", "tiny", "k")
    bench.hears("Ak")
    bench.byre("stop", "tiny")
    status, _, notices = ended(owner)
    assert status == 0 and "read by Byre" in notices
    assert image.read_bytes() == digest


def test_a_remote_image_runs_and_nothing_of_it_is_downloaded_first(bench: Bench, guest: Path) -> None:
    image = bench.folder / "tiny.qcow2"
    byre("convert", guest, image)
    with serve(image.read_bytes()) as url:
        owner = bench.run(url)
        bench.hears("A")
        assert bench.ps()[0]["name"] == "xp"
        bench.byre("stop", "xp")
        status, _, notices = ended(owner)
    assert status == 0 and "it is remote" in notices


def test_an_image_that_is_being_written_can_be_run_as_it_is(bench: Bench, guest: Path) -> None:
    kept = bench.run(guest, "--keep", "--no-snapshot", serial=False)
    assert bench.byre("run", guest, "--display", "none", status=75).returncode == 75
    copy = bench.run(guest, "-U", "--name", "copy")
    bench.hears("A")
    for name in ("copy", "tiny"):
        bench.byre("stop", name, "--now", status=1)
    assert (ended(kept)[0], ended(copy)[0]) == (0, 0)


@pytest.mark.parametrize(
    "words",
    [
        ["--for", "virtualbox"],
        ["--for", "qemu:q35"],
        ["--set", "controller=ich9-ahci"],
        ["--set", "controller=lsi53c895a"],
        ["--set", "controller=virtio-blk"],
        ["--set", "controller=virtio-scsi"],
    ],
    ids=lambda words: words[1],
)
def test_a_guest_reads_its_disk_on_every_controller_that_is_offered(
    bench: Bench, guest: Path, words: list[str]
) -> None:
    owner = bench.run(guest, *words)
    bench.hears("A")
    bench.byre("type", "tiny", "w")
    bench.hears("Aw")
    bench.byre("stop", "tiny", "--now", status=1)
    assert ended(owner)[0] == 0


def test_ctrl_c_asks_the_guest_to_shut_down(bench: Bench, guest: Path) -> None:
    owner = bench.run(guest)
    bench.hears("A")
    owner.interrupt()
    status, out, notices = ended(owner)
    assert (status, out) == (0, "tiny: the guest has shut down as asked\n")
    assert "ACPI" in notices


def deaf_guest(path: Path) -> Path:
    """A boot sector that only halts: it hears no power button."""
    path.write_bytes(b"\xfa\xf4\xeb\xfd".ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    return path


def test_a_guest_that_ignores_it_is_ended_after_the_time(bench: Bench) -> None:
    owner = bench.run(deaf_guest(bench.folder / "deaf.raw"), "--patience", "0.5")
    owner.interrupt()
    status, _, notices = ended(owner)
    assert status == 1 and "ended now" in notices and bench.left() == []


def test_a_kept_guest_is_ended_by_a_second_ctrl_c_only(bench: Bench) -> None:
    image = deaf_guest(bench.folder / "deaf.raw")
    owner = bench.run(image, "--keep", "--no-snapshot", "--patience", "0.2")
    owner.interrupt()
    owner.says("a second Ctrl-C pulls its plug")
    assert bench.byre("stop", "deaf", "--patience", "0.2", status=2).returncode == 2
    time.sleep(1)  # its own patience is over by now, and it has looked at the clock several times
    assert owner.process.poll() is None
    owner.interrupt()
    assert ended(owner)[0] == 1


def test_a_kept_machine_whose_owner_was_killed_is_shown_and_can_be_stopped(bench: Bench, guest: Path) -> None:
    """Its file systems are in use: it must not lose its power with the one who started it."""
    owner = bench.run(guest, "--keep", "--no-snapshot")
    bench.hears("A")
    owner.kill()
    assert [each["state"] for each in bench.ps()] == ["orphaned"]
    bench.byre("type", "tiny", "c")
    bench.hears("Ac")
    bench.byre("stop", "tiny")
    assert bench.ps() == [] and bench.left() == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells a child that its parent has died")
@pytest.mark.parametrize("served", [False, True])
def test_a_machine_of_which_nothing_lasts_ends_with_its_owner(served: bool, bench: Bench, guest: Path) -> None:
    """Also one whose disk is read by a thread of the owner."""
    image = bench.folder / "tiny.vhdx"
    if served:
        byre("convert", guest, image)
    owner = bench.run(image if served else guest)
    bench.hears("A")
    assert not list((bench.folder / "scratch").rglob("*.qcow2")), "the overlay went with its name"
    owner.kill()
    until(lambda: bench.ps() == [] and bench.left() == [])


def test_a_qemu_that_is_killed_is_reported_and_nothing_remains(bench: Bench, guest: Path) -> None:
    owner = bench.run(guest)
    bench.hears("A")
    os.kill(bench.ps()[0]["pid"], signal.SIGKILL)
    status, _, notices = ended(owner)
    assert status == 74 and "signal 9" in notices and bench.left() == []


def fake_qemu(folder: Path, script: str) -> dict[str, str]:
    path = folder / "bin" / "qemu-system-x86_64"
    path.parent.mkdir(mode=0o755)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    path.parent.chmod(0o755)
    return {"PATH": str(path.parent)}


def test_what_a_dying_qemu_says_is_quoted_and_escaped(bench: Bench, guest: Path) -> None:
    environment = {**bench.environment, **fake_qemu(bench.folder, "printf 'qemu: \\033[2Jdoom\\n' >&2; exit 1\n")}
    done = byre("run", guest, "--display", "none", "--accel", "tcg", status=74, environment=environment)
    assert "doom" in done.stderr and "\033" not in done.stderr and "\\x1b" in done.stderr
    assert bench.left() == []


@pytest.mark.parametrize("how", ["refused", "internal-error"])
@pytest.mark.parametrize("keep", [False, True])
def test_where_kvm_gives_up_before_anything_is_written_the_guest_is_started_anew_with_tcg(
    how: str, keep: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bench.folder / "off.qcow2"
    byre("convert", message_disk(bench.folder, "Good night", "off"), image)
    play_kvm(bench, monkeypatch, how)
    more = ["--keep"] if keep else []
    words = ["run", str(image), "--display", "none", "--serial", f"file:{bench.serial}", "--json", *more]
    assert main(words) == 0
    told = capsys.readouterr()
    payload = json.loads(told.out)
    assert (payload["ended"], payload["accelerator"], payload["kept"]) == ("shutdown", "tcg", keep)
    problem = {
        "refused": "KVM can't be used: qemu-system-x86_64: failed to initialize kvm: Permission denied",
        "internal-error": "KVM can't go on with this guest, which has written nothing yet",
    }[how]
    assert f"{problem}; it is started anew with TCG (software, slow)\n" in told.err
    assert bench.left() == []
    snapshots = json.loads(byre("snapshot", "list", image, "--json").stdout)["snapshots"]
    assert len(snapshots) == keep, "taken once"


@pytest.mark.parametrize("asked", [False, True])
def test_where_the_guest_has_written_or_kvm_was_asked_for_it_stands_still_and_that_is_said(
    asked: bool, bench: Bench, guest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_kvm(bench, monkeypatch, "internal-error", writes=0 if asked else 1)
    notice = Output.notice

    def and_stop(out: Output, text: str) -> None:
        notice(out, text)
        if "it stands still; try it with --accel tcg" in text:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Output, "notice", and_stop)
    more = ["--accel", "kvm"] if asked else []
    words = ["run", str(guest), "--display", "none", "--serial", f"file:{bench.serial}", "--json", *more]
    assert main(words) == 1
    assert json.loads(capsys.readouterr().out)["accelerator"] == "kvm"
    assert bench.left() == []


def play_kvm(bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str, *, writes: int = 0) -> None:
    """Let this process choose KVM, and find a QEMU whose KVM fails so."""
    monkeypatch.setenv("PATH", f"{failing_kvm(bench.folder / 'bin', how, writes=writes)}:{os.environ['PATH']}")
    for name, value in bench.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        "byre.machine.qemu.accelerator.choose", lambda wanted: Accelerator("kvm", "KVM, as this test plays it")
    )


def test_a_guest_that_is_over_before_its_cable_is_pulled_has_shut_down(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    execute = QmpClient.execute

    def late(client: QmpClient, command: str, **more: Any) -> Any:
        if command == "set_link":
            until(lambda: not processes_below(bench.folder))
        return execute(client, command, **more)

    monkeypatch.setattr(QmpClient, "execute", late)
    for name, value in bench.environment.items():
        monkeypatch.setenv(name, value)
    image = message_disk(bench.folder, "Good night", "off")
    assert main(["run", str(image), "--display", "none", "--accel", "tcg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "shutdown"


def test_a_missing_qemu_is_named_with_how_to_install_it(bench: Bench, guest: Path) -> None:
    environment = {**bench.environment, "PATH": str(bench.folder)}
    done = byre("run", guest, status=66, environment=environment)
    assert "apt install qemu-system-x86" in done.stderr


def test_a_port_that_is_taken_is_said(bench: Bench, guest: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = bench.byre("run", guest, "--accel", "tcg", "--display", "vnc", "--vnc-port", port, status=74)
    assert "in use" in done.stderr and "choose another" in done.stderr
    assert bench.left() == []


def test_the_screen_is_shown_at_the_port_that_is_named(bench: Bench, guest: Path) -> None:
    for _ in range(20):  # a free port may be somebody else's a moment later
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        owner = bench.start(guest, "--display", "vnc", "--vnc-port", str(port))
        until(lambda owner=owner: owner.process.poll() is not None or "Ctrl-C ends it" in owner.notices.read_text())
        if owner.process.poll() is None:
            break
        assert "in use" in owner.notices.read_text()
    with socket.create_connection(("127.0.0.1", port)) as viewer:
        viewer.settimeout(PATIENCE)
        assert viewer.recv(4, socket.MSG_WAITALL) == b"RFB "
    assert f"VNC on 127.0.0.1:{port - 5900}" in owner.notices.read_text()
    bench.byre("stop", "tiny", "--now", status=1)
    assert ended(owner)[0] == 0


def test_a_folder_is_shared_as_a_disc_and_the_screen_is_saved(bench: Bench, guest: Path) -> None:
    share = bench.folder / "share"
    share.mkdir()
    (share / "driver.inf").write_text("[Version]")
    owner = bench.run(guest, "--share", str(share))
    bench.hears("A")
    with monitor(bench.folder / "run" / "tiny") as qmp:
        drives = {each["qdev"]: each for each in qmp.execute("query-block")}
        assert drives["sharedisc"]["inserted"]["ro"] is True
    picture = bench.folder / "s.png"
    assert "720x400" in bench.byre("screenshot", "tiny", "-o", picture).stdout
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert bench.byre("screenshot", "tiny", "-o", picture, status=73).returncode == 73
    bench.byre("stop", "tiny")
    assert ended(owner)[0] == 0 and bench.left() == []


def network_sockets(pid: int) -> set[str]:
    """The inodes of this process's sockets on the host's network, of whatever kind."""
    links = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since they were listed
            links.append(each.readlink().name)
    own = {link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:")}
    on_network: set[str] = set()
    for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
        table = Path(f"/proc/net/{name}")
        rows = table.read_text().splitlines()[1:] if table.exists() else []
        on_network |= {row.split()[8 if name == "packet" else 9] for row in rows}
    assert own, "QEMU has sockets, all of them on Unix paths"
    return own & on_network


def test_the_isolated_wire_leads_to_other_guests_of_byre_only(bench: Bench, guest: Path) -> None:
    owner = bench.run(guest, "--network", "isolated")
    bench.hears("A")  # before that it hears no power button
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    (bench.folder / "run" / "peer").mkdir()
    peer.bind(str(bench.folder / "run" / "peer" / "net.sock"))
    peer.settimeout(2)
    frame = b""
    with monitor(bench.folder / "run" / "tiny") as qmp:
        for _ in range(100):  # the relay looks for others once a second: as on a wire, a first frame may be lost
            qmp.execute("announce-self", initial=50, max=100, rounds=3, step=10)
            with contextlib.suppress(TimeoutError):
                frame = peer.recv(2000)
                break
    assert frame[:6] == b"\xff" * 6 and frame[6:9] == bytes.fromhex("525400")
    peer.close()
    assert not network_sockets(bench.ps()[0]["pid"]), "nothing of it is on the host's network"
    bench.byre("stop", "tiny")
    assert ended(owner)[0] == 0


def test_nat_warns_that_it_leads_outside(bench: Bench, guest: Path) -> None:
    done = bench.byre("run", guest, "--dry-run", "--network", "nat")
    assert "warning" in done.stderr and "-netdev user,id=net0" in done.stdout


def test_savevm_needs_a_machine_that_is_kept(bench: Bench, guest: Path) -> None:
    owner = bench.run(guest)
    done = bench.byre("savevm", "tiny", "x", status=69)
    assert "--keep" in done.stderr
    bench.byre("stop", "tiny", "--now", status=1)
    ended(owner)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--keep", "--snapshot", "x"], 69, "no internal snapshots"),
        (["--keep"], 64, "raw images have none"),
        (["--no-snapshot"], 64, "--keep"),
        (["--share", "/nonexistent"], 66, "folder"),
        (["--serial", "/nonexistent"], 66, "serial port"),
        (["--serial", "/etc/passwd"], 64, "serial port"),
        (["--usb", "mouse"], 64, "VID:PID"),
        (["--usb", "dead:beef"], 66, "plugged in"),
        (["--name", "a/b"], 64, "letters"),
        (["--vnc-port", "80"], 64, "5900"),
        (["--for", "vmware:lsi"], 69, "lsi53c1030"),
        (["--set", "nic=token-ring"], 64, "network"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_made(
    bench: Bench, guest: Path, words: list[str], status: int, said: str
) -> None:
    done = bench.byre("run", guest, "--dry-run", *words, status=status)
    assert said in done.stderr
    assert bench.left() == []


def test_a_guest_is_not_started_where_it_would_stop(bench: Bench) -> None:
    done = bench.byre("run", SPECIMEN, "--set", "controller=virtio-blk", "--dry-run", status=69)
    assert "STOP 0x0000007B" in done.stderr and "--force" in done.stderr
    forced = bench.byre("run", SPECIMEN, "--set", "controller=virtio-blk", "--dry-run", "--force")
    assert "virtio-blk-pci" in forced.stdout


def test_a_profile_is_told_with_reasons_and_its_verdict(bench: Bench) -> None:
    payload = byre_json("profile", SPECIMEN, "--set", "nic=e1000")
    assert payload["machine"]["network"] == {"value": "e1000", "reason": "said in --set"}
    assert payload["problems"] == []
    bad = byre_json("profile", SPECIMEN, "--for", "kubevirt", status=2)
    assert any("STOP 0x0000007B" in each["consequence"] for each in bad["problems"])


def test_the_file_beside_the_image_is_heeded(bench: Bench, guest: Path) -> None:
    (guest.parent / "MACHINE.toml").write_text('[machine]\nmemory = "64MiB"\n')
    assert "-m 64M" in bench.byre("run", guest, "--dry-run").stdout
    assert "-m 32M" in bench.byre("run", guest, "--dry-run", "--set", "memory=32MiB").stdout


def test_verbs_on_a_machine_that_does_not_run_say_which_do(bench: Bench) -> None:
    for words in (
        ["stop", "xp"],
        ["screenshot", "xp"],
        ["type", "xp", "a"],
        ["savevm", "xp", "a"],
        ["loadvm", "xp", "a"],
    ):
        assert "running: none" in bench.byre(*words, status=66).stderr
    assert bench.byre("ps").stdout == "no machine runs\n"


def test_a_state_that_no_machine_comes_back_from_ends_in_one_cold_start(bench: Bench, guest: Path) -> None:
    """A QEMU that was given the state and refuses to go on must not live on beside the cold one."""
    image = bench.folder / "tiny.qcow2"
    byre("convert", guest, image)
    owner = bench.run(image, "--keep", "--no-snapshot")
    bench.hears("A")
    bench.byre("savevm", "tiny", "here")
    bench.byre("stop", "tiny", "--now", status=1)
    ended(owner)
    owner = bench.run(f"{image}@here", serial=False)  # the state has a serial port, this machine has none
    bench.byre("stop", "tiny", "--now", status=1)
    status, _, notices = ended(owner)
    assert status == 0 and "'serial'" in notices and "starts cold" in notices
    assert not processes_below(bench.folder)


def processes_below(folder: Path) -> list[str]:
    """QEMUs that still run with something of this folder on their command lines."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes()
        except OSError:
            continue
        if b"qemu-system" in words and str(folder).encode() in words:
            found.append(each.parent.name)
    return found

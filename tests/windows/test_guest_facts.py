"""Facts of a guest from small hives and texts, and what happens where one of them is bad."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from builders import xp
from builders.hive import Node, build_hive, expand_sz
from byre.errors import CorruptImageError, MissingError
from byre.filesystems.base import Entry, VolumeFacts
from byre.windows.accounts import read_accounts
from byre.windows.autostarts import Autostart, read_autostarts
from byre.windows.boot_ini import parse_arc, parse_boot_ini, parse_freeldr_ini
from byre.windows.guest import Guest, read_guest
from byre.windows.hives import open_hives
from byre.windows.paths import SystemPaths, command_program, command_targets, driver_path
from byre.windows.registry import Hive, open_hive
from byre.windows.roots import find_roots
from byre.windows.services import read_control_sets, read_services
from byre.windows.software import read_hotfixes, read_programs
from byre.windows.tasks import parse_job

PATHS = SystemPaths("/WINDOWS")
RUN = r"Microsoft\Windows\CurrentVersion\Run"


def hive(node: Node, name: str = "SYSTEM") -> Hive:
    return open_hive(build_hive(node, name=name), path=name)


class MemoryFiles:
    """A FileSystem over a dictionary, as far as the facts use one. Counts what is read."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.content = dict(files)
        self.read_paths: list[str] = []
        self.rows: dict[str, Entry] = {"/": self._entry("/", True)}
        for path in files:
            parts = path.split("/")[1:]
            for depth in range(1, len(parts) + 1):
                name = "/" + "/".join(parts[:depth])
                self.rows.setdefault(name.lower(), self._entry(name, depth < len(parts)))

    def _entry(self, path: str, folder: bool) -> Entry:
        size = 0 if folder else len(self.content[path])
        return Entry(path, path.rpartition("/")[2], 1, folder, size, size, 0, None, None, None, None)

    def lookup(self, path: str) -> Entry:
        row = self.rows.get(path.lower())
        if row is None:
            raise MissingError(f"has no {path}")
        return row

    def listdir(self, where: str | Entry = "/") -> list[Entry]:
        path = (where if isinstance(where, str) else where.path).lower().rstrip("/")
        if path and path not in self.rows:
            raise MissingError(f"has no {path}")
        return [row for key, row in self.rows.items() if key != "/" and key.rpartition("/")[0] == path]

    def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
        self.read_paths.append(entry.path)
        return self.content[entry.path]

    def facts(self) -> VolumeFacts:
        return VolumeFacts("ntfs", 1 << 28, 4096, 512, free=1 << 20, hibernated=False)


def guest_of(files: Mapping[str, bytes]) -> Guest:
    return read_guest(MemoryFiles(files), "/WINDOWS")  # type: ignore[arg-type]


def autostarts_of(files: Mapping[str, bytes]) -> tuple[Autostart, ...]:
    memory = MemoryFiles(files)
    hives = open_hives(memory, "/WINDOWS")  # type: ignore[arg-type]
    system = hives.get("SYSTEM")
    control = system.key("ControlSet001") if system else None
    return read_autostarts(memory, hives, control, PATHS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (r"C:\WINDOWS\x.exe", "/WINDOWS/x.exe"),
        (r"\SystemRoot\System32\a.sys", "/WINDOWS/System32/a.sys"),
        (r"system32\drivers\a.sys", "/WINDOWS/system32/drivers/a.sys"),
        (r"%SystemRoot%\system32\a.exe", "/WINDOWS/system32/a.exe"),
        (r"\??\C:\a.sys", "/a.sys"),
        (r"\\?\C:\a.sys", "/a.sys"),
        ('"C:/mixed\\up.exe"', "/mixed/up.exe"),
        (r"D:\other.exe", None),
        (r"\\server\share\x.exe", None),
        (r"C:\..\x.exe", None),
        ("plain.exe", None),
        (r"%NoSuch%\x.exe", None),
        ("", None),
    ],
)
def test_a_path_in_the_registry_leads_to_a_guest_path(text: str, path: str | None) -> None:
    assert PATHS.resolve(text) == path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (r"D:\other.exe", "D:/other.exe"),
        (r"\??\d:\Some Folder\x.sys", "D:/Some Folder/x.sys"),
        (r"E:\windows\x.exe", "/windows/x.exe"),
        (r"%SystemDrive%\x.exe", "/x.exe"),
        (r"%SystemRoot%\x.exe", "/WINDOWS/x.exe"),
        (r"%ProgramFiles%\x.exe", "D:/Programs/x.exe"),
        (r"%CommonProgramFiles%\x.exe", "/Program Files/Common Files/x.exe"),
        (r"C:\x.exe", None),
        (r"D:\..\x.exe", None),
        ("D:", "D:/"),
    ],
)
def test_a_path_on_another_drive_keeps_its_letter(text: str, path: str | None) -> None:
    paths = SystemPaths("/WINDOWS", "E", frozenset("D"), programs="D:/Programs")
    assert paths.resolve(text) == path


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (r'"C:\Program Files\a b.exe" /s', r"C:\Program Files\a b.exe"),
        (r"C:\Program Files\a b.exe /s", r"C:\Program Files\a b.exe"),
        (r"C:\dir.exe.old\run.exe -k", r"C:\dir.exe.old\run.exe"),
        (r"C:\Program Files\a - b\c.exe -x", r"C:\Program Files\a - b\c.exe"),
        ("rundll32.exe\tx.dll,Go", "rundll32.exe"),
        ("svchost -k netsvcs", "svchost"),
        ("", ""),
    ],
)
def test_the_program_of_a_command_line(command: str, program: str) -> None:
    assert command_program(command) == program


def test_rundll32_runs_its_dll() -> None:
    assert command_targets(r'rundll32.exe "C:\a b.dll",Start /x') == ("rundll32.exe", r"C:\a b.dll")
    assert command_targets(r"regsvr32 /s C:\x.ocx") == ("regsvr32", r"C:\x.ocx")


def test_a_driver_without_a_path_lies_where_the_kernel_looks() -> None:
    assert driver_path("atapi", None, PATHS) == "/WINDOWS/system32/drivers/atapi.sys"
    assert driver_path("x", r"drivers\x.sys", PATHS) == "/WINDOWS/drivers/x.sys"
    assert driver_path("x", r"D:\x.sys", PATHS) is None
    assert driver_path("x", r"\\server\x.sys", PATHS) is None


def test_boot_ini_names_the_entry_that_starts() -> None:
    ini = parse_boot_ini(
        b"[boot loader]\r\ntimeout=5\r\ndefault=multi(0)disk(0)rdisk(0)partition(2)\\WINNT\r\n"
        b'[operating systems]\r\nC:\\="Windows 98"\r\n; comment=1\r\n'
        b'multi(0)disk(0)rdisk(0)partition(2)\\WINNT="Two" /fastdetect /noexecute=optin\r\n\x1a'
    )
    assert ini.timeout == 5
    assert ini.chosen is not None
    assert ini.chosen.title == "Two"
    assert ini.chosen.switch("NOEXECUTE") == "optin"
    assert ini.chosen.switch("fastdetect") == ""
    assert ini.chosen.switch("debug") is None
    assert ini.entries[0].arc is None
    arc = parse_arc(ini.chosen.path)
    assert arc is not None
    assert (arc.partition, arc.folder) == (2, "\\WINNT")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"[" * 1000, b"=\n" * 1000, bytes(range(256))])
def test_any_bytes_are_some_boot_ini(data: bytes) -> None:
    assert parse_boot_ini(data).timeout is None
    assert parse_freeldr_ini(data).default is None


def job(*texts: str) -> bytes:
    body = b"".join(struct.pack("<H", len(t) + 1) + (t + "\0").encode("utf-16-le") for t in texts)
    head = bytearray(70)
    struct.pack_into("<H", head, 2, 1)
    struct.pack_into("<H", head, 20, 70)
    return bytes(head) + body


def test_a_task_file_says_what_runs() -> None:
    task = parse_job(job(r"C:\x.exe", "/a", "C:\\", "operator", "note"), path="x.job")
    assert (task.program, task.parameters, task.user, task.comment) == (r"C:\x.exe", "/a", "operator", "note")


def test_a_cut_task_file_is_an_error_wherever_it_is_cut() -> None:
    whole = job(r"C:\x.exe", "/a", "C:\\", "operator", "note")
    for length in range(len(whole)):
        with pytest.raises(CorruptImageError):
            parse_job(whole[:length], path="x.job")


def test_the_default_of_freeldr_names_one_of_its_systems() -> None:
    text = b"[FREELOADER]\nDefaultOS=ReactOS\nTimeOut=5\n[ReactOS]\nBootType=Windows2003\nSystemPath=x\n"
    ini = parse_freeldr_ini(text)
    assert ini.default in ini.systems and ini.timeout == 5


def test_an_xml_task_starts_by_itself_with_its_passwords_hidden() -> None:
    task = (
        b"<Task><RegistrationInfo><Author>me</Author></RegistrationInfo><Triggers><LogonTrigger/></Triggers><Actions>"
        rb"<Exec><Command>%windir%\gone.exe</Command><Arguments>/password:x1y2</Arguments></Exec></Actions></Task>"
    )
    folder = "/WINDOWS/system32/Tasks/Vendor"
    off = task.replace(b"<Actions>", b"<Settings><Enabled>false</Enabled></Settings><Actions>")
    files = {**xp.clean_files(), f"{folder}/Updater": task, f"{folder}/Off": off, f"{folder}/Broken": b"<Task>"}
    rows = {row.name: row for row in autostarts_of(files) if row.kind == "task" and row.location == folder}
    assert rows["Updater"].command == r"%windir%\gone.exe /password:(hidden)"
    assert rows["Updater"].missing == ("/WINDOWS/gone.exe",)
    assert (rows["Updater"].author, rows["Updater"].triggers, rows["Updater"].enabled) == ("me", ("Logon",), True)
    assert (rows["Off"].enabled, rows["Off"].missing) == (False, ())
    assert "can't be read" in rows["Broken"].command


def test_control_sets_and_services() -> None:
    system = hive(xp.system_hive())
    sets = read_control_sets(system)
    assert sets is not None
    assert (sets.next_boot, sets.last_known_good) == ("ControlSet001", 2)
    control = system.key("ControlSet001")
    assert control is not None
    services = {service.name: service for service in read_services(control, PATHS)}
    assert services["atapi"].start_name == "boot"
    assert services["atapi"].is_driver
    assert services["wscsvc"].service_dll == "/WINDOWS/System32/wscsvc.dll"
    assert read_control_sets(hive(Node())) is None


def test_a_password_in_the_command_of_a_service_is_hidden() -> None:
    root = xp.system_hive()
    root.at(r"ControlSet001\Services\agent").values = {
        "Type": 16,
        "Start": 2,
        "ImagePath": r"C:\agent.exe -url https://joe:x1y2@host/?token=x1y2 -password x1y2",
    }
    control = hive(root).key("ControlSet001")
    assert control is not None
    (agent,) = (each for each in read_services(control, PATHS) if each.name == "agent")
    assert agent.file == "/agent.exe"
    assert agent.image_path == r"C:\agent.exe -url https://(hidden)@host/?(hidden) -password (hidden)"


def test_accounts_tell_administrators_and_blank_passwords() -> None:
    accounts = {a.name: a for a in read_accounts(hive(xp.sam_hive((("a", 500, True), ("g", 501, False)))))}
    assert accounts["a"].administrator is True
    assert accounts["a"].blank_password is False
    assert accounts["g"].blank_password is True
    assert accounts["g"].disabled is True
    assert read_accounts(hive(Node())) == ()


def test_a_domain_user_of_the_same_rid_is_no_local_administrator() -> None:
    root = xp.sam_hive((("a", 500, True), ("b", 1003, True)))
    root.at(r"SAM\Domains\Account").values = {"V": bytes(40) + struct.pack("<3I", 9, 9, 9)}
    accounts = read_accounts(hive(root))
    assert [account.administrator for account in accounts] == [False, False]
    root.at(r"SAM\Domains\Account").values = {"V": bytes(40) + struct.pack("<3I", 1, 2, 3)}
    assert all(account.administrator for account in read_accounts(hive(root)))


def test_an_account_that_cannot_be_read_is_reported() -> None:
    root = xp.sam_hive((("a", 500, True),))
    root.at(r"SAM\Domains\Account\Users\000001F4").values = {"F": b"short", "V": b"short"}
    sam = hive(root)
    assert read_accounts(sam) == ()
    assert "000001F4" in sam.problems[0].what


def test_programs_and_hotfixes() -> None:
    root = xp.software_hive()
    uninstall = root.at(r"Microsoft\Windows\CurrentVersion\Uninstall")
    uninstall.at("bad date").values = {"DisplayName": "Bad", "InstallDate": "20081399"}
    uninstall.at("american").values = {"DisplayName": "American", "InstallDate": "4/15/2008"}
    uninstall.at("KB123456").values = {"DisplayName": "An update"}
    software = hive(root, "SOFTWARE")
    assert [(program.name, program.installed) for program in read_programs(software)] == [
        ("American", "2008-04-15"),
        ("Bad", None),
        ("Instrument Control", "2008-05-01"),
    ]
    assert [hotfix.id for hotfix in read_hotfixes(software)] == ["KB958644"]


def test_autostarts_of_the_infected_state_name_files_that_are_missing() -> None:
    rows = autostarts_of({**xp.clean_files(), **xp.infected_files()})
    userinit = next(row for row in rows if row.name == "Userinit")
    assert "/WINDOWS/system32/userinit.exe" in userinit.files
    assert any(row.kind == "image-debugger" and row.name == "taskmgr.exe" for row in rows)
    assert not any(row.name == "DllDirectory" for row in rows)
    assert all(r"SYSTEM\CurrentControlSet" in row.location for row in rows if row.kind == "boot-execute")


def test_every_dll_of_appinit_counts() -> None:
    files = xp.clean_files()
    root = xp.software_hive()
    root.at(r"Microsoft\Windows NT\CurrentVersion\Windows").values = {"AppInit_DLLs": "version.dll,evil.dll"}
    files["/WINDOWS/system32/config/SOFTWARE"] = build_hive(root, name="SOFTWARE")
    row = next(row for row in autostarts_of(files) if row.kind == "appinit")
    assert row.files == ("/WINDOWS/system32/version.dll",)
    assert row.missing == ("/WINDOWS/system32/evil.dll",)


def test_a_users_own_exe_handler_is_an_autostart() -> None:
    files = xp.clean_files()
    root = xp.user_hive()
    root.at(r"Software\Classes\exefile\shell\open\command").values = {"": r'C:\bad.exe "%1"'}
    files["/Documents and Settings/operator/NTUSER.DAT"] = build_hive(root, name="ntuser.dat")
    row = next(row for row in autostarts_of(files) if row.kind == "exe-open" and row.user == "operator")
    assert row.missing == ("/bad.exe",)


def test_one_bad_user_hive_hides_nothing_else() -> None:
    files = xp.clean_files()
    path = "/Documents and Settings/operator/NTUSER.DAT"
    broken = bytearray(files[path])
    broken[4096 + 32 :] = bytes(len(broken) - 4096 - 32)
    files[path] = bytes(broken)
    guest = guest_of(files)
    assert guest.autostarts.is_known
    assert any("ctfmon" in row.command for row in guest.autostarts.value or ())
    assert any(path in problem for problem in guest.problems)


@pytest.mark.parametrize("name", ["SYSTEM", "SOFTWARE", "SAM", "SECURITY"])
@pytest.mark.parametrize("content", [b"", b"regf", bytes(8192)])
def test_a_hive_that_is_no_hive_makes_facts_unknown_not_fine(name: str, content: bytes) -> None:
    files = xp.clean_files()
    files[f"/WINDOWS/system32/config/{name}"] = content
    guest = guest_of(files)
    assert any(problem.startswith(name) for problem in guest.problems)
    affected = {"SYSTEM": guest.services, "SOFTWARE": guest.product, "SAM": guest.users}.get(name)
    assert affected is None or affected.state == "unknown"


def test_a_sam_without_a_root_leaves_the_hashes_unknown() -> None:
    files = xp.clean_files()
    path = "/WINDOWS/system32/config/SAM"
    files[path] = files[path][: 4096 + 32] + bytes(len(files[path]) - 4096 - 32)
    guest = guest_of(files)
    assert guest.users.state == "unknown"
    assert guest.secrets.password_hashes is None
    assert guest.product.is_known


def test_logs_of_a_clean_hive_are_not_read() -> None:
    memory = MemoryFiles({**xp.clean_files(), "/WINDOWS/system32/config/SYSTEM.LOG": bytes(1024)})
    read_guest(memory, "/WINDOWS")  # type: ignore[arg-type]
    assert "/WINDOWS/system32/config/SYSTEM.LOG" not in memory.read_paths


def test_roots_are_found_by_name_and_by_boot_ini() -> None:
    files = {f"/XPHOME{path[8:]}": data for path, data in xp.clean_files().items() if path.startswith("/WINDOWS/")}
    files["/boot.ini"] = b'[operating systems]\r\nmulti(0)disk(0)rdisk(0)partition(1)\\XPHOME="x"\r\n'
    assert find_roots(MemoryFiles(files)) == ("/XPHOME",)  # type: ignore[arg-type]
    assert find_roots(MemoryFiles(xp.clean_files())) == ("/WINDOWS",)  # type: ignore[arg-type]


def test_an_image_path_in_expand_sz_is_expanded() -> None:
    root = Node()
    root.at(r"Services\x").values = {"Type": 16, "Start": 2, "ImagePath": expand_sz(r'"%SystemDrive%\a b\x.exe" -s')}
    (service,) = read_services(hive(root).root, PATHS)
    assert service.file == "/a b/x.exe"

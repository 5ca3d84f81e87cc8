"""Signs of intruders for the mutation suite: inert, one at a time, and the oddities that healthy systems have."""

from __future__ import annotations

import random
from dataclasses import replace

from builders import xp
from builders.audited import Plant, first_volume
from builders.defects import SERVICES, WINLOGON, value
from builders.hive import Node, expand_sz
from builders.mutations import Mutation, mutation
from builders.pe import PeSpec, build_pe
from byre.audit.facts import BootSector, Facts, MasterBootRecord
from byre.volumes.boot_code import recognise_master, recognise_volume
from byre.windows.fact import known

S32, DRV = xp.SYSTEM32, xp.DRIVERS
CONTROL = r"ControlSet001\Control"
MANAGER = rf"{CONTROL}\Session Manager"
NT = r"Microsoft\Windows NT\CurrentVersion"
CURRENT = r"Microsoft\Windows\CurrentVersion"
FIREWALL = rf"{SERVICES}\SharedAccess\Parameters\FirewallPolicy\StandardProfile"
IFEO = rf"{NT}\Image File Execution Options"
CLSID = "{01234567-89AB-CDEF-0123-456789ABCDEF}"


def program(name: str, *, company: str = "Somebody", original: str | None = None, packed: bool = False) -> bytes:
    data = build_pe(
        PeSpec(
            name=name,
            dll=name.endswith(".dll"),
            imports={"KERNEL32.dll": ["ExitProcess"]},
            strings={"CompanyName": company, "OriginalFilename": original or name},
            padding=65_536 if packed else 0,
        )
    )
    if not packed:
        return data
    noise = random.Random(1).randbytes(60_000)
    at = len(data) - 62_000
    return data[:at] + noise + data[at + len(noise) :]


TOOL = program("tool.exe")
MUTATIONS: list[Mutation] = []


def add(name: str, plant: Plant, fires: str = "", notes: str = "") -> None:
    MUTATIONS.append(mutation(f"clean: {name}", plant, fires, None, notes))


def winlogon(name: str, text: str, *, path: str | None = None) -> Plant:
    return Plant(software=value(WINLOGON, name, text), write={path: TOOL} if path else {})


def service(name: str, image: str, *, dll: str | None = None, start: int = 2) -> Node:
    kind = 0x20 if dll else 0x10
    node = Node(values={"Type": kind, "Start": start, "ErrorControl": 1, "ImagePath": expand_sz(image)})
    if dll:
        node.at("Parameters").values = {"ServiceDll": expand_sz(dll)}
    return node


def with_service(name: str, made: Node) -> object:
    return lambda root: root.at(SERVICES).keys.update({name: made})


def both(*changes: object) -> object:
    return lambda root: [change(root) for change in changes]  # type: ignore[operator]


def master(code: bytes) -> object:
    sector = code.ljust(510, b"\0") + b"\x55\xaa"
    return lambda facts: replace(facts, mbr=known(MasterBootRecord(True, True, recognise_master(sector))))


def volume_code(code: bytes) -> object:
    sector = (b"\xeb\x52\x90NTFS    ".ljust(0x54, b"\0") + code).ljust(510, b"\0") + b"\x55\xaa"
    return first_volume(boot=known(BootSector(True, True, 63, 255, 63, recognise_volume(sector))))


def hosts(*lines: str) -> Plant:
    text = "\r\n".join(("127.0.0.1 localhost", *lines)).encode()
    return Plant(write={f"{DRV}/etc/hosts": text})


def run(command: str, **files: bytes) -> Plant:
    return Plant(software=value(rf"{CURRENT}\Run", "x", command), write=files)


def lsp(path: str) -> object:
    where = rf"{SERVICES}\WinSock2\Parameters\Protocol_Catalog9\Catalog_Entries\000000000001"
    return value(where, "PackedCatalogItem", path.encode().ljust(260, b"\0") + bytes(372))


def stream(facts: Facts) -> Facts:
    programs = facts.programs.value or ()
    made = replace(programs[0], path="/WINDOWS/win.ini:x.exe", stream=True)
    return replace(facts, programs=known((*programs, made)))


# Logon and what is loaded everywhere
add(
    "another program in Userinit",
    winlogon("Userinit", r"C:\WINDOWS\system32\userinit.exe,C:\tool.exe", path="/tool.exe"),
    "CLEAN-001",
)
add("a second shell", winlogon("Shell", r"Explorer.exe, C:\tool.exe", path="/tool.exe"), "CLEAN-001")
add("Taskman set", winlogon("Taskman", r"C:\WINDOWS\tool.exe", path="/WINDOWS/tool.exe"), "CLEAN-001")
add("System set", winlogon("System", r"tool.exe", path=f"{S32}/tool.exe"), "CLEAN-001")
add(
    "a user's own shell",
    Plant(user=value(rf"Software\{WINLOGON}", "Shell", r"C:\tool.exe"), write={"/tool.exe": TOOL}),
    "CLEAN-001",
)
add(
    "the keyboard helper is debugged", Plant(software=value(rf"{IFEO}\sethc.exe", "Debugger", "cmd.exe")), "CLEAN-002"
)
add(
    "a library in every program",
    Plant(
        software=value(rf"{NT}\Windows", "AppInit_DLLs", "hook.dll"), write={f"{S32}/hook.dll": program("hook.dll")}
    ),
    "CLEAN-003",
)
add(
    "AppCertDlls",
    Plant(
        system=value(rf"{MANAGER}\AppCertDlls", "x", r"C:\WINDOWS\system32\hook.dll"),
        write={f"{S32}/hook.dll": program("hook.dll")},
    ),
    "CLEAN-003",
)
add(
    "a native program before the disk check",
    Plant(system=value(MANAGER, "BootExecute", ["early", "autocheck autochk *"]), write={f"{S32}/early.exe": TOOL}),
    "CLEAN-004",
)
add(
    "a password filter",
    Plant(
        system=value(rf"{CONTROL}\Lsa", "Notification Packages", ["scecli", "pwfilt"]),
        write={f"{S32}/pwfilt.dll": program("pwfilt.dll")},
    ),
    "CLEAN-005",
)
add(
    "a security provider",
    Plant(system=value(rf"{CONTROL}\SecurityProviders", "SecurityProviders", "schannel.dll, mimi.dll")),
    "CLEAN-005",
)
add(
    "a layered Winsock provider",
    Plant(system=lsp(r"C:\Lsp\lsp.dll"), write={"/Lsp/lsp.dll": program("lsp.dll")}),
    notes="CLEAN-006",
)
add(
    "a print monitor",
    Plant(
        system=value(rf"{CONTROL}\Print\Monitors\Odd", "Driver", "oddmon.dll"),
        write={f"{S32}/oddmon.dll": program("oddmon.dll")},
    ),
    notes="CLEAN-006",
)
add(
    "a filter of the keyboard",
    Plant(
        system=value(
            rf"{CONTROL}\Class\{{4D36E96B-E325-11CE-BFC1-08002BE10318}}", "UpperFilters", ["kbdclass", "keylog"]
        )
    ),
    "CLEAN-007",
)
# What opens programs
add(
    "programs opened by another",
    Plant(
        software=value(r"Classes\exefile\shell\open\command", "", r'C:\tool.exe "%1" %*'), write={"/tool.exe": TOOL}
    ),
    "CLEAN-008",
)
add("AutoRun of the prompt", Plant(software=value(r"Microsoft\Command Processor", "AutoRun", "cmd.exe")), "CLEAN-008")
add(
    "another shell in safe mode",
    Plant(system=value(rf"{CONTROL}\SafeBoot", "AlternateShell", "tool.exe"), write={f"{S32}/tool.exe": TOOL}),
    "CLEAN-008",
)
add(
    "KnownDLLs from elsewhere",
    Plant(system=value(rf"{MANAGER}\KnownDLLs", "DllDirectory", expand_sz(r"%SystemRoot%\lib"))),
    "CLEAN-009",
)
add(
    "a server library in csrss",
    Plant(
        system=value(
            rf"{MANAGER}\SubSystems", "Posix", expand_sz(r"%SystemRoot%\system32\psxss.exe ServerDll=consrv:X,4")
        )
    ),
    "CLEAN-009",
)
# Places and names
add("a Run entry in Temp", run(r"C:\WINDOWS\Temp\a.exe", **{"/WINDOWS/Temp/a.exe": TOOL}), "CLEAN-010")
add("a Run entry in the recycle bin", run(r"C:\RECYCLER\a.exe", **{"/RECYCLER/a.exe": TOOL}), "CLEAN-010")
add("a Run entry in Fonts", run(r"C:\WINDOWS\Fonts\a.exe", **{"/WINDOWS/Fonts/a.exe": TOOL}), "CLEAN-010")
add(
    "a service in Temp",
    Plant(system=with_service("odd", service("odd", r"C:\WINDOWS\Temp\a.exe")), write={"/WINDOWS/Temp/a.exe": TOOL}),  # type: ignore[arg-type]
    "CLEAN-010",
)
add("a document that is a program", Plant(write={f"{xp.PROFILE}/operator/Desktop/bill.doc.exe": TOOL}), "CLEAN-011")
add("svchost elsewhere", Plant(write={"/WINDOWS/svchost.exe": TOOL}), "CLEAN-011")
add("a name like lsass", Plant(write={f"{S32}/1sass.exe": TOOL}), "CLEAN-011")
add(
    "a notification package",
    Plant(
        software=value(rf"{WINLOGON}\Notify\odd", "DLLName", "odd.dll"), write={f"{S32}/odd.dll": program("odd.dll")}
    ),
    "CLEAN-012",
)
add(
    "a browser helper",
    Plant(
        software=both(  # type: ignore[arg-type]
            lambda root: root.at(rf"{CURRENT}\Explorer\Browser Helper Objects\{CLSID}"),
            value(rf"Classes\CLSID\{CLSID}\InprocServer32", "", r"C:\Bar\bar.dll"),
        ),
        write={"/Bar/bar.dll": program("bar.dll")},
    ),
    notes="CLEAN-012",
)
add(
    "a service's library elsewhere",
    Plant(
        system=with_service(
            "odd", service("odd", r"%SystemRoot%\system32\svchost.exe -k netsvcs", dll=r"C:\Odd\odd.dll")
        ),  # type: ignore[arg-type]
        write={"/Odd/odd.dll": program("odd.dll")},
    ),
    "CLEAN-013",
)
add("a packed Run entry", run(r"C:\Odd\a.exe", **{"/Odd/a.exe": program("a.exe", packed=True)}), "CLEAN-014")
add("a Run entry whose file is gone", run(r"C:\Odd\gone.exe"), notes="CLEAN-015")
add("a program in a stream", Plant(facts=stream), "CLEAN-016")
add(
    "the prompt as keyboard helper",
    Plant(write={f"{S32}/sethc.exe": program("sethc.exe", company=xp.COMPANY, original="cmd.exe")}),
    "CLEAN-017 CLEAN-101",
)
add(
    "explorer of another maker",
    Plant(
        edit={
            "/WINDOWS/explorer.exe": lambda data: data.replace(
                xp.COMPANY.encode("utf-16-le"), "Byre strangers".encode("utf-16-le")[: 2 * len(xp.COMPANY)]
            )
        }
    ),
    "CLEAN-017 CLEAN-103",
)
# Settings
add("updates cut off by hosts", hosts("127.0.0.1 update.example.com"), "CLEAN-018")
add("a bank sent elsewhere", hosts("203.0.113.7 bank.example.com"), notes="CLEAN-018")
add(
    "another hosts file",
    Plant(system=value(rf"{SERVICES}\Tcpip\Parameters", "DataBasePath", expand_sz(r"%SystemRoot%\help"))),
    "CLEAN-019",
)
add(
    "a proxy on this machine",
    Plant(
        user=lambda root: root.at(rf"Software\{CURRENT}\Internet Settings").values.update(
            {"ProxyEnable": 1, "ProxyServer": "127.0.0.1:8080"}
        )
    ),
    "CLEAN-020",
)
add(
    "a root certificate",
    Plant(software=value(rf"Microsoft\SystemCertificates\Root\Certificates\{'AB' * 20}", "Blob", b"\0" * 40)),
    notes="CLEAN-021",
)
ACCOUNTS = (("Administrator", 500, True), ("Guest", 501, False), ("operator", 1003, True))
add(
    "an administrator with a $",
    Plant(sam=(*ACCOUNTS, ("support$", 1004, True)), administrators=(500, 1003, 1004)),
    "CLEAN-022",
)
add(
    "a hidden administrator",
    Plant(software=value(rf"{WINLOGON}\SpecialAccounts\UserList", "operator", 0)),
    "CLEAN-022",
)
add(
    "no password over the network",
    Plant(
        sam=(*ACCOUNTS[:2], ("operator", 1003, False)), system=value(rf"{CONTROL}\Lsa", "limitblankpassworduse", 0)
    ),
    "CLEAN-023",
)
add("file protection off", Plant(software=value(WINLOGON, "SFCDisable", 0xFFFFFF9D)), "CLEAN-024")
add(
    "firewall off and remote desktop on",
    Plant(
        system=both(
            value(FIREWALL, "EnableFirewall", 0), value(rf"{CONTROL}\Terminal Server", "fDenyTSConnections", 0)
        )
    ),  # type: ignore[arg-type]
    "CLEAN-025 CLEAN-027",
)
add(
    "a hole in the firewall for a program in Temp",
    Plant(
        system=value(
            rf"{FIREWALL}\AuthorizedApplications\List", r"C:\WINDOWS\Temp\a.exe", r"C:\WINDOWS\Temp\a.exe:*:Enabled:a"
        )
    ),
    "CLEAN-025",
)
add("updates off", Plant(system=value(rf"{SERVICES}\wuauserv", "Start", 4)), notes="CLEAN-026")
add(
    "a program for remote control",
    Plant(
        system=with_service("winvnc", service("winvnc", r"C:\VNC\winvnc.exe")),  # type: ignore[arg-type]
        write={"/VNC/winvnc.exe": TOOL},
    ),
    notes="CLEAN-027",
)
add("unknown code in the MBR", Plant(facts=master(b"\xfa\x33\xc0" + bytes(range(200)))), "CLEAN-028")  # type: ignore[arg-type]
add("a hook in the MBR", Plant(facts=master(b"\xfa\x33\xc0\x83\x2e\x13\x04\x02" + bytes(range(99)))), "CLEAN-028")  # type: ignore[arg-type]
add("unknown code in the boot sector", Plant(facts=volume_code(bytes(range(1, 200)))), "CLEAN-028")  # type: ignore[arg-type]
add("autorun.inf", Plant(write={"/autorun.inf": b"[autorun]\r\nopen=a.exe\r\n"}), "CLEAN-029")
add(
    "a system file about to be replaced",
    Plant(
        system=value(
            MANAGER,
            "PendingFileRenameOperations",
            [r"\??\C:\WINDOWS\Temp\x.tmp", r"!\??\C:\WINDOWS\system32\kernel32.dll"],
        )
    ),
    "CLEAN-030",
)

HEALTHY: dict[str, Plant] = {
    "Windows XP's own example of a debugger": Plant(
        software=value(rf"{IFEO}\Your Image File Name Here without a path", "Debugger", "ntsd -d")
    ),
    "print monitors of a clean installation": Plant(
        system=lambda root: [
            root.at(rf"{CONTROL}\Print\Monitors\{name}").values.update({"Driver": file})
            for name, file in (
                ("BJ Language Monitor", "cnbjmon.dll"),
                ("PJL Language Monitor", "pjlmon.dll"),
                ("Standard TCP/IP Port", "tcpmon.dll"),
                ("USB Monitor", "usbmon.dll"),
            )
        ]
    ),
    "the firewall's own exceptions": Plant(
        system=lambda root: root.at(rf"{FIREWALL}\AuthorizedApplications\List").values.update(
            {r"%windir%\system32\sessmgr.exe": r"%windir%\system32\sessmgr.exe:*:enabled:@xpsp2res.dll,-22019"}
        )
    ),
    "copies that Windows keeps": Plant(
        write={f"{S32}/dllcache/svchost.exe": TOOL, "/WINDOWS/ServicePackFiles/i386/lsass.exe": TOOL}
    ),
    "hosts against advertisements": hosts("127.0.0.1 ads.example.com", "0.0.0.0 tracker.example.com"),
    "accounts that Windows hides itself": Plant(
        software=lambda root: root.at(rf"{WINLOGON}\SpecialAccounts\UserList").values.update({"HelpAssistant": 0})
    ),
    "a label on the drive": Plant(write={"/autorun.inf": b"[autorun]\r\nlabel=Data\r\nicon=x.ico\r\n"}),
    "Winsock as installed": Plant(system=lsp(r"%SystemRoot%\system32\mswsock.dll")),
    "two disk checks": Plant(
        system=value(MANAGER, "BootExecute", ["autocheck autochk /r \\??\\C:", "autocheck autochk *"])
    ),
    "a packed program that doesn't start by itself": Plant(write={"/Games/g.exe": program("g.exe", packed=True)}),
}

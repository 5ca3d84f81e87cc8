"""A guest laid out like Windows XP: synthetic hives and small PE files, every byte of our own making.

``clean_files()`` is a system on which nothing is wrong; ``infected_files()`` what a later, tampered state adds and
changes, with inert content only. The import graph is closed: every imported name is exported by a file that is
there, so that a check of the import closure has something true to find.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from builders.hive import Node, build_hive, expand_sz
from builders.pe import PeSpec, build_pe

ROOT = "/WINDOWS"
SYSTEM32 = f"{ROOT}/system32"
DRIVERS = f"{SYSTEM32}/drivers"
DISK_SIGNATURE = 0xB47E0001
PARTITION_START = 63 * 512
COMPANY = "Byre specimen"
INSTALL_DATE = 1_208_260_800  # 2008-04-15
PROFILE = "/Documents and Settings"

# name: (subsystem, is a DLL, {DLL: names}); what a file exports follows from what the others import of it.
_NATIVE, _GUI, _CONSOLE = 1, 2, 3
_SYSTEM32_FILES: dict[str, tuple[int, bool, dict[str, tuple[str, ...]]]] = {
    "ntoskrnl.exe": (
        _NATIVE,
        False,
        {"HAL.dll": ("HalInitSystem",), "BOOTVID.dll": ("VidInitialize",), "KDCOM.dll": ("KdDebuggerInitialize0",)},
    ),
    "hal.dll": (_NATIVE, True, {"ntoskrnl.exe": ("KeBugCheckEx", "KiBugCheckData"), "KDCOM.dll": ("KdRestore",)}),
    "kdcom.dll": (_NATIVE, True, {"ntoskrnl.exe": ("KeBugCheckEx",), "HAL.dll": ("HalQueryRealTimeClock",)}),
    "bootvid.dll": (_NATIVE, True, {"ntoskrnl.exe": ("KeBugCheckEx",), "HAL.dll": ("READ_PORT_UCHAR",)}),
    "ntdll.dll": (_CONSOLE, True, {}),
    "smss.exe": (_NATIVE, False, {"ntdll.dll": ("NtCreateSection", "RtlAllocateHeap")}),
    "autochk.exe": (_NATIVE, False, {"ntdll.dll": ("NtOpenFile", "RtlAllocateHeap")}),
    "csrss.exe": (_NATIVE, False, {"ntdll.dll": ("NtTerminateProcess",), "CSRSRV.dll": ("CsrServerInitialization",)}),
    "csrsrv.dll": (_NATIVE, True, {"ntdll.dll": ("NtCreatePort", "RtlAllocateHeap")}),
    "basesrv.dll": (_NATIVE, True, {"ntdll.dll": ("RtlAllocateHeap",), "CSRSRV.dll": ("CsrReferenceThread",)}),
    "winsrv.dll": (
        _NATIVE,
        True,
        {
            "ntdll.dll": ("RtlAllocateHeap",),
            "CSRSRV.dll": ("CsrReferenceThread",),
            "USER32.dll": ("RegisterClassW",),
            "GDI32.dll": ("GetStockObject",),
            "KERNEL32.dll": ("CloseHandle",),
        },
    ),
    "win32k.sys": (
        _NATIVE,
        True,
        {
            "ntoskrnl.exe": ("KeBugCheckEx", "ExAllocatePool"),
            "HAL.dll": ("HalQueryRealTimeClock",),
            "watchdog.sys": ("WdAllocateWatchdog",),
            "dxgthk.sys": ("EngAllocMem",),
        },
    ),
    "watchdog.sys": (_NATIVE, True, {"ntoskrnl.exe": ("ExAllocatePool",)}),
    "kernel32.dll": (_CONSOLE, True, {"ntdll.dll": ("NtCreateFile", "RtlAllocateHeap", "LdrLoadDll")}),
    "gdi32.dll": (
        _GUI,
        True,
        {
            "ntdll.dll": ("RtlAllocateHeap",),
            "KERNEL32.dll": ("CloseHandle", "LoadLibraryW"),
            "USER32.dll": ("RegisterClassW",),
        },
    ),
    "user32.dll": (
        _GUI,
        True,
        {
            "ntdll.dll": ("RtlAllocateHeap",),
            "KERNEL32.dll": ("CloseHandle", "LoadLibraryW"),
            "GDI32.dll": ("GetStockObject",),
        },
    ),
    "advapi32.dll": (
        _CONSOLE,
        True,
        {"ntdll.dll": ("NtOpenKey",), "KERNEL32.dll": ("CloseHandle",), "RPCRT4.dll": ("RpcStringFreeW",)},
    ),
    "rpcrt4.dll": (
        _CONSOLE,
        True,
        {"ntdll.dll": ("NtCreatePort",), "KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("RegOpenKeyExW",)},
    ),
    "msvcrt.dll": (_CONSOLE, True, {"ntdll.dll": ("RtlAllocateHeap",), "KERNEL32.dll": ("ExitProcess",)}),
    "shlwapi.dll": (
        _GUI,
        True,
        {
            "msvcrt.dll": ("malloc",),
            "KERNEL32.dll": ("LoadLibraryW",),
            "USER32.dll": ("MessageBoxW",),
            "GDI32.dll": ("DeleteObject",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
        },
    ),
    "shell32.dll": (
        _GUI,
        True,
        {
            "msvcrt.dll": ("malloc",),
            "KERNEL32.dll": ("CreateFileW",),
            "USER32.dll": ("MessageBoxW",),
            "GDI32.dll": ("DeleteObject",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "SHLWAPI.dll": ("PathAppendW",),
            "ntdll.dll": ("RtlAllocateHeap",),
        },
    ),
    "comctl32.dll": (
        _GUI,
        True,
        {
            "KERNEL32.dll": ("CloseHandle",),
            "USER32.dll": ("RegisterClassW",),
            "GDI32.dll": ("DeleteObject",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "ntdll.dll": ("RtlAllocateHeap",),
        },
    ),
    "comdlg32.dll": (
        _GUI,
        True,
        {
            "KERNEL32.dll": ("CloseHandle",),
            "USER32.dll": ("MessageBoxW",),
            "SHELL32.dll": ("SHGetFolderPathW",),
            "SHLWAPI.dll": ("PathAppendW",),
            "COMCTL32.dll": ("InitCommonControlsEx",),
        },
    ),
    "ole32.dll": (
        _GUI,
        True,
        {
            "msvcrt.dll": ("malloc",),
            "KERNEL32.dll": ("CloseHandle",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "RPCRT4.dll": ("RpcStringFreeW",),
            "USER32.dll": ("RegisterClassW",),
            "GDI32.dll": ("DeleteObject",),
            "ntdll.dll": ("RtlAllocateHeap",),
        },
    ),
    "oleaut32.dll": (
        _GUI,
        True,
        {
            "msvcrt.dll": ("malloc",),
            "KERNEL32.dll": ("CloseHandle",),
            "ole32.dll": ("CoCreateInstance",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
        },
    ),
    "version.dll": (_GUI, True, {"KERNEL32.dll": ("CreateFileW",), "ntdll.dll": ("RtlAllocateHeap",)}),
    "wininet.dll": (
        _GUI,
        True,
        {
            "msvcrt.dll": ("malloc",),
            "KERNEL32.dll": ("CreateFileW",),
            "SHLWAPI.dll": ("PathAppendW",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
        },
    ),
    "urlmon.dll": (
        _GUI,
        True,
        {"KERNEL32.dll": ("CreateFileW",), "ole32.dll": ("CoCreateInstance",), "SHLWAPI.dll": ("PathAppendW",)},
    ),
    "ws2_32.dll": (
        _GUI,
        True,
        {
            "msvcrt.dll": ("malloc",),
            "KERNEL32.dll": ("CloseHandle",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "WS2HELP.dll": ("WahOpenHandleHelper",),
        },
    ),
    "ws2help.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "ntdll.dll": ("NtOpenFile",)}),
    "imagehlp.dll": (
        _GUI,
        True,
        {"KERNEL32.dll": ("CreateFileW",), "msvcrt.dll": ("malloc",), "ntdll.dll": ("RtlAllocateHeap",)},
    ),
    "secur32.dll": (
        _GUI,
        True,
        {"KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("RegOpenKeyExW",), "ntdll.dll": ("NtCreatePort",)},
    ),
    "crypt32.dll": (
        _GUI,
        True,
        {
            "KERNEL32.dll": ("CreateFileW",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "msvcrt.dll": ("malloc",),
            "MSASN1.dll": ("ASN1_CreateModule",),
        },
    ),
    "msasn1.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",)}),
    "setupapi.dll": (
        _GUI,
        True,
        {
            "KERNEL32.dll": ("CreateFileW",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "RPCRT4.dll": ("RpcStringFreeW",),
            "USER32.dll": ("MessageBoxW",),
            "GDI32.dll": ("DeleteObject",),
        },
    ),
    "msgina.dll": (
        _GUI,
        True,
        {
            "KERNEL32.dll": ("CloseHandle",),
            "USER32.dll": ("MessageBoxW",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "SHELL32.dll": ("SHGetFolderPathW",),
            "Secur32.dll": ("LsaLogonUser",),
        },
    ),
    "winlogon.exe": (
        _GUI,
        False,
        {
            "KERNEL32.dll": ("ExitProcess",),
            "USER32.dll": ("MessageBoxW",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "RPCRT4.dll": ("RpcStringFreeW",),
            "Secur32.dll": ("LsaLogonUser",),
            "CRYPT32.dll": ("CertOpenStore",),
            "ntdll.dll": ("NtCreateFile",),
            "msvcrt.dll": ("malloc",),
        },
    ),
    "services.exe": (
        _GUI,
        False,
        {
            "KERNEL32.dll": ("ExitProcess",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "RPCRT4.dll": ("RpcStringFreeW",),
            "ntdll.dll": ("NtCreatePort",),
        },
    ),
    "lsass.exe": (
        _GUI,
        False,
        {
            "KERNEL32.dll": ("ExitProcess",),
            "LSASRV.dll": ("LsapInitLsa",),
            "SAMSRV.dll": ("SamIInitialize",),
            "ntdll.dll": ("NtCreatePort",),
        },
    ),
    "lsasrv.dll": (
        _GUI,
        True,
        {
            "KERNEL32.dll": ("CloseHandle",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "RPCRT4.dll": ("RpcStringFreeW",),
            "SAMSRV.dll": ("SamIOpenAccount",),
            "ntdll.dll": ("NtCreatePort",),
        },
    ),
    "samsrv.dll": (
        _GUI,
        True,
        {"KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("RegOpenKeyExW",), "ntdll.dll": ("NtOpenKey",)},
    ),
    "msv1_0.dll": (
        _GUI,
        True,
        {
            "KERNEL32.dll": ("CloseHandle",),
            "ADVAPI32.dll": ("RegOpenKeyExW",),
            "Secur32.dll": ("LsaFreeReturnBuffer",),
        },
    ),
    "kerberos.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "CRYPT32.dll": ("CertOpenStore",)}),
    "schannel.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "CRYPT32.dll": ("CertOpenStore",)}),
    "wdigest.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "CRYPT32.dll": ("CertOpenStore",)}),
    "scecli.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("RegOpenKeyExW",)}),
    "userinit.exe": (
        _GUI,
        False,
        {"KERNEL32.dll": ("ExitProcess",), "USER32.dll": ("MessageBoxW",), "ADVAPI32.dll": ("RegOpenKeyExW",)},
    ),
    "logonui.exe": (
        _GUI,
        False,
        {"KERNEL32.dll": ("ExitProcess",), "USER32.dll": ("MessageBoxW",), "COMCTL32.dll": ("InitCommonControlsEx",)},
    ),
    "svchost.exe": (
        _CONSOLE,
        False,
        {
            "KERNEL32.dll": ("LoadLibraryW",),
            "ADVAPI32.dll": ("StartServiceCtrlDispatcherW",),
            "ntdll.dll": ("LdrLoadDll",),
            "RPCRT4.dll": ("RpcStringFreeW",),
        },
    ),
    "spoolsv.exe": (
        _GUI,
        False,
        {
            "KERNEL32.dll": ("ExitProcess",),
            "ADVAPI32.dll": ("StartServiceCtrlDispatcherW",),
            "SPOOLSS.dll": ("InitializeRouter",),
        },
    ),
    "spoolss.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",)}),
    "localspl.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "SPOOLSS.dll": ("OpenPrinterW",)}),
    "rpcss.dll": (
        _GUI,
        True,
        {"KERNEL32.dll": ("CloseHandle",), "RPCRT4.dll": ("RpcStringFreeW",), "WS2_32.dll": ("WSAStartup",)},
    ),
    "dhcpcsvc.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "WS2_32.dll": ("WSAStartup",)}),
    "wkssvc.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("StartServiceCtrlDispatcherW",)}),
    "srvsvc.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("StartServiceCtrlDispatcherW",)}),
    "shsvcs.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "SHELL32.dll": ("SHGetFolderPathW",)}),
    "wscsvc.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("RegOpenKeyExW",)}),
    "ipnathlp.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "WS2_32.dll": ("WSAStartup",)}),
    "wuauserv.dll": (_GUI, True, {"KERNEL32.dll": ("CloseHandle",), "ADVAPI32.dll": ("RegOpenKeyExW",)}),
    "cmd.exe": (
        _CONSOLE,
        False,
        {"KERNEL32.dll": ("ExitProcess",), "msvcrt.dll": ("malloc",), "USER32.dll": ("MessageBoxW",)},
    ),
    "notepad.exe": (
        _GUI,
        False,
        {
            "KERNEL32.dll": ("ExitProcess",),
            "USER32.dll": ("MessageBoxW",),
            "COMDLG32.dll": ("GetOpenFileNameW",),
            "SHELL32.dll": ("SHGetFolderPathW",),
        },
    ),
    "ctfmon.exe": (_GUI, False, {"KERNEL32.dll": ("ExitProcess",), "USER32.dll": ("MessageBoxW",)}),
    "rundll32.exe": (_GUI, False, {"KERNEL32.dll": ("LoadLibraryW",), "USER32.dll": ("MessageBoxW",)}),
    "taskmgr.exe": (_GUI, False, {"KERNEL32.dll": ("ExitProcess",), "COMCTL32.dll": ("InitCommonControlsEx",)}),
    "sethc.exe": (_GUI, False, {"KERNEL32.dll": ("ExitProcess",), "USER32.dll": ("MessageBoxW",)}),
    "utilman.exe": (_GUI, False, {"KERNEL32.dll": ("ExitProcess",), "USER32.dll": ("MessageBoxW",)}),
    "logon.scr": (_GUI, False, {"KERNEL32.dll": ("ExitProcess",), "USER32.dll": ("MessageBoxW",)}),
}
_DRIVER_IMPORTS: dict[str, dict[str, tuple[str, ...]]] = {
    "acpi.sys": {"WMILIB.SYS": ("WmiSystemControl",)},
    "pci.sys": {},
    "isapnp.sys": {},
    "wmilib.sys": {},
    "intelide.sys": {"PCIIDEX.SYS": ("PciIdeXInitialize",)},
    "pciide.sys": {"PCIIDEX.SYS": ("PciIdeXInitialize",)},
    "pciidex.sys": {},
    "atapi.sys": {"WMILIB.SYS": ("WmiSystemControl",)},
    "disk.sys": {"CLASSPNP.SYS": ("ClassInitialize",)},
    "classpnp.sys": {},
    "cdrom.sys": {"CLASSPNP.SYS": ("ClassInitialize",)},
    "partmgr.sys": {"WMILIB.SYS": ("WmiSystemControl",)},
    "mountmgr.sys": {},
    "ftdisk.sys": {"WMILIB.SYS": ("WmiSystemControl",)},
    "volsnap.sys": {},
    "ntfs.sys": {"KSecDD.SYS": ("GenerateSessionKey",)},
    "fastfat.sys": {},
    "ksecdd.sys": {},
    "fltmgr.sys": {},
    "sr.sys": {"FLTMGR.SYS": ("FltRegisterFilter",)},
    "ndis.sys": {},
    "mup.sys": {},
    "kbdclass.sys": {},
    "mouclass.sys": {},
    "i8042prt.sys": {},
    "vga.sys": {"VIDEOPRT.SYS": ("VideoPortInitialize",)},
    "videoprt.sys": {"watchdog.sys": ("WdAllocateWatchdog",)},
    "tdi.sys": {},
    "tcpip.sys": {"NDIS.SYS": ("NdisRegisterProtocol",), "TDI.SYS": ("TdiRegisterDeviceObject",)},
    "afd.sys": {"TDI.SYS": ("TdiRegisterDeviceObject",)},
    "rtl8139.sys": {"NDIS.SYS": ("NdisMRegisterMiniport",)},
    "intelppm.sys": {},
    "dxgthk.sys": {},
    "null.sys": {},
    "beep.sys": {},
    "npfs.sys": {},
    "msfs.sys": {},
    "rdbss.sys": {},
    "mrxsmb.sys": {"rdbss.sys": ("RxInitialize",)},
    "srv.sys": {"TDI.SYS": ("TdiRegisterDeviceObject",)},
}
_KNOWN_DLLS = [
    "advapi32",
    "comdlg32",
    "gdi32",
    "imagehlp",
    "kernel32",
    "ole32",
    "oleaut32",
    "rpcrt4",
    "shell32",
    "urlmon",
    "user32",
    "version",
    "wininet",
    "shlwapi",
]
# name: (type, start, error control, group, tag)
_DRIVER_SERVICES: dict[str, tuple[int, int, int, str | None, int | None]] = {
    "ACPI": (1, 0, 3, "Boot Bus Extender", 1),
    "PCI": (1, 0, 3, "Boot Bus Extender", 3),
    "isapnp": (1, 0, 3, "Boot Bus Extender", 2),
    "IntelIde": (1, 0, 1, "System Bus Extender", 4),
    "PCIIde": (1, 3, 1, "System Bus Extender", 3),
    "MountMgr": (1, 0, 1, "System Bus Extender", None),
    "Ftdisk": (1, 0, 1, "System Bus Extender", 8),
    "PartMgr": (1, 0, 3, "Boot Bus Extender", 4),
    "VolSnap": (1, 0, 1, "System Bus Extender", None),
    "atapi": (1, 0, 1, "SCSI miniport", 25),
    "Disk": (1, 0, 0, "SCSI Class", 2),
    "FltMgr": (2, 0, 1, "FSFilter Infrastructure", 1),
    "sr": (2, 0, 1, "FSFilter System Recovery", None),
    "KSecDD": (1, 0, 1, "Base", None),
    "NDIS": (1, 0, 1, "NDIS Wrapper", None),
    "Mup": (2, 0, 1, "Network", None),
    "Ntfs": (2, 4, 1, "Boot File System", None),
    "Fastfat": (2, 4, 1, "Boot File System", None),
    "Cdrom": (1, 1, 1, "SCSI CDROM Class", 2),
    "Kbdclass": (1, 1, 1, "Keyboard Class", 1),
    "Mouclass": (1, 1, 1, "Pointer Class", 1),
    "i8042prt": (1, 1, 1, "Keyboard Port", 2),
    "VgaSave": (1, 1, 0, "Video Save", 1),
    "Null": (1, 1, 1, "Base", 1),
    "Beep": (1, 1, 1, "Base", 2),
    "Npfs": (2, 1, 1, "File system", None),
    "Msfs": (2, 1, 1, "File system", None),
    "Tcpip": (1, 1, 1, "PNP_TDI", 4),
    "AFD": (1, 1, 1, "TDI", None),
    "Rdbss": (2, 1, 1, "Network", None),
    "MRxSmb": (2, 1, 1, "Network", None),
    "Srv": (2, 3, 1, "Network", None),
    "rtl8139": (1, 3, 1, "NDIS", None),
    "intelppm": (1, 1, 1, "Extended Base", 1),
}
_IMAGE_OF = {"VgaSave": "vga", "Disk": "disk"}
# name: (display name, start, service DLL or image)
_WIN32_SERVICES: dict[str, tuple[str, int, str]] = {
    "RpcSs": ("Remote Procedure Call (RPC)", 2, "rpcss.dll"),
    "Dhcp": ("DHCP Client", 2, "dhcpcsvc.dll"),
    "lanmanworkstation": ("Workstation", 2, "wkssvc.dll"),
    "lanmanserver": ("Server", 2, "srvsvc.dll"),
    "ShellHWDetection": ("Shell Hardware Detection", 2, "shsvcs.dll"),
    "wscsvc": ("Security Center", 2, "wscsvc.dll"),
    "SharedAccess": ("Windows Firewall/Internet Connection Sharing (ICS)", 2, "ipnathlp.dll"),
    "wuauserv": ("Automatic Updates", 2, "wuauserv.dll"),
    "Spooler": ("Print Spooler", 2, "spoolsv.exe"),
    "Eventlog": ("Event Log", 2, "services.exe"),
    "PlugPlay": ("Plug and Play", 2, "services.exe"),
    "SamSs": ("Security Accounts Manager", 2, "lsass.exe"),
}
_CRITICAL = {
    "primary_ide_channel": "atapi",
    "secondary_ide_channel": "atapi",
    "*pnp0600": "atapi",
    "gendisk": "disk",
    "gencdrom": "cdrom",
    "pci#cc_0101": "pciide",
    "pci#ven_8086&dev_7010": "intelide",
    "pci#ven_8086&dev_7111": "intelide",
    "pci#cc_0604": "pci",
    "*pnp0a03": "pci",
    "isapnp#readdataport": "isapnp",
    "*pnp0303": "i8042prt",
    "root#swenum": "swenum",
}
_CLASS_HDC, _CLASS_SYSTEM = "{4D36E96A-E325-11CE-BFC1-08002BE10318}", "{4D36E97D-E325-11CE-BFC1-08002BE10318}"
_IDE_SERVICES = ("atapi", "pciide", "intelide")


def clean_files() -> dict[str, bytes]:
    """Guest path → content of the untampered system."""
    files = {**_programs(), **_texts()}
    files[f"{SYSTEM32}/config/SYSTEM"] = build_hive(system_hive(), name="SYSTEM")
    files[f"{SYSTEM32}/config/SOFTWARE"] = build_hive(software_hive(), name="SOFTWARE")
    files[f"{SYSTEM32}/config/SAM"] = build_hive(
        sam_hive((("Administrator", 500, True), ("Guest", 501, False), ("operator", 1003, True))), name="SAM"
    )
    files[f"{SYSTEM32}/config/SECURITY"] = build_hive(
        Node(keys={"Policy": Node(keys={"Accounts": Node()})}), name="SECURITY"
    )
    files[f"{SYSTEM32}/config/DEFAULT"] = build_hive(user_hive(), name="DEFAULT")
    files[f"{PROFILE}/operator/NTUSER.DAT"] = build_hive(user_hive(), name="ntuser.dat")
    return files


def infected_files() -> dict[str, bytes]:
    """Guest path → content that differs from the clean system: what inert intruders would have left."""
    software = software_hive()
    software.at(r"Microsoft\Windows\CurrentVersion\Run").values["WinUpdate32"] = r"C:\WINDOWS\system32\svch0st.exe /s"
    software.at(r"Microsoft\Windows NT\CurrentVersion\Winlogon").values["Userinit"] = (
        r"C:\WINDOWS\system32\userinit.exe,C:\WINDOWS\Temp\upd.exe"
    )
    options = r"Microsoft\Windows NT\CurrentVersion\Image File Execution Options\taskmgr.exe"
    software.at(options).values["Debugger"] = r"C:\WINDOWS\system32\svch0st.exe"
    system = system_hive()
    intruder = system.at(r"ControlSet001\Services\netmgr32")
    intruder.values = {
        "Type": 0x10,
        "Start": 2,
        "ErrorControl": 0,
        "DisplayName": "Network Manager",
        "ImagePath": expand_sz(r"C:\WINDOWS\Temp\netmgr32.exe"),
        "ObjectName": "LocalSystem",
    }
    system.at(r"ControlSet001\Services\wscsvc").values["Start"] = 4
    system.at(r"ControlSet001\Services\SharedAccess").values["Start"] = 4
    system.at(r"ControlSet001\Control\Terminal Server").values["fDenyTSConnections"] = 0
    accounts = (
        ("Administrator", 500, True),
        ("Guest", 501, False),
        ("operator", 1003, True),
        ("support$", 1004, False),
    )
    dropped = build_pe(
        PeSpec(
            name="svch0st.exe",
            dll=False,
            imports={"KERNEL32.dll": ["ExitProcess"]},
            strings={"CompanyName": "Microsoft Corp", "OriginalFilename": "svchost.exe"},
            padding=3000,
        )
    )
    return {
        f"{SYSTEM32}/svch0st.exe": dropped,
        f"{ROOT}/Temp/upd.exe": dropped,
        f"{ROOT}/Temp/netmgr32.exe": build_pe(
            PeSpec(
                name="netmgr32.exe",
                dll=False,
                imports={"KERNEL32.dll": ["ExitProcess"], "WS2_32.dll": ["WSAStartup"]},
            )
        ),
        f"{PROFILE}/operator/Desktop/invoice.pdf.exe": dropped[:4096],
        f"{DRIVERS}/etc/hosts": b"127.0.0.1 localhost\r\n"
        b"127.0.0.1 update.example.com\r\n127.0.0.1 antivirus.example.com\r\n",
        f"{SYSTEM32}/config/SYSTEM": build_hive(system, name="SYSTEM"),
        f"{SYSTEM32}/config/SOFTWARE": build_hive(software, name="SOFTWARE"),
        f"{SYSTEM32}/config/SAM": build_hive(sam_hive(accounts, administrators=(500, 1003, 1004)), name="SAM"),
    }


def _programs() -> dict[str, bytes]:
    imports: dict[str, dict[str, tuple[str, ...]]] = {name: row[2] for name, row in _SYSTEM32_FILES.items()}
    base = {"ntoskrnl.exe": ("IoCreateDevice", "KeBugCheckEx"), "HAL.dll": ("READ_PORT_UCHAR",)}
    imports |= {name: {**base, **extra} for name, extra in _DRIVER_IMPORTS.items()}
    imports["explorer.exe"] = {
        dll: _SYSTEM32_FILES["shell32.dll"][2][dll]
        for dll in ("KERNEL32.dll", "USER32.dll", "GDI32.dll", "SHLWAPI.dll", "ADVAPI32.dll")
    } | {"SHELL32.dll": ("SHGetFolderPathW",), "ole32.dll": ("CoCreateInstance",)}
    exports: dict[str, dict[str, str | None]] = {}
    for wanted in imports.values():
        for dll, names in wanted.items():
            exports.setdefault(dll.lower(), {}).update(dict.fromkeys(names))
    exports["kernel32.dll"]["HeapAlloc"] = "NTDLL.RtlAllocateHeap"
    for name in ("smss.exe", "csrss.exe"):
        exports.pop(name, None)
    files = {}
    for name, wanted in imports.items():
        driver = name in _DRIVER_IMPORTS
        subsystem, dll = (
            (_NATIVE, False) if driver else _SYSTEM32_FILES[name][:2] if name in _SYSTEM32_FILES else (_GUI, False)
        )
        spec = PeSpec(
            name=name,
            imports=wanted,
            exports=exports.get(name, {}),
            dll=dll,
            subsystem=subsystem,
            strings={
                "CompanyName": COMPANY,
                "FileDescription": f"Stands in for {name}",
                "FileVersion": "5.1.2600.5512",
                "OriginalFilename": "halaacpi.dll" if name == "hal.dll" else name,
                "ProductName": "A specimen, not an operating system",
            },
        )
        folder = DRIVERS if driver and name != "watchdog.sys" else ROOT if name == "explorer.exe" else SYSTEM32
        files[f"{folder}/{name}"] = build_pe(spec)
    files[f"{SYSTEM32}/dxgthk.sys"] = files.pop(f"{DRIVERS}/dxgthk.sys")
    files[f"{DRIVERS}/watchdog.sys"] = files[f"{SYSTEM32}/watchdog.sys"]
    return files


LOADER = bytes.fromhex("0e1ffcbe1700ac84c07409b40ebb0700cd10ebf2f4ebfd") + (
    b"Byre specimen: nothing to boot here.\r\n\0"
)
"""In NTLDR's place: 16-bit code of our own that says so and halts."""


def _texts() -> dict[str, bytes]:
    loader = "[boot loader]\r\ntimeout=30\r\ndefault=multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS\r\n"
    systems = (
        "[operating systems]\r\nmulti(0)disk(0)rdisk(0)partition(1)\\WINDOWS="
        '"Byre specimen, laid out like Windows XP" /noexecute=optin /fastdetect\r\n'
    )
    note = b"This file stands in for one of Windows. It was written by Byre's tools and holds nothing of it.\r\n"
    files = {
        "/boot.ini": (loader + systems).encode(),
        "/NTLDR": LOADER,
        "/NTDETECT.COM": note,
        "/pagefile.sys": bytes(1 << 20),
        f"{DRIVERS}/etc/hosts": b"127.0.0.1       localhost\r\n",
        f"{ROOT}/win.ini": b"; for 16-bit app support\r\n",
        f"{ROOT}/system.ini": b"; for 16-bit app support\r\n",
        f"{ROOT}/inf/layout.inf": _layout_inf(),
        f"{ROOT}/Prefetch/NOTEPAD.EXE-336351A9.pf": note,
        f"{ROOT}/Temp/setup.log": b"a temporary file\r\n" * 400,
        f"{ROOT}/fonts/vgaoem.fon": note,
        f"{SYSTEM32}/config/AppEvent.Evt": bytes(65536),
        f"{SYSTEM32}/config/SecEvent.Evt": bytes(65536),
        f"{SYSTEM32}/config/SysEvent.Evt": bytes(65536),
        f"{PROFILE}/operator/My Documents/measurements.csv": b"time,value\r\n"
        + b"".join(b"%d,%d\r\n" % (i, i * i % 997) for i in range(500)),
        f"{PROFILE}/operator/Desktop/readme.txt": b"Start the instrument before the program.\r\n",
        f"{PROFILE}/All Users/Start Menu/Programs/Startup/desktop.ini": b"[.ShellClassInfo]\r\n",
        "/Program Files/Instrument/instrument.ini": b"[port]\r\nname=COM1\r\nbaud=9600\r\n",
        "/Program Files/Instrument/instrument.exe": build_pe(
            PeSpec(
                name="instrument.exe",
                dll=False,
                imports={
                    "KERNEL32.dll": ["CreateFileW", "ExitProcess"],
                    "USER32.dll": ["MessageBoxW"],
                    "COMDLG32.dll": ["GetOpenFileNameW"],
                },
                strings={"CompanyName": COMPANY, "OriginalFilename": "instrument.exe"},
            )
        ),
    }
    for name in (
        "c_1252.nls",
        "c_437.nls",
        "l_intl.nls",
        "unicode.nls",
        "locale.nls",
        "sortkey.nls",
        "ctype.nls",
        "sorttbls.nls",
    ):
        files[f"{SYSTEM32}/{name}"] = note
    files[f"{SYSTEM32}/vgaoem.fon"] = note
    return files


def _layout_inf() -> bytes:
    names = sorted({*_SYSTEM32_FILES, *_DRIVER_IMPORTS, "explorer.exe"})
    rows = "".join(f"{name} = 1,,{0},,,,,{2},0,0\r\n" for name in names)
    return f"[SourceDisksFiles]\r\n{rows}".encode()


def system_hive() -> Node:
    """The SYSTEM hive of the clean system."""
    root = Node()
    root.at("Select").values = {"Current": 1, "Default": 1, "Failed": 0, "LastKnownGood": 2}
    root.at("MountedDevices").values = {
        r"\DosDevices\C:": struct.pack("<IQ", DISK_SIGNATURE, PARTITION_START),
    }
    root.at("Setup").values = {"SystemSetupInProgress": 0, "SetupType": 0}
    for name in ("ControlSet001", "ControlSet002"):
        _control_set(root.at(name))
    return root


def _control_set(root: Node) -> None:
    control = root.at("Control")
    control.at(r"ComputerName\ComputerName").values = {"ComputerName": "LAB-PC-7"}
    control.at("ProductOptions").values = {"ProductType": "WinNT"}
    control.at("TimeZoneInformation").values = {"StandardName": "W. Europe Standard Time", "Bias": 0xFFFFFFC4}
    control.at(r"Nls\Language").values = {"Default": "0409", "InstallLanguage": "0409", "0409": "l_intl.nls"}
    control.at(r"Nls\CodePage").values = {
        "ACP": "1252",
        "OEMCP": "437",
        "OEMHAL": "vgaoem.fon",
        "1252": "c_1252.nls",
        "437": "c_437.nls",
    }
    control.at("Lsa").values = {
        "Authentication Packages": ["msv1_0"],
        "Security Packages": ["kerberos", "msv1_0", "schannel", "wdigest"],
        "Notification Packages": ["scecli"],
        "limitblankpassworduse": 1,
    }
    control.at("Terminal Server").values = {"fDenyTSConnections": 1}
    control.at("SafeBoot").values = {"AlternateShell": "cmd.exe"}
    control.at(r"Print\Monitors\Local Port").values = {"Driver": "localspl.dll"}
    control.at("ServiceGroupOrder").values = {
        "List": [
            "System Reserved",
            "Boot Bus Extender",
            "System Bus Extender",
            "SCSI miniport",
            "Port",
            "Primary Disk",
            "SCSI Class",
            "SCSI CDROM Class",
            "FSFilter Infrastructure",
            "FSFilter System Recovery",
            "Boot File System",
            "Base",
            "Pointer Port",
            "Keyboard Port",
            "Pointer Class",
            "Keyboard Class",
            "Video Init",
            "Video",
            "Video Save",
            "File System",
            "NDIS Wrapper",
            "NDIS",
            "PNP_TDI",
            "TDI",
            "Network",
        ]
    }
    manager = control.at("Session Manager")
    manager.values = {"BootExecute": ["autocheck autochk *"]}
    manager.at("KnownDLLs").values = {name: f"{name}.dll" for name in _KNOWN_DLLS} | {
        "DllDirectory": expand_sz(r"%SystemRoot%\system32")
    }
    manager.at("SubSystems").values = {
        "Required": ["Debug", "Windows"],
        "Optional": ["Posix"],
        "Kmode": expand_sz(r"\SystemRoot\System32\win32k.sys"),
        "Windows": expand_sz(
            r"%SystemRoot%\system32\csrss.exe ObjectDirectory=\Windows "
            r"SharedSection=1024,3072,512 Windows=On SubSystemType=Windows "
            r"ServerDll=basesrv,1 ServerDll=winsrv:UserServerDllInitialization,3 "
            r"ServerDll=winsrv:ConServerDllInitialization,2 ProfileControl=Off MaxRequestThreads=16"
        ),
    }
    manager.at(r"Memory Management").values = {"PagingFiles": [r"C:\pagefile.sys 384 768"]}
    for identifier, service in _CRITICAL.items():
        control.at(rf"CriticalDeviceDatabase\{identifier}").values = {
            "Service": service,
            "ClassGUID": _CLASS_HDC if service in _IDE_SERVICES else _CLASS_SYSTEM,
        }
    control.at(r"Class\{4D36E972-E325-11CE-BFC1-08002BE10318}\0000").values = {
        "DriverDesc": "Realtek RTL8139 Family PCI Fast Ethernet NIC"
    }
    control.at(r"Class\{4D36E968-E325-11CE-BFC1-08002BE10318}\0000").values = {"DriverDesc": "VgaSave"}
    root.at(r"Enum\Root\ACPI_HAL\0000").values = {"HardwareID": ["acpiapic_up"], "Service": r"\Driver\ACPI_HAL"}
    services = root.at("Services")
    for name, (kind, start, error, group, tag) in _DRIVER_SERVICES.items():
        node = services.at(name)
        node.values = {"Type": kind, "Start": start, "ErrorControl": error}
        if group is not None:
            node.values["Group"] = group
        if tag is not None:
            node.values["Tag"] = tag
        file = _IMAGE_OF.get(name, name).lower()
        if start:  # a boot driver's path may be left out: the kernel knows where to look
            node.values["ImagePath"] = expand_sz(rf"system32\drivers\{file}.sys")
    for name, (title, start, file) in _WIN32_SERVICES.items():
        node = services.at(name)
        shared = file.endswith(".dll")
        image = r"%SystemRoot%\system32\svchost.exe -k netsvcs" if shared else rf"%SystemRoot%\system32\{file}"
        node.values = {
            "Type": 0x20 if shared else 0x10,
            "Start": start,
            "ErrorControl": 1,
            "DisplayName": title,
            "ImagePath": expand_sz(image),
            "ObjectName": "LocalSystem",
        }
        if shared:
            node.at("Parameters").values = {"ServiceDll": expand_sz(rf"%SystemRoot%\System32\{file}")}
    firewall = services.at(r"SharedAccess\Parameters\FirewallPolicy\StandardProfile")
    firewall.values = {"EnableFirewall": 1}
    services.at(r"Tcpip\Parameters").values = {
        "DataBasePath": expand_sz(r"%SystemRoot%\System32\drivers\etc"),
        "Hostname": "lab-pc-7",
    }


def software_hive() -> Node:
    """The SOFTWARE hive of the clean system."""
    root = Node()
    nt = root.at(r"Microsoft\Windows NT\CurrentVersion")
    nt.values = {
        "ProductName": "Microsoft Windows XP",
        "CurrentVersion": "5.1",
        "CurrentBuild": "1.511.1 () (Obsolete data - do not use)",
        "CurrentBuildNumber": "2600",
        "CSDVersion": "Service Pack 3",
        "CurrentType": "Uniprocessor Free",
        "BuildLab": "2600.xpsp.080413-2111",
        "SystemRoot": r"C:\WINDOWS",
        "PathName": r"C:\WINDOWS",
        "InstallDate": INSTALL_DATE,
        "RegisteredOwner": "Laboratory 7",
        "RegisteredOrganization": "Byre",
        "DigitalProductId": bytes(164),
    }
    nt.at("Winlogon").values = {
        "Shell": "Explorer.exe",
        "Userinit": r"C:\WINDOWS\system32\userinit.exe,",
        "UIHost": expand_sz("logonui.exe"),
        "SFCDisable": 0,
        "AutoAdminLogon": "0",
    }
    nt.at("Windows").values = {"AppInit_DLLs": ""}
    nt.at(r"HotFix\KB958644").values = {
        "Installed": 1,
        "Fix Description": "Security Update for Windows XP (KB958644)",
    }
    nt.at(r"ProfileList\S-1-5-21-1004-1003").values = {
        "ProfileImagePath": expand_sz(r"%SystemDrive%\Documents and Settings\operator")
    }
    current = root.at(r"Microsoft\Windows\CurrentVersion")
    current.values = {"ProgramFilesDir": r"C:\Program Files", "ProductId": "00000-000-0000000-00000"}
    current.at("Run").values = {"CTFMON": r"C:\WINDOWS\system32\ctfmon.exe"}
    current.at(r"Uninstall\Instrument Control").values = {
        "DisplayName": "Instrument Control",
        "DisplayVersion": "2.4",
        "Publisher": COMPANY,
        "InstallDate": "20080501",
        "UninstallString": r"C:\Program Files\Instrument\instrument.exe /u",
    }
    root.at(r"Classes\exefile\shell\open\command").values = {"": '"%1" %*'}
    root.at(r"Microsoft\Security Center").values = {"AntiVirusDisableNotify": 0, "FirewallDisableNotify": 0}
    return root


def user_hive() -> Node:
    """A user's hive."""
    root = Node()
    root.at(r"Software\Microsoft\Windows\CurrentVersion\Run").values = {
        "ctfmon.exe": r"C:\WINDOWS\system32\ctfmon.exe"
    }
    root.at(r"Control Panel\Desktop").values = {"SCRNSAVE.EXE": r"C:\WINDOWS\system32\logon.scr"}
    root.at(r"Software\Microsoft\Windows\CurrentVersion\Internet Settings").values = {"ProxyEnable": 0}
    return root


def sam_hive(accounts: tuple[tuple[str, int, bool], ...], *, administrators: tuple[int, ...] = (500, 1003)) -> Node:
    """A SAM hive; of each account (name, RID, has a password). The hash bytes are zeros: there is no password."""
    root = Node()
    users = root.at(r"SAM\Domains\Account\Users")
    names = users.at("Names")
    for name, rid, protected in accounts:
        node = users.at(f"{rid:08X}")
        fixed = bytearray(80)
        struct.pack_into("<H", fixed, 0x38, 0x211 if rid == 501 else 0x210)
        encoded = name.encode("utf-16-le")
        hash_length = 20 if protected else 4
        head = bytearray(0xCC)
        struct.pack_into("<II", head, 0x0C, 0, len(encoded))
        struct.pack_into("<II", head, 0x18, len(encoded), 0)
        struct.pack_into("<II", head, 0xA8, len(encoded), hash_length)
        node.values = {"F": bytes(fixed), "V": bytes(head) + encoded + bytes(hash_length)}
        names.at(name).values = {"": (rid, b"")}
    members = b"".join(
        bytes([1, 5]) + (5).to_bytes(6, "big") + struct.pack("<5I", 21, 1, 2, 3, rid) for rid in administrators
    )
    head = bytearray(0x34)
    struct.pack_into("<III", head, 0x28, 0, len(members), len(administrators))
    root.at(r"SAM\Domains\Builtin\Aliases\00000220").values = {"C": bytes(head) + members}
    return root


def folders(files: Mapping[str, bytes]) -> list[str]:
    """Every folder that the paths need, parents first."""
    found = {"/".join(path.split("/")[:depth]) for path in files for depth in range(2, path.count("/") + 1)}
    return sorted(found, key=lambda path: (path.count("/"), path))

"""Names of STOP codes, and what each mostly means at boot. Source: Microsoft's bug check code reference."""

from __future__ import annotations

STOPS: dict[int, tuple[str, str]] = {
    0x0A: ("IRQL_NOT_LESS_OR_EQUAL", "a driver touched memory that it may not"),
    0x1E: ("KMODE_EXCEPTION_NOT_HANDLED", "a driver failed"),
    0x24: ("NTFS_FILE_SYSTEM", "the NTFS volume is damaged"),
    0x23: ("FAT_FILE_SYSTEM", "the FAT volume is damaged"),
    0x3F: ("NO_MORE_SYSTEM_PTES", "a driver used up the system's page table entries"),
    0x50: ("PAGE_FAULT_IN_NONPAGED_AREA", "a driver touched memory that isn't there"),
    0x51: ("REGISTRY_ERROR", "a hive is damaged"),
    0x58: ("FTDISK_INTERNAL_ERROR", "a mirrored system disk is out of step"),
    0x5C: ("HAL_INITIALIZATION_FAILED", "the HAL doesn't fit the machine"),
    0x67: ("CONFIG_INITIALIZATION_FAILED", "the registry can't be set up"),
    0x69: ("IO1_INITIALIZATION_FAILED", "Setup chose the wrong hardware"),
    0x6B: ("PROCESS1_INITIALIZATION_FAILED", "ntdll.dll can't be loaded"),
    0x6D: ("SESSION1_INITIALIZATION_FAILED", "the first session didn't start"),
    0x6E: ("SESSION2_INITIALIZATION_FAILED", "the first session didn't start"),
    0x6F: ("SESSION3_INITIALIZATION_FAILED", "smss.exe can't be started"),
    0x70: ("SESSION4_INITIALIZATION_FAILED", "the first session didn't start"),
    0x71: ("SESSION5_INITIALIZATION_FAILED", "smss.exe ended"),
    0x74: ("BAD_SYSTEM_CONFIG_INFO", "the SYSTEM hive lacks keys that the kernel needs"),
    0x77: ("KERNEL_STACK_INPAGE_ERROR", "the disk didn't give back a page"),
    0x79: ("MISMATCHED_HAL", "HAL and kernel don't belong together"),
    0x7A: ("KERNEL_DATA_INPAGE_ERROR", "the disk didn't give back a page"),
    0x7B: ("INACCESSIBLE_BOOT_DEVICE", "no driver for the disk's controller, or no readable system volume"),
    0x7E: ("SYSTEM_THREAD_EXCEPTION_NOT_HANDLED", "a driver failed"),
    0x7F: ("UNEXPECTED_KERNEL_MODE_TRAP", "a processor fault in the kernel"),
    0x85: ("SETUP_FAILURE", "text-mode Setup failed"),
    0x8E: ("KERNEL_MODE_EXCEPTION_NOT_HANDLED", "a driver failed"),
    0x9F: ("DRIVER_POWER_STATE_FAILURE", "a driver lost track of power"),
    0xA5: ("ACPI_BIOS_ERROR", "the machine's ACPI is not one that this system takes"),
    0xBE: ("ATTEMPTED_WRITE_TO_READONLY_MEMORY", "a driver wrote where it may not"),
    0xC2: ("BAD_POOL_CALLER", "a driver misused memory"),
    0xC4: ("DRIVER_VERIFIER_DETECTED_VIOLATION", "Driver Verifier caught a driver"),
    0xC5: ("DRIVER_CORRUPTED_EXPOOL", "a driver damaged memory"),
    0xCE: ("DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS", "a driver left before its work was done"),
    0xD1: ("DRIVER_IRQL_NOT_LESS_OR_EQUAL", "a driver touched memory that it may not"),
    0xD4: ("SYSTEM_SCAN_AT_RAISED_IRQL_CAUGHT_IMPROPER_DRIVER_UNLOAD", "a driver left before its work was done"),
    0xD8: ("DRIVER_USED_EXCESSIVE_PTES", "a driver asked for too much"),
    0xE3: ("RESOURCE_NOT_OWNED", "a driver gave back what it didn't have"),
    0xEA: ("THREAD_STUCK_IN_DEVICE_DRIVER", "the display driver hangs"),
    0xED: ("UNMOUNTABLE_BOOT_VOLUME", "the system volume's file system can't be mounted"),
    0xF4: ("CRITICAL_OBJECT_TERMINATION", "a process that the system needs ended"),
    0xFC: ("ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY", "a driver ran code from data"),
    0xC000_0135: ("STATUS_DLL_NOT_FOUND", "a DLL that a system process needs is missing"),
    0xC000_0139: ("STATUS_ENTRYPOINT_NOT_FOUND", "a DLL lacks a function that a system process needs"),
    0xC000_0142: ("STATUS_DLL_INIT_FAILED", "a DLL of a system process failed to start"),
    0xC000_0218: ("STATUS_CANNOT_LOAD_REGISTRY_FILE", "a hive is missing or damaged"),
    0xC000_021A: ("STATUS_SYSTEM_PROCESS_TERMINATED", "winlogon or csrss ended"),
    0xC000_0221: ("STATUS_IMAGE_CHECKSUM_MISMATCH", "a driver or system DLL is damaged"),
    0xC000_0244: ("STATUS_AUDIT_FAILED", "the security log is full and may not be left unwritten"),
}
"""Code -> (name, what it mostly means)."""
DRIVER_PARAMETER: dict[int, int] = {
    0x0A: 3,
    0x1E: 1,
    0x50: 2,
    0x7E: 1,
    0x8E: 1,
    0xBE: 3,
    0xC4: 3,
    0xCE: 0,
    0xD1: 3,
    0xFC: 0,
}
"""Code -> which parameter, from 0, is an address in the code that failed."""
_STATUS_CODES = 0xC000_0000


def stop_name(code: int) -> str | None:
    """The symbolic name of a STOP, where it is known."""
    return STOPS[code][0] if code in STOPS else None


def stop_meaning(code: int) -> str | None:
    """What the STOP mostly means at boot, as a clause."""
    return STOPS[code][1] if code in STOPS else None


def has_text(code: int) -> bool:
    """Whether the code is a status whose first parameter points at a string."""
    return code >= _STATUS_CODES


def shown_code(code: int) -> str:
    """As people write it: ``0x7B``, ``0xC0000135``."""
    return f"0x{code:X}"

"""What the world calls partition types. Sources: the UEFI specification 5.3, Microsoft's PARTITION_INFORMATION
pages, Andries Brouwer's list."""

from __future__ import annotations

MBR_TYPES = {
    0x00: "empty",
    0x01: "FAT12",
    0x04: "FAT16 (under 32 MiB)",
    0x05: "extended",
    0x06: "FAT16",
    0x07: "NTFS, exFAT or HPFS",
    0x0B: "FAT32",
    0x0C: "FAT32 (LBA)",
    0x0E: "FAT16 (LBA)",
    0x0F: "extended (LBA)",
    0x11: "FAT12, hidden",
    0x12: "vendor's rescue or diagnostics",
    0x14: "FAT16 (under 32 MiB), hidden",
    0x16: "FAT16, hidden",
    0x17: "NTFS, hidden",
    0x1B: "FAT32, hidden",
    0x1C: "FAT32 (LBA), hidden",
    0x1E: "FAT16 (LBA), hidden",
    0x27: "Windows recovery, hidden",
    0x42: "Windows dynamic disk (LDM)",
    0x82: "Linux swap",
    0x83: "Linux",
    0x84: "hibernation",
    0x85: "Linux extended",
    0x86: "NT fault-tolerant FAT16 set",
    0x87: "NT fault-tolerant NTFS set",
    0x8E: "Linux LVM",
    0xA5: "FreeBSD",
    0xA6: "OpenBSD",
    0xA8: "macOS UFS",
    0xA9: "NetBSD",
    0xAF: "macOS HFS",
    0xBE: "Solaris boot",
    0xBF: "Solaris",
    0xEE: "GPT protective",
    0xEF: "EFI system",
    0xFB: "VMware VMFS",
    0xFC: "VMware swap",
    0xFD: "Linux RAID",
}
EXTENDED = frozenset({0x05, 0x0F, 0x85})
PROTECTIVE = 0xEE
LDM = 0x42

GPT_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "024dee41-33e7-11d3-9d69-0008c781f39f": "MBR scheme",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Windows data",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": "Windows LDM metadata",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "Windows LDM data",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "Windows Storage Spaces",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "44479540-f297-41b2-9af7-d131d5f0458a": "Linux root (x86)",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "933ac7e1-2eb4-4f13-b844-0e14e2aef915": "Linux home",
    "48465300-0000-11aa-aa11-00306543ecac": "macOS HFS+",
    "7c3457ef-0000-11aa-aa11-00306543ecac": "macOS APFS",
    "aa31e02a-400f-11db-9590-000c2911d1b8": "VMware VMFS",
}
GPT_LDM = frozenset({"5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "af9b60a0-1431-4f62-bc68-3311714a69ad"})
PIECES = {
    **dict.fromkeys((f"{LDM:#04x}", *GPT_LDM), "a dynamic disk's, whose volumes may be mirrored or lie in pieces"),
    **dict.fromkeys(("0x86", "0x87"), "a piece of a fault-tolerant set of Windows NT"),
}
"""Partition types whose bytes may not be a volume from start to end, with what such a partition is. A file system
that begins there may count clusters which lie elsewhere as its own, or have a mirror that must stay the same: what is
only read may be tried, nothing is written and nothing that it calls free is believed."""

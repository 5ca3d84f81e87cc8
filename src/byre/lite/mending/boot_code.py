"""Byre's own code for a master boot record: it starts the active partition's boot sector, and nothing else.

Written for Byre, by the BIOS's rules: it is loaded at 0:7C00 with the drive in DL, moves itself to 0:0600, and jumps
to the boot sector at 0:7C00 with DL as it was and DS:SI at the partition's entry. It reads by LBA where the BIOS can
(INT 13h, AH=42h), else by the entry's CHS. It needs an 80386, as every guest does that Byre mends.
"""

from __future__ import annotations

CODE_SIZE = 0x1B8
"""Where the disk signature begins: from there on a master boot record is data."""

_CODE = (
    "fa",  # 0600 cli
    "31c0",  # 0601 xor ax,ax
    "8ed0",  # 0603 mov ss,ax
    "bc007c",  # 0605 mov sp,0x7c00
    "fb",  # 0608 sti
    "8ed8",  # 0609 mov ds,ax
    "8ec0",  # 060b mov es,ax
    "fc",  # 060d cld
    "89e6",  # 060e mov si,sp
    "bf0006",  # 0610 mov di,0x600
    "b90001",  # 0613 mov cx,0x100
    "f3a5",  # 0616 rep movsw: out of the way of what is loaded
    "ea1d060000",  # 0618 jmp 0:0x61d
    "bfbe07",  # 061d mov di,0x7be: the first entry
    "b104",  # 0620 mov cl,4
    "803d80",  # 0622 cmp byte [di],0x80
    "740a",  # 0625 je 0x631
    "83c710",  # 0627 add di,16
    "e2f6",  # 062a loop 0x622
    "be9506",  # 062c mov si,"No active partition"
    "eb56",  # 062f jmp 0x687
    "b441",  # 0631 mov ah,0x41: has the BIOS the extensions?
    "bbaa55",  # 0633 mov bx,0x55aa
    "52",  # 0636 push dx
    "cd13",  # 0637 int 0x13
    "5a",  # 0639 pop dx: some BIOSes change DH
    "7226",  # 063a jc 0x662
    "81fb55aa",  # 063c cmp bx,0xaa55
    "7520",  # 0640 jne 0x662
    "f6c101",  # 0642 test cl,1: packets
    "741b",  # 0645 jz 0x662
    "666a00",  # 0647 push dword 0: the packet, from its end; LBA, high
    "66ff7508",  # 064a push dword [di+8]: LBA, low
    "6a00",  # 064e push 0: segment
    "68007c",  # 0650 push 0x7c00: offset
    "6a01",  # 0653 push 1: one sector
    "6a10",  # 0655 push 16: the packet's size
    "89e6",  # 0657 mov si,sp
    "b442",  # 0659 mov ah,0x42
    "cd13",  # 065b int 0x13
    "bc007c",  # 065d mov sp,0x7c00: leaves the flags alone
    "7313",  # 0660 jnc 0x675
    "8a7501",  # 0662 mov dh,[di+1]: head
    "8b4d02",  # 0665 mov cx,[di+2]: cylinder and sector
    "bb007c",  # 0668 mov bx,0x7c00
    "b80102",  # 066b mov ax,0x0201
    "cd13",  # 066e int 0x13
    "bea906",  # 0670 mov si,"The active partition can't be read"
    "7212",  # 0673 jc 0x687
    "becc06",  # 0675 mov si,"The active partition has no boot sector"
    "813efe7d55aa",  # 0678 cmp word [0x7dfe],0xaa55
    "7507",  # 067e jne 0x687
    "89fe",  # 0680 mov si,di: the entry, for the boot sector
    "ea007c0000",  # 0682 jmp 0:0x7c00
    "ac",  # 0687 lodsb: say what SI points to
    "84c0",  # 0688 test al,al
    "74fe",  # 068a jz 0x68a: for ever
    "b40e",  # 068c mov ah,0x0e
    "bb0700",  # 068e mov bx,7
    "cd10",  # 0691 int 0x10
    "ebf2",  # 0693 jmp 0x687
)
_MESSAGES = (
    b"No active partition\0"  # 0695
    b"The active partition can't be read\0"  # 06a9
    b"The active partition has no boot sector\0"  # 06cc
)
MASTER_CODE = (bytes.fromhex("".join(_CODE)) + _MESSAGES).ljust(CODE_SIZE, b"\0")
"""The first 440 bytes of the sector."""


def with_master_code(sector: bytes) -> bytes:
    """A master boot record with our code; its signature, partitions and 55 AA stay."""
    return MASTER_CODE + sector[CODE_SIZE:510] + b"\x55\xaa"

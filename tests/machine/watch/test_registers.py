"""QEMU's description of its processors. The texts are QEMU 7.2's own."""

from __future__ import annotations

from byre.machine.watch.registers import Registers, parse_registers

PROTECTED = """\
CPU#0
EAX=00000000 EBX=80551d60 ECX=00000000 EDX=00000000
EIP=f9a1c0ee EFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CR0=8001003b CR2=00000000 CR3=00039000 CR4=000006d9
EFER=0000000000000000
"""
LONG = """\
CPU#0
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
RIP=ffffffff81e2b3ab RFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1
CR0=80050033 CR2=0000000000000000 CR3=000000000261e000 CR4=000006f0
EFER=0000000000000d01
CPU#1
RIP=ffffffff81e2b3ab RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
CR0=80050033 CR2=0000000000000000 CR3=0000000002620000 CR4=000006b0
EFER=0000000000000d01
"""


def test_a_32_bit_processor_that_waits_for_an_interrupt_is_not_dead() -> None:
    assert parse_registers(PROTECTED) == (Registers(0xF9A1C0EE, 0x39000, "32bit", halted=True, interrupts=True),)
    assert not parse_registers(PROTECTED)[0].dead


def test_each_processor_is_told_and_long_mode_is_known() -> None:
    first, second = parse_registers(LONG)
    assert (first.mode, first.page_table, first.dead) == ("long", 0x261E000, True)
    assert (second.mode, second.page_table, second.dead) == ("long", 0x2620000, False)


def test_pae_and_no_paging_are_told_apart() -> None:
    assert parse_registers(PROTECTED.replace("CR4=000006d9", "CR4=000006f9"))[0].mode == "pae"
    assert parse_registers(PROTECTED.replace("CR0=8001003b", "CR0=00000011"))[0].mode == "none"


def test_an_answer_without_control_registers_tells_nothing() -> None:
    assert parse_registers("unknown command: 'info registers'") == ()

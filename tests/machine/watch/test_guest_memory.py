"""Finding a kernel, its STOP, its processes and its drivers in memory, through page tables."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from builders.nt_memory import HEALTHY, KERNELS, NtMemory, Spec
from byre.errors import StorageError
from byre.machine.watch.kernel import BugCheck, driver_at, find_kernels, first_process, read_bug_check, text_at
from byre.machine.watch.paging import AddressSpace
from byre.machine.watch.processes import Process, read_processes
from byre.machine.watch.ram import PAGE, Ram

MODES = ("32bit", "pae", "long")


def opened(folder: Path, memory: NtMemory) -> tuple[Ram, AddressSpace]:
    ram = Ram.open(memory.save(folder / "ram"))
    return ram, AddressSpace(ram, memory.root, memory.mode)


@pytest.mark.parametrize("mode", MODES)
def test_stop_and_its_parameters_are_read(mode: str, tmp_path: Path) -> None:
    values = (
        (0x7B, 0xF7C62524, 0xC0000034, 0, 0) if mode != "long" else (0x7B, 0xFFFF_F880_009A_97E8, 0xC0000034, 0, 0)
    )
    memory = NtMemory(Spec(mode=mode, bug_check=values))
    ram, space = opened(tmp_path, memory)
    with ram:
        (kernel,) = find_kernels(ram, space)
        assert kernel.image.base == KERNELS[mode]
        assert kernel.name == "ntoskrnl.exe"
        assert read_bug_check(kernel) == BugCheck(values[0], values[1:])


def test_a_seed_in_the_last_value_alone_is_no_stop(tmp_path: Path) -> None:
    ram, space = opened(tmp_path, NtMemory(Spec(bug_check=(0, 0, 0, 0, 0x5EED))))
    with ram:
        assert read_bug_check(find_kernels(ram, space)[0]) is None


@pytest.mark.parametrize("mode", MODES)
def test_processes_with_threads_and_exits_are_read(mode: str, tmp_path: Path) -> None:
    processes = (*HEALTHY, ("userinit.exe", 1200, -1), ("a name that is long.exe", 1404, 7))
    ram, space = opened(tmp_path, NtMemory(Spec(mode=mode, processes=processes)))
    with ram:
        found = read_processes(space, find_kernels(ram, space)[0])
    assert [(each.name, each.id) for each in found] == [(name[:15], number) for name, number, _ in processes]
    assert found[0] == Process("System", 4, 55, exited=False)
    assert found[4].exited
    assert found[5].threads == 7


def test_before_the_first_process_there_are_none(tmp_path: Path) -> None:
    ram, space = opened(tmp_path, NtMemory(Spec(processes=())))
    with ram:
        (kernel,) = find_kernels(ram, space)
        assert first_process(kernel) is None
        assert read_processes(space, kernel) == ()


@pytest.mark.parametrize("raw", [b"winsrv.dll", "winsrv.dll".encode("utf-16-le")])
@pytest.mark.parametrize("mode", MODES)
def test_the_string_of_a_parameter_is_read(mode: str, raw: bytes, tmp_path: Path) -> None:
    memory = NtMemory(Spec(mode=mode, text=raw))
    ram, space = opened(tmp_path, memory)
    with ram:
        assert text_at(space, memory.text_address) == "winsrv.dll"
        assert text_at(space, 0) is None
        assert text_at(space, memory.kernel) is None


@pytest.mark.parametrize("mode", ["32bit", "long"])
def test_the_string_behind_a_counted_one_is_read(mode: str, tmp_path: Path) -> None:
    memory = NtMemory(Spec(mode=mode, text="The Session Manager".encode("utf-16-le")))
    width = memory.width
    counted = (38).to_bytes(2, "little") + (40).to_bytes(2, "little") + bytes(width - 4)
    memory.write(memory.kernel + 0x3100, counted + memory.text_address.to_bytes(width, "little"))
    ram, space = opened(tmp_path, memory)
    with ram:
        assert text_at(space, memory.kernel + 0x3100) == "The Session Manager"


@pytest.mark.parametrize("mode", MODES)
def test_the_driver_around_an_address_is_named(mode: str, tmp_path: Path) -> None:
    memory = NtMemory(Spec(mode=mode, driver="c:\\build\\byretest.pdb"))
    ram, space = opened(tmp_path, memory)
    with ram:
        (kernel,) = find_kernels(ram, space)
        assert driver_at(space, kernel, memory.driver_address) == "byretest.sys"
        assert driver_at(space, kernel, memory.kernel + 0x2000) is None
        assert driver_at(space, kernel, 0x1000) is None


def test_a_kernel_in_one_piece_is_found_without_page_tables(tmp_path: Path) -> None:
    """An early STOP may come before paging can be followed; then the image is one piece of physical memory."""
    memory = NtMemory(Spec(bug_check=(0xA5, 1, 2, 3, 4)))
    image = b"".join(AddressSpaceOf(memory).page(memory.kernel + number * PAGE) for number in range(4))
    path = tmp_path / "ram"
    path.write_bytes(bytes(0x40_0000) + image + bytes(0x10000))
    with Ram.open(path) as ram:
        (kernel,) = find_kernels(ram, None)
        assert read_bug_check(kernel) == BugCheck(0xA5, (1, 2, 3, 4))


class AddressSpaceOf:
    """The pages of a builder by virtual address."""

    def __init__(self, memory: NtMemory) -> None:
        self.memory = memory

    def page(self, address: int) -> bytes:
        return bytes(self.memory.frames[self.memory.virtual[address // PAGE]])


def test_a_large_page_is_translated(tmp_path: Path) -> None:
    path = tmp_path / "ram"
    directory = bytearray(PAGE)
    directory[4 * 0x200 : 4 * 0x200 + 4] = (0x80_0000 | 0x83).to_bytes(4, "little")
    path.write_bytes(bytes(PAGE) + directory + bytes(0x80_0000 - 2 * PAGE) + bytes(0x1234) + b"here" + bytes(PAGE))
    with Ram.open(path) as ram:
        space = AddressSpace(ram, PAGE, "32bit")
        assert space.translate(0x8000_1234) == 0x80_1234
        assert space.read(0x8000_1234, 4) == b"here"
        assert space.kernel_addresses(0x80_1000) == (0x8000_1000,)
        assert space.translate(0x1234) is None


def test_a_list_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    memory = NtMemory(Spec())
    ram, space = opened(tmp_path, memory)
    with ram:
        kernel = find_kernels(ram, space)[0]
        system = first_process(kernel)
        assert system is not None
        memory.write(system + 0x88, (system + 0x88).to_bytes(4, "little"))
        memory.save(tmp_path / "ram")
        assert [each.name for each in read_processes(space, kernel)] == ["System"]


def test_memory_that_is_not_there_is_an_error_and_its_end_is_not(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Ram.open(tmp_path / "none")
    (tmp_path / "ram").write_bytes(b"abc")
    with Ram.open(tmp_path / "ram") as ram:
        assert ram.read(1, 10) == b"bc"
        assert ram.read(3, 1) == ram.read(-1, 1) == b""
        assert list(ram.slices()) == [(0, b"abc")]


@pytest.mark.fuzz
@pytest.mark.parametrize("mode", MODES)
def test_no_damage_to_memory_raises_or_hangs(mode: str, tmp_path: Path) -> None:
    rng = random.Random(f"memory {mode}")
    memory = NtMemory(Spec(mode=mode, text=b"text", driver="x.pdb", bug_check=(0xD1, 1, 2, 3, 4)))
    path = memory.save(tmp_path / "ram", size=8 << 20)
    clean = path.read_bytes()
    used = [address for address, _ in memory.pieces()]
    for _ in range(40):
        data = bytearray(clean)
        for _ in range(rng.randrange(1, 200)):
            at = rng.choice(used) + rng.randrange(PAGE)
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(data)
        with Ram.open(path) as ram:
            space = AddressSpace(ram, memory.root, mode)
            for kernel in find_kernels(ram, space):
                read_bug_check(kernel)
                read_processes(space, kernel)
                driver_at(space, kernel, memory.driver_address)
            text_at(space, memory.text_address)

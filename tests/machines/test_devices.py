"""The devices a board may name: fw_cfg, PCI configuration space, registers that remember. QEMU has the real ones:
tests/outside/test_foreign.py runs one kernel on both."""

from __future__ import annotations

from buildsys.machines.fw_cfg import DMA_HIGH, DMA_LOW, ERROR, READ, SELECT, SELECTOR, SKIP, WRITE, FwCfg
from buildsys.machines.pcie import Pcie
from buildsys.machines.registers import Registers


class Memory:
    """RAM of 64 KiB from 0 on."""

    def __init__(self) -> None:
        self.bytes = bytearray(1 << 16)

    def load(self, address: int, size: int) -> bytes | None:
        return bytes(self.bytes[address : address + size]) if address + size <= len(self.bytes) else None

    def store(self, address: int, data: bytes) -> None:
        self.bytes[address : address + len(data)] = data


def device(*files: str) -> tuple[FwCfg, Memory]:
    memory = Memory()
    return FwCfg(files, memory.load, memory.store), memory


def select(fw_cfg: FwCfg, key: int) -> None:
    fw_cfg.write(SELECTOR, 2, int.from_bytes(key.to_bytes(2, "big"), "little"))


def taken(fw_cfg: FwCfg, count: int) -> bytes:
    return bytes(fw_cfg.read(0, 1) for _ in range(count))


def transferred(fw_cfg: FwCfg, memory: Memory, control: int, length: int, address: int) -> int:
    """The control word behind a transfer."""
    place = 0x100
    memory.store(place, control.to_bytes(4, "big") + length.to_bytes(4, "big") + address.to_bytes(8, "big"))
    fw_cfg.write(DMA_HIGH, 8, int.from_bytes(place.to_bytes(8, "big"), "little"))
    return int.from_bytes(memory.bytes[place : place + 4], "big")


def test_the_signature_and_the_directory_are_read_byte_by_byte() -> None:
    fw_cfg, _ = device("opt/other", "etc/ramfb")
    select(fw_cfg, 0)
    assert taken(fw_cfg, 6) == b"QEMU\0\0"
    select(fw_cfg, 0x19)
    assert taken(fw_cfg, 4) == b"\0\0\0\2"
    assert taken(fw_cfg, 64) == b"\0\0\0\0" + b"\0\x20" + b"\0\0" + b"opt/other".ljust(56, b"\0")
    assert taken(fw_cfg, 64) == b"\0\0\0\x1c" + b"\0\x21" + b"\0\0" + b"etc/ramfb".ljust(56, b"\0")


def test_a_wider_read_has_the_first_byte_first() -> None:
    fw_cfg, _ = device()
    select(fw_cfg, 0)
    assert fw_cfg.read(0, 4).to_bytes(4, "little") == b"QEMU"
    assert fw_cfg.read(DMA_HIGH, 8).to_bytes(8, "little") == b"QEMU CFG"


def test_a_transfer_reads_skips_and_writes() -> None:
    fw_cfg, memory = device("etc/ramfb")
    memory.store(0x200, bytes(range(28)))
    assert transferred(fw_cfg, memory, 0x20 << 16 | SELECT | WRITE, 28, 0x200) == 0
    assert transferred(fw_cfg, memory, 0x20 << 16 | SELECT | SKIP, 4, 0) == 0
    assert transferred(fw_cfg, memory, READ, 8, 0x300) == 0
    assert memory.bytes[0x300:0x308] == bytes(range(4, 12))


def test_a_transfer_in_two_halves_is_begun_by_the_lower_one() -> None:
    fw_cfg, memory = device()
    memory.store(0x100, (SELECT | READ).to_bytes(4, "big") + (4).to_bytes(4, "big") + (0x200).to_bytes(8, "big"))
    fw_cfg.write(DMA_HIGH, 4, 0)
    assert memory.bytes[0x200:0x204] == bytes(4)
    fw_cfg.write(DMA_LOW, 4, int.from_bytes((0x100).to_bytes(4, "big"), "little"))
    assert memory.bytes[0x200:0x204] == b"QEMU"


def test_what_cannot_be_written_is_an_error() -> None:
    fw_cfg, memory = device("etc/ramfb", "opt/other")
    assert transferred(fw_cfg, memory, 0x21 << 16 | SELECT | WRITE, 4, 0x200) == ERROR
    assert transferred(fw_cfg, memory, 0x20 << 16 | SELECT | WRITE, 29, 0x200) == ERROR
    assert transferred(fw_cfg, memory, 0x20 << 16 | SELECT | WRITE, 28, 1 << 20) == ERROR


def test_an_empty_pci_bus_has_its_bridge_and_else_reads_as_ones() -> None:
    space = Pcie()
    assert (space.read(0, 4), space.read(0, 2), space.read(2, 2)) == (0x00081B36, 0x1B36, 0x0008)
    assert (space.read(1 << 15, 4), space.read(1 << 12, 2), space.read(1 << 20, 1)) == (0xFFFFFFFF, 0xFFFF, 0xFF)
    space.write(0, 4, 0)
    assert space.read(0, 4) == 0x00081B36


def test_registers_remember_by_the_byte() -> None:
    registers = Registers()
    assert registers.read(8, 8) == 0
    registers.write(8, 4, 0x11223344)
    registers.write(9, 1, 0xAA)
    assert registers.read(8, 8) == 0x1122AA44

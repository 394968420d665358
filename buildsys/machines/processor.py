"""Unicorn's AArch64 core, set up to be the core of a board.

All that has to be known of Unicorn and its binding is here: it is a QEMU 5.0 core without
a machine, and several of its habits (each named where it is dealt with) are not a board's.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import struct
from collections.abc import Callable
from typing import Any

from buildsys.errors import UserError
from buildsys.formats.syndrome import ACCESSES, EXTERNAL, FETCHES, IL, WRITE

# A board's `cpu` and Unicorn's constant for it: the AArch64 cores QEMU and Unicorn both know.
MODELS = {
    "cortex-a53": "UC_CPU_ARM64_A53",
    "cortex-a57": "UC_CPU_ARM64_A57",
    "cortex-a72": "UC_CPU_ARM64_A72",
    "max": "UC_CPU_ARM64_MAX",
}

# System registers as Unicorn wants them: (CRn, CRm, op0, op1, op2).
SPSR_EL1 = (4, 0, 3, 0, 0)
CPACR_EL1 = (1, 0, 3, 0, 2)
NUMBERED = {"spsr_el1": SPSR_EL1, "tcr_el1": (2, 0, 3, 0, 2), "sctlr_el1": (1, 0, 3, 0, 0)}
# Those it knows by name.
NAMED = (
    "pstate", "esr_el1", "far_el1", "elr_el1", "sp_el0", "sp_el1", "vbar_el1", "ttbr0_el1", "ttbr1_el1", "mair_el1",
    "tpidr_el1",
)  # fmt: skip
SCR_EL3 = (1, 1, 3, 6, 0)
SCR_RW, SCR_HCE, SCR_NS = 1 << 10, 1 << 8, 1 << 0
# PSTATE at EL2 and EL3 after reset: their own stack pointers, every exception masked (Arm ARM C5.2).
EL2H, EL3H = 0x3C9, 0x3CD

NO_BLOCK = (1 << 64) - 1  # an address no code has: it is odd, and the last one
HOOK_BYTES = 64  # of struct hook, at least

# QEMU's exception numbers (target/arm/cpu.h) that need a thought of their own.
UNDEFINED, HVC, SMC = 1, 11, 13


class AccessError(Exception):
    """The core touched `address`, a physical one, where there is nothing; the text says how.

    `syndrome` is that of the external abort that a machine would have.
    """

    def __init__(self, how: str, address: int, syndrome: int) -> None:
        super().__init__(how)
        self.address, self.syndrome = address, syndrome


class CoreError(Exception):
    """Unicorn gave up, in its own words."""


class Processor:
    """One core, which leaves reset at EL`level`, and its physical memory.

    Raises UserError for a model Unicorn does not have.
    """

    def __init__(self, model: str, where: str, level: int = 1) -> None:
        if model not in MODELS:
            raise UserError(
                f"{where}: the embedded emulator has no processor {model!r}",
                f"it has {', '.join(MODELS)}; another one may run on QEMU",
            )
        # The binding's types are those of its Python 2 half, so it is used without.
        self._unicorn: Any = importlib.import_module("unicorn")
        self._arm: Any = importlib.import_module("unicorn.arm64_const")
        self._library: Any = importlib.import_module("unicorn.unicorn_py3.unicorn").uclib
        self._uc = self._unicorn.Uc(self._unicorn.UC_ARCH_ARM64, self._unicorn.UC_MODE_ARM)
        self._uc.ctl_set_cpu_model(getattr(self._arm, MODELS[model]))
        self._uc.ctl_set_tlb_mode(self._unicorn.UC_TLB_CPU)
        # Otherwise a run would end at the address `until`, and a jump to 0 would look like an end.
        self._uc.ctl_exits_enabled(True)
        # It starts at EL1 below an EL3 whose reset value says that EL1 is 32-bit: page tables and
        # fault codes would be AArch32's, and `eret` would not return. A core that begins at EL1
        # stays in the secure state, where no EL2 has a say; one that begins at EL3 chooses.
        if level > 1:
            self.set("pstate", EL2H if level == 2 else EL3H)
        self.set_system(SCR_EL3, SCR_RW | (SCR_NS | SCR_HCE if level == 2 else 0))
        # Let floating point trap until the guest enables it.
        self.set_system(CPACR_EL1, 0)
        self._context = self._uc.context_save()
        self._nothing_there: AccessError | None = None
        self._uc.hook_add(self._unicorn.UC_HOOK_MEM_UNMAPPED, self._note_access)

    # Registers.

    def get(self, name: str) -> int:
        """The register `name`: "x0", "sp", "pc", "pstate", "vbar_el1" …."""
        value: int = self._uc.reg_read(self._number(name))
        return value

    def set(self, name: str, value: int) -> None:
        """Write the register `name`."""
        self._uc.reg_write(self._number(name), value)

    def set_system(self, register: tuple[int, int, int, int, int], value: int) -> None:
        """Write a system register. Only this makes Unicorn heed a PSTATE written before."""
        self._uc.reg_write(self._arm.UC_ARM64_REG_CP_REG, (*register, value))

    def system(self, register: tuple[int, int, int, int, int]) -> int:
        """Read a system register."""
        value: int = self._uc.reg_read(self._arm.UC_ARM64_REG_CP_REG, register)
        return value

    def system_registers(self) -> dict[str, int]:
        """Those that tell of an exception and of the translation of addresses, by name."""
        named = {name: self.get(name) for name in NAMED}
        return named | {name: self.system(register) for name, register in NUMBERED.items()}

    def syndrome(self) -> tuple[int, int] | None:
        """ESR and fault address of the exception just reported; None if they cannot be read.

        Unicorn has no call for them, but they are in a saved context.
        """
        offset = _syndrome_offset(self._unicorn)
        if offset is None:
            return None
        self._uc.context_update(self._context)
        syndrome, _, address = struct.unpack_from("<IIQ", bytes(self._context), offset)
        return syndrome, address

    # Memory.

    def add_memory(self, origin: int, length: int, writable: bool) -> None:
        """Executable memory, all zero; a store to it goes to on_lost_write() unless `writable`."""
        rights = self._unicorn.UC_PROT_ALL
        self._uc.mem_map(origin, length, rights if writable else rights & ~self._unicorn.UC_PROT_WRITE)

    def add_device(
        self, origin: int, length: int, read: Callable[[int], int], write: Callable[[int, int], None]
    ) -> None:
        """Registers: `read(offset)` gives one, `write(offset, value)` changes one."""
        self._uc.mmio_map(
            origin,
            length,
            lambda uc, offset, size, data: read(offset),
            None,
            lambda uc, offset, size, value, data: write(offset, value),
            None,
        )

    def add_registers(
        self, origin: int, length: int, read: Callable[[int, int], int], write: Callable[[int, int, int], None]
    ) -> None:
        """As add_device(), for a device to which the size of an access matters: it is told the bytes, too."""
        self._uc.mmio_map(
            origin,
            length,
            lambda uc, offset, size, data: read(offset, size),
            None,
            lambda uc, offset, size, value, data: write(offset, size, value),
            None,
        )

    def load(self, address: int, size: int) -> bytes | None:
        """`size` bytes at a physical address, None where there is no memory."""
        try:
            return bytes(self._uc.mem_read(address, size))
        except self._unicorn.UcError:
            return None

    def store(self, address: int, data: bytes) -> None:
        """Put `data` at a physical address, whether the guest could or not."""
        self._uc.mem_write(address, data)

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes as the guest sees them, through its page tables; None where it sees nothing."""
        data = ctypes.create_string_buffer(size)
        # The binding has no method for this function; mem_read() takes physical addresses.
        failed = self._library.uc_vmem_read(
            self._uc._uch, ctypes.c_uint64(address), self._unicorn.UC_PROT_READ, data, ctypes.c_size_t(size)
        )
        return None if failed else data.raw

    def word(self, address: int) -> int | None:
        """The 32-bit word at `address`, as read() does."""
        data = self.read(address, 4)
        return None if data is None else int.from_bytes(data, "little")

    # Events.

    def on_exception(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with QEMU's number of each exception; the core then goes on at pc."""
        self._uc.hook_add(self._unicorn.UC_HOOK_INTR, lambda uc, number, data: callback(number))

    def on_lost_write(self, callback: Callable[[int, int], None]) -> None:
        """Call `callback` with address and size of each store to read-only memory."""

        def lost(uc: Any, access: int, address: int, size: int, value: int, data: object) -> bool:
            callback(address, size)
            return True  # "go on": the write is then dropped, as QEMU does with a ROM

        self._uc.hook_add(self._unicorn.UC_HOOK_MEM_WRITE_PROT, lost)

    def on_execution(self, address: int, callback: Callable[[], None]) -> None:
        """Call `callback` before each execution of the instruction at `address`."""
        hook = self._unicorn.UC_HOOK_CODE
        self._uc.hook_add(hook, lambda uc, at, size, data: callback(), begin=address, end=address)

    def on_block(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with the address of each run of instructions up to a branch, before it is executed."""
        self._uc.hook_add(self._unicorn.UC_HOOK_BLOCK, lambda uc, at, size, data: callback(at))

    # Running.

    def between_blocks(self) -> Callable[[bool], None]:
        """Have every block of code looked at before it runs; what is returned says whether the next one ends run().

        It may be called from another thread. Only there can a run that is stopped from outside go on: elsewhere
        Unicorn ends in the middle of an instruction, behind a load or store, and does all of it once more.

        Python at each block would take a hundred times as long as the blocks. So what is called is Unicorn's own
        function that stops a run, for addresses there are none of until it is to; and, so that blocks are
        translated with a place for it, another function of C that does nothing.
        """
        hooks = []
        for function, begin, end in (
            (ctypes.CDLL(None).abs, 1, 0),  # its argument, and nothing else
            (self._library.uc_emu_stop, NO_BLOCK, NO_BLOCK),
        ):
            hook = ctypes.c_size_t()
            failed = self._library.uc_hook_add(
                self._uc._uch, ctypes.byref(hook), self._unicorn.UC_HOOK_BLOCK,
                ctypes.cast(function, ctypes.c_void_p), None, ctypes.c_uint64(begin), ctypes.c_uint64(end),
            )  # fmt: skip
            assert not failed, f"Unicorn: {failed}"
            hooks.append(hook.value)
        # include/uc_priv.h: struct hook, which the handle points to; its addresses are heeded at each block.
        bounds = struct.pack("<QQ", NO_BLOCK, NO_BLOCK)
        place = hooks[1] + ctypes.string_at(hooks[1], HOOK_BYTES).index(bounds)
        first = ctypes.c_uint64.from_address(place)

        def stops(now: bool) -> None:
            first.value = 0 if now else NO_BLOCK

        return stops

    def run(self) -> None:
        """Run from pc until stop() or `wfi`. Raises AccessError, CoreError and whatever a callback raises."""
        self._nothing_there = None
        try:
            self._uc.emu_start(self.get("pc"), 0)
        except self._unicorn.UcError as error:
            if self._nothing_there is not None:
                raise self._nothing_there from None
            raise CoreError(f"Unicorn: {error}") from None

    def stop(self) -> None:
        """Make run() return; from a callback or another thread. It may be lost if run() is just beginning."""
        self._uc.emu_stop()

    def _number(self, name: str) -> int:
        number: int = getattr(self._arm, f"UC_ARM64_REG_{name.upper()}")
        return number

    def _note_access(self, uc: Any, access: int, address: int, size: int, value: int, data: object) -> bool:
        kinds = {
            self._unicorn.UC_MEM_READ_UNMAPPED: f"load of {size} bytes from",
            self._unicorn.UC_MEM_WRITE_UNMAPPED: f"store of {size} bytes to",
        }
        how = f"{kinds.get(access, 'instruction fetch from')} {address:#x}"
        kind = ACCESSES[1] if access in kinds else FETCHES[1]
        write = WRITE if access == self._unicorn.UC_MEM_WRITE_UNMAPPED else 0
        self._nothing_there = AccessError(how, address, kind << 26 | IL | write | EXTERNAL)
        return False


@functools.cache
def _syndrome_offset(unicorn: Any) -> int | None:
    """Where a saved context holds `env->exception`: syndrome and fsr (32 bits each), vaddress (64).

    Found by raising two exceptions whose syndromes are known: it then holds for any build of
    Unicorn that keeps the three together, as QEMU's target/arm/cpu.h declares them.
    """
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    uc.mem_map(0, 0x1000)
    immediates = (0x5A5A, 0x2DB4)
    svc, svc_syndrome = 0xD4000001, 0x56000000
    uc.mem_write(0, b"".join(struct.pack("<I", svc | immediate << 5) for immediate in immediates))
    saved: list[bytes] = []
    uc.hook_add(unicorn.UC_HOOK_INTR, lambda uc, number, data: saved.append(bytes(uc.context_save())))
    uc.emu_start(0, 4 * len(immediates), count=len(immediates))
    places = [
        {at for at, (word,) in enumerate(struct.iter_unpack("<I", context)) if word == svc_syndrome | immediate}
        for context, immediate in zip(saved, immediates, strict=True)
    ]
    common = set.intersection(*places)
    return 4 * common.pop() if len(common) == 1 else None

"""Boards that QEMU emulates: how each begins, reaches the console of the emulator, counts, and where things lie on it.

An image is C that is the same everywhere (`image`) behind what stands here: ``semihosting`` hands an operation and its
block to the emulator, ``COUNT`` reads a number that rises with the instructions done, ``START`` makes it run, and
``STACK`` where the stack is. A board begins at ``reset``, which calls ``serve``.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Of the timer, an instruction (``-icount``): 2^SHIFT ns.
SHIFT = 10


@dataclass(frozen=True)
class Emulator:
    """A board: ``command`` runs it but for the image, ``begins`` is the C that the image begins with, ``layout`` a
    script for the linker, and ``counted`` how far ``COUNT`` goes with an instruction."""

    command: tuple[str, ...]
    begins: str
    layout: str
    counted: float


_ARM = """\
#define TIMER ((volatile uint32_t *)0x40000000)
#define START() (TIMER[2] = TIMER[1] = 0xFFFFFFFFu, TIMER[0] = 1)
#define COUNT() (~TIMER[1])
#define STACK(top) __asm__ volatile("mov %0, sp" : "=r"(top))

static int semihosting(int operation, void *block)
{
    register int result __asm__("r0") = operation;
    register void *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : "+r"(result) : "r"(argument) : "memory");
    return result;
}

void reset(void);
void reset(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xF00000u; /* the unit for floats, if there is one */
    __asm__ volatile("dsb\\nisb");
    serve();
}

__attribute__((used, section(".vectors"))) static void *const vectors[16] = {&__stack, (void *)reset};
"""

#: Data lie in memory from the start: an emulator puts them there, and there is no loop that copies them.
_LAYOUT = """\
MEMORY
{
    flash (rx) : ORIGIN = %s, LENGTH = 4M
    ram (rwx) : ORIGIN = %s, LENGTH = 4M
}
ENTRY(reset)
SECTIONS
{
    .text : { KEEP(*(.vectors)) *(.text*) *(.rodata* .srodata*) } > flash
    .ARM.exidx : { *(.ARM.exidx*) } > flash
    .data : { *(.data* .sdata*) } > ram
    .tbss : { __threads = .; *(.tbss*) } > ram
    .bss : { . += SIZEOF(.tbss); *(.bss* .sbss*) *(COMMON) } > ram
    __free = ALIGN(8);
    __stack = ORIGIN(ram) + LENGTH(ram);
}
"""

#: The emulator takes a breakpoint between two instructions that do nothing for a call, if all three are of four bytes
#: and on one page. It counts 2^SHIFT cycles for each instruction. The C library keeps ``errno`` where the register for
#: threads points.
_RISC_V = (
    f"#define SHIFT {SHIFT}\n"
    + """\
#define START() ((void)0)
#define STACK(top) __asm__ volatile("mv %0, sp" : "=r"(top))
#define COUNT() counted()

extern uint32_t __threads;

#define READ(into, what) \\
    __asm__ volatile(".option push\\n.option arch, +zicsr\\ncsrr %0, " what "\\n.option pop" : "=r"(into))

static inline uint32_t counted(void)
{
    uint32_t high, low, again;
    do {
        READ(high, "mcycleh");
        READ(low, "mcycle");
        READ(again, "mcycleh");
    } while (again != high);
    return high << (32 - SHIFT) | low >> SHIFT;
}

__attribute__((naked, noinline, aligned(16))) static int semihosting(int operation, void *block)
{
    __asm__ volatile(".option norvc\\nslli x0, x0, 0x1f\\nebreak\\nsrai x0, x0, 7\\nret");
}

__attribute__((naked, used, section(".vectors"))) void reset(void)
{
    __asm__ volatile("la sp, __stack\\nla tp, __threads\\ncall serve");
}
"""
)


def _arm(machine: str) -> Emulator:
    """A board with its flash at 0 and a timer of 25 MHz, so that 2^SHIFT ns are so many of its ticks."""
    command = ("qemu-system-arm", "-M", machine)
    return Emulator(command, _ARM, _LAYOUT % ("0", "0x20000000"), 2**SHIFT / 40)


#: 4 MiB of flash and of memory each.
AN386, AN385 = _arm("mps2-an386"), _arm("mps2-an385")
#: A core of 32 bits that multiplies whole numbers and has no unit for floats.
RV32 = Emulator(
    ("qemu-system-riscv32", "-M", "virt", "-cpu", "rv32", "-bios", "none"),
    _RISC_V,
    _LAYOUT % ("0x80000000", "0x80400000"),
    1.0,
)

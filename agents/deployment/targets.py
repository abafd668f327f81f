"""The machines that C is written for: how to compile for each, what runs it here, and boards that have one."""

from __future__ import annotations

from dataclasses import dataclass

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.emulators import AN385, AN386, RV32, Emulator
from prunectl.registry import unknown


@dataclass(frozen=True)
class Target:
    """A kind of machine.

    ``tools`` is the prefix of its compiler's and linker's names, ``flags`` what they are told; ``emulator`` runs its
    images, None where there is none. ``install`` says where the tools are from.
    """

    name: str
    tools: str
    flags: tuple[str, ...]
    emulator: Emulator | None
    install: str


_DEBIAN = "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
#: A Cortex-M0+ is emulated as a Cortex-M3, whose instruction set holds its own: what is compiled for it runs the same
#: instructions. Older ESP32s have a processor of another kind, for which only Espressif has tools.
TARGETS = {
    target.name: target
    for target in (
        Target(
            "cortex-m4",
            "arm-none-eabi-",
            ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "--specs=nano.specs"),
            AN386,
            _DEBIAN,
        ),
        Target(
            "cortex-m0plus",
            "arm-none-eabi-",
            ("-mcpu=cortex-m0plus", "-mthumb", "-mfloat-abi=soft", "--specs=nano.specs"),
            AN385,
            _DEBIAN,
        ),
        Target(
            "esp32-c3",
            "riscv64-unknown-elf-",
            ("-march=rv32imc", "-mabi=ilp32", "--specs=picolibc.specs"),
            RV32,
            "apt install gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf qemu-system-misc",
        ),
        Target("esp32", "xtensa-esp32-elf-", ("-mlongcalls",), None, "ESP-IDF's tools, from Espressif"),
        Target("x86", "", (), None, "apt install gcc"),
    )
}


@dataclass(frozen=True)
class Board:
    """One that is sold: bytes of ``flash`` and of ``ram``, and its ``clock`` in MHz; from the makers' data sheets."""

    name: str
    target: str
    flash: int
    ram: int
    clock: int


_KIB = 1024
BOARDS = (
    Board("Nucleo-F303K8", "cortex-m4", 64 * _KIB, 12 * _KIB, 72),
    Board("Nucleo-G431RB", "cortex-m4", 128 * _KIB, 32 * _KIB, 170),
    Board("Nucleo-F411RE", "cortex-m4", 512 * _KIB, 128 * _KIB, 100),
    Board("micro:bit v2", "cortex-m4", 512 * _KIB, 128 * _KIB, 64),
    Board("Arduino Nano 33 BLE", "cortex-m4", 1024 * _KIB, 256 * _KIB, 64),
    Board("Nucleo-L476RG", "cortex-m4", 1024 * _KIB, 128 * _KIB, 80),
    Board("Nucleo-L053R8", "cortex-m0plus", 64 * _KIB, 8 * _KIB, 32),
    Board("Nucleo-G071RB", "cortex-m0plus", 128 * _KIB, 36 * _KIB, 64),
    Board("Arduino Zero", "cortex-m0plus", 256 * _KIB, 32 * _KIB, 48),
    Board("Raspberry Pi Pico", "cortex-m0plus", 2048 * _KIB, 264 * _KIB, 133),
    Board("ESP32-C3-DevKitM-1", "esp32-c3", 4096 * _KIB, 400 * _KIB, 160),
    Board("ESP32-DevKitC", "esp32", 4096 * _KIB, 520 * _KIB, 240),
)


def target_of(name: str) -> Target:
    """The target of a name.

    Raises:
        ControllerError: there is none.
    """
    if name not in TARGETS:
        raise ControllerError(unknown("target", name, TARGETS))
    return TARGETS[name]

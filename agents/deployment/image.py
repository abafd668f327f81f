"""C of ours compiled for a target: what it takes there, and for an emulated board an image that drives it.

The image reads rows of observations (with what is beside them) from a console that the emulator joins to its own
standard input, and writes what came out: nothing but the controller is different from firmware.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.targets import Target

#: Optimisation, and C99 as such, in which gcc joins no product and sum into one rounding: the same floats everywhere.
FLAGS = ("-std=c99", "-O2", "-ffunction-sections", "-fdata-sections")

#: A decision's reply ends with how far the board's timer went, and the input's end is answered by the stack's depth.
#: Anything of floats waits in `serve` until `reset` has switched their unit on: a function saves their registers first.
_MAIN = """\
#include "{name}.h"

#include <stdint.h>

#define UPPER(what) {upper}_##what
#define PAINT 0x5AFEC0DEu

extern uint32_t __stack, __free;
__attribute__((noinline)) void serve(void);
{begins}
static struct {{
    float observation[UPPER(OBSERVATIONS)];
    float beside[{beside} + 1];
}} given;
static struct {{
    {kind} action[UPPER(ACTIONS)];
    float after[{memory} + 1];
}} answer;

static int opened(int mode)
{{
    uint32_t block[3];
    block[0] = (uint32_t)":tt", block[1] = (uint32_t)mode, block[2] = 3;
    return semihosting(0x01, block);
}}

static int got(int handle, void *into, uint32_t count)
{{
    uint32_t block[3], left;
    for (block[1] = (uint32_t)into; count > 0; count = left) {{
        block[0] = (uint32_t)handle, block[2] = count;
        left = (uint32_t)semihosting(0x06, block);
        if (left >= count) return 0;
        block[1] += count - left;
    }}
    return 1;
}}

static void put(int handle, const void *from, uint32_t count)
{{
    uint32_t block[3];
    block[0] = (uint32_t)handle, block[1] = (uint32_t)from, block[2] = count;
    semihosting(0x05, block);
}}

void serve(void)
{{
    const int in = opened(1), out = opened(5);
    uint32_t *top, *p, from, passed;
    STACK(top);
    for (p = &__free; p < top; p++) *p = PAINT;
    START();
    while (got(in, &given, sizeof given - sizeof(float))) {{
        from = COUNT();
        {name}_act(given.observation, {passed}answer.action);
        passed = COUNT() - from;
        for (from = 0; from < {memory}; from++) answer.after[from] = given.beside[from];
        put(out, &answer, sizeof answer - sizeof(float));
        put(out, &passed, sizeof passed);
    }}
    for (p = &__free; *p == PAINT; p++) {{}}
    passed = (uint32_t)((char *)top - (char *)p);
    put(out, &passed, sizeof passed);
    semihosting(0x18, (void *)0x20026);
}}
"""


@dataclass(frozen=True)
class Size:
    """Bytes of a controller linked for a target: ``flash`` is code, constants and initial values, of the C library's
    functions that it calls too where the target has an image; ``memory`` what it keeps between decisions."""

    flash: int
    memory: int


def require(target: Target) -> None:
    """Raise ControllerError, saying what to install, where a tool for the target is absent."""
    tools = [f"{target.tools}gcc", f"{target.tools}size"]
    if target.emulator is not None:
        tools += [f"{target.tools}objcopy", target.emulator.command[0]]
    for tool in tools:
        if shutil.which(tool) is None:
            raise ControllerError(f"there is no {tool} here, which {target.name} needs: {target.install}")


def linked_size(code: Path, name: str, target: Target) -> Size:
    """What a C file (its header beside it) takes, its function ``NAME_act`` being all that is called.

    Raises:
        ControllerError: a tool is absent, or refuses.
    """
    require(target)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "linked")
        if target.emulator is None:
            _gcc(target, ["-c", str(code), "-o", str(made)])
        else:
            _link(target, [str(code), f"-Wl,--entry={name}_act"], made)
        text, data, bss, *_ = _call([f"{target.tools}size", str(made)]).splitlines()[1].split()
    return Size(int(text) + int(data), int(data) + int(bss))


def image(code: Path, name: str, beside: Mapping[str, int], discrete: bool, said: str, target: Target) -> bytes:
    """An ELF file that serves the controller on the target's emulated board.

    Args:
        code: its C file, the header beside it.
        name: what its function is named after.
        beside: how many numbers of ``memory`` or of a ``mask`` it is given.
        discrete: whether whole numbers come out.
        said: text that is put into the file, for who reads it.
        target: one with an emulator.

    Raises:
        ControllerError: a tool is absent or refuses, or the controller is larger than the board.
    """
    require(target)
    assert target.emulator is not None
    text = _MAIN.format(
        begins=target.emulator.begins,
        name=name,
        upper=name.upper(),
        kind="int" if discrete else "float",
        beside=sum(beside.values()),
        memory=beside.get("memory", 0),
        passed="given.beside, " if beside else "",
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "main.c").write_text(text)
        (folder / "said").write_text(said)
        _link(target, [str(folder / "main.c"), str(code), "-I", str(code.parent)], folder / "image")
        section = f".prunectl={folder / 'said'}"
        _call([f"{target.tools}objcopy", "--add-section", section, str(folder / "image"), str(folder / "elf")])
        return (folder / "elf").read_bytes()


def _link(target: Target, sources: Sequence[str], made: Path) -> None:
    """Compile and link as things lie on the target's board."""
    assert target.emulator is not None
    layout = made.with_name("board.ld")
    layout.write_text(target.emulator.layout)
    _gcc(target, [*sources, "-T", str(layout), "-nostartfiles", "-Wl,--gc-sections", "-lm", "-o", str(made)])


def _gcc(target: Target, arguments: Sequence[str]) -> None:
    _call([f"{target.tools}gcc", *FLAGS, *target.flags, *arguments])


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if "overflowed" in done.stderr:
            raise ControllerError("it does not fit into the 4 MiB of flash and of memory of the emulated board")
        raise ControllerError(f"{command[0]} refuses: {' '.join(done.stderr.split())[:200]}")
    return done.stdout

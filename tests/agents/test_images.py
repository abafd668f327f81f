"""Images for an emulated board: what they answer, what is counted there, and that none runs without being trusted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from prunectl import agents
from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.c_form import c_source
from prunectl.agents.deployment.c_texts import comment
from prunectl.agents.deployment.emulated import EmulatedController, load_elf
from prunectl.agents.deployment.image import image, linked_size, require
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.program import Program, program
from prunectl.agents.deployment.steps import Affine, Map
from prunectl.agents.deployment.targets import BOARDS, TARGETS, target_of
from prunectl.experiments.deploying.few_bits import Bits, in_few_bits
from tests.conftest import needs_arm, needs_risc_v, untrained

M4 = TARGETS["cortex-m4"]
PLAIN = Interface("by hand", 1, spaces.Box(-1, 1, (1,)), 1)

#: 2 instructions a turn, and 5 or 6 around them: the call, its argument in a register, the loop's counter, a load and a
#: store, and the return.
_TURNS = """\
#include "turns.h"
__attribute__((naked)) void turns_act(const float observation[1], float action[1])
{{
    __asm__ volatile("{turns}");
}}
"""
_THUMB = ".syntax unified; ldr r2, [r0]; str r2, [r1]; ldr r3, ={}; 1: subs r3, #1; bne 1b; bx lr"
_RISC_V = "lw a2, 0(a0); sw a2, 0(a1); lui a3, %hi({0}); addi a3, a3, %lo({0}); 1: addi a3, a3, -1; bnez a3, 1b; ret"


def running(folder: Path, code: str, header: str, name: str, interface: Interface, target: str = "cortex-m4") -> Path:
    (folder / f"{name}.c").write_text(code)
    (folder / f"{name}.h").write_text(header)
    said = comment({**interface.as_json({"task": None, "training_seed": None}), "target": target})
    discrete = not isinstance(interface.action_space, spaces.Box)
    made = image(folder / f"{name}.c", name, {}, discrete, said, TARGETS[target])
    (folder / f"{name}.elf").write_bytes(made)
    return folder / f"{name}.elf"


@pytest.mark.parametrize(
    ("target", "loop", "most"),
    [
        pytest.param("cortex-m4", _THUMB, 10, marks=needs_arm),
        pytest.param("cortex-m0plus", _THUMB, 10, marks=needs_arm),
        pytest.param("esp32-c3", _RISC_V, 16, marks=needs_risc_v),  # what reads its counter is counted too
    ],
    ids=["m4", "m0plus", "c3"],
)
def test_instructions_are_those_of_a_loop_of_known_length(target: str, loop: str, most: int, tmp_path: Path) -> None:
    header = "#define TURNS_OBSERVATIONS 1\n#define TURNS_ACTIONS 1\nvoid turns_act(const float *, float *);\n"
    counted = []
    for turns, decisions in ((100, 9_000), (1_234, 9_000), (3_000_000, 2)):
        elf = running(tmp_path, _TURNS.format(turns=loop.format(turns)), header, "turns", PLAIN, target)
        controller, _ = load_elf(elf, trust=True)
        rows = np.linspace(-1, 1, decisions, dtype=np.float32)[:, None]  # first more than are on their way at once
        assert (controller.act(rows) == rows).all()
        assert len(set(controller.instructions)) == 1
        counted.append(controller.instructions[0] - 2 * turns)
    assert len(set(counted)) == 1  # to the instruction
    assert 6 <= counted[0] <= most


@needs_arm
def test_flash_is_what_was_linked_and_ram_what_the_stack_reached(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(64, 1)).astype(np.float32)
    back = generator.normal(size=(1, 64)).astype(np.float32)
    steps = (Affine(weight, np.zeros(64, np.float32)), Map("relu"), Affine(back, np.zeros(1, np.float32)))
    made = Program(1, steps)
    source = c_source(made, "small.c", {}, np.zeros((1, 1), np.float32), 0.0)
    elf = running(tmp_path, source.code, source.header, "small", PLAIN)
    size = linked_size(tmp_path / "small.c", "small", M4)
    assert source.costs.flash < size.flash < source.costs.flash + 1_000  # nothing of libm is called, so code alone
    assert size.memory == 0
    controller, _ = load_elf(elf, trust=True)
    controller.act(np.ones((3, 1), np.float32))
    assert source.costs.ram <= controller.stack() < source.costs.ram + 100
    assert linked_size(tmp_path / "small.c", "small", TARGETS["x86"]).flash > source.costs.flash


@pytest.mark.parametrize(
    "target",
    [pytest.param("cortex-m4", marks=needs_arm), pytest.param("esp32-c3", marks=needs_risc_v)],
    ids=["m4", "c3"],
)
@pytest.mark.parametrize(("algorithm", "task"), [("sac", "Pendulum-v1"), ("ppo", "CartPole-v1")])
@pytest.mark.parametrize("bits", [None, 8, 4], ids=["float", "int8", "int4"])
def test_the_board_answers_as_the_program_does(
    target: str, algorithm: str, task: str, bits: Bits | None, tmp_path: Path
) -> None:
    controller = untrained(algorithm, task)
    rows = np.random.default_rng(0).normal(size=(64, *controller.observation_space.shape)).astype(np.float32)
    made = program(controller.deployed_path(), rows.shape[1])
    made = made if bits is None else in_few_bits(made, rows, bits)
    source = c_source(made, "small.c", {}, rows[:1], 0.0)
    elf = running(tmp_path, source.code, source.header, "small", Interface.of(controller), target)
    loaded = agents.load(elf, trust=True)
    assert loaded.controller.action_space == controller.action_space
    found = loaded.controller.act(rows)
    assert found.dtype == controller.act(rows).dtype
    np.testing.assert_allclose(found, made(rows), atol=1e-6)
    assert isinstance(loaded.controller, EmulatedController)
    first = list(loaded.controller.instructions)
    loaded.controller.act(rows)
    assert loaded.controller.instructions[len(rows) :] == first


@needs_arm
def test_images_are_run_on_the_users_word_alone_and_only_ours(tmp_path: Path) -> None:
    code = '#include "x.h"\nvoid x_act(const float *in, float *out) { __asm__("udf #0"); }'
    header = "#define X_OBSERVATIONS 1\n#define X_ACTIONS 1\nvoid x_act(const float *, float *);\n"
    elf = running(tmp_path, code, header, "x", PLAIN)
    with pytest.raises(ControllerError, match="--trust, on your word"):
        agents.load(elf)
    with pytest.raises(ControllerError, match="the emulated board stopped"):
        agents.load(elf, trust=True).controller.act(np.zeros((1, 1)))
    content = elf.read_bytes()
    for target, says in (
        ("pdp-11rsx", "unknown target 'pdp-11rsx': there are cortex-m4"),
        ("esp32", "it is for esp32, which"),
    ):
        said = f'"target": "{target}"'.ljust(len('"target": "cortex-m4"'))
        elf.write_bytes(content.replace(b'"target": "cortex-m4"', said.encode()))
        with pytest.raises(ControllerError, match=says):
            agents.load(elf, trust=True)
    for other in (b"/* prunectl: {} */", content.replace(b"/* prunectl", b"/* somebody")):
        elf.write_bytes(other)
        with pytest.raises(ControllerError, match="only images that `prunectl export` wrote do"):
            agents.load(elf, trust=True)


def test_where_a_tool_is_absent_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "qemu-system-arm" else tool)
    with pytest.raises(ControllerError, match="there is no qemu-system-arm here, which cortex-m4 needs: apt install"):
        require(M4)
    require(target_of("x86"))


def test_every_board_is_of_a_target() -> None:
    assert {board.target for board in BOARDS} <= set(TARGETS)
    assert len({board.name for board in BOARDS}) == len(BOARDS)

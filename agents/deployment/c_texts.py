"""What stands around the C of a program: its numbers, what it says of itself, its header and its test."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.deployment.metadata import KEY
from prunectl.agents.deployment.program import Program
from prunectl.agents.deployment.steps import Argmax, Bound, Diagonal, Pick, QuantisedAffine


@dataclass(frozen=True)
class Costs:
    """What a controller takes on the machine that it runs on: bytes of constants, bytes of stack, and
    multiply-accumulates a decision. Code, call frames and the caller's memory come on top."""

    flash: int
    ram: int
    macs: int


def shape(values: NDArray[Any]) -> str:
    return "".join(f"[{size}]" for size in values.shape)


def braces(values: NDArray[Any]) -> str:
    if values.ndim > 1:
        return "{\n" + ",\n".join(braces(row) for row in values) + "}"
    write = str if values.dtype.kind in "iu" else decimal
    return "{" + ", ".join(write(value) for value in values) + "}"


def decimal(value: Any) -> str:
    """The shortest decimal that is this float."""
    return f"{np.float32(value)!s}f"


def comment(metadata: Mapping[str, Any]) -> str:
    """JSON in a comment that nothing in it can end."""
    text = json.dumps(metadata).replace("*/", "*\\u002f").replace("/*", "\\u002f*")
    return f"/* {KEY}: {text} */"


def _meaning(program: Program, held_steps: int) -> str:
    several = "an index each" if isinstance(program.steps[-1], Argmax) else "1 or 0 each"
    chosen = "the index of the action" if program.single else several
    what = chosen if program.discrete else "in the task's own units"
    return what if held_steps == 1 else f"{what}, held for {held_steps} steps of the task"


def _read(program: Program) -> str:
    """Which observations are read where that are not all, as runs of indices."""
    first = next((step for step in program.steps if not isinstance(step, Diagonal | Bound)), None)
    if not isinstance(first, Pick):
        return ""
    index = first.index
    runs = np.split(np.asarray(index), np.flatnonzero(np.diff(index) > 1) + 1)
    said = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
    text = f"Of the observations {len(index)} are read, counted from 0: {said}. The others may be anything."
    return "".join(f" * {line}\n" for line in textwrap.wrap(text, 112))


#: What the header says of what is beside the observation.
_BESIDE = {
    "memory": (
        " * What it remembers is the caller's, {bytes:,} bytes: memory has to be zeros as an episode begins,\n"
        " * and a decision leaves there what the next one needs. Allocates nothing, needs libm alone."
    ),
    "mask": (
        " * mask has a number for each option, above 0 where it is allowed.\n"
        " * Keeps no state, allocates nothing, needs libm alone."
    ),
    "nothing": " * Keeps no state, allocates nothing, needs libm alone.",
}

_HEADER = """\
/* A neural controller, written by prunectl: {program.inputs} observations to an action, {form}.
 *
 *     flash  {costs.flash:>9,} bytes of constants
 *     RAM    {costs.ram:>9,} bytes of stack
 *     work   {costs.macs:>9,} multiply-accumulates a decision
 *
 * Observations are as the task gives them, in its order and units; the action is {meaning}.
{read}{beside}
 * Weights of eight bits are a quarter of the bytes of floats. On a Cortex-M4 layers of 256 units take half of the
 * instructions with them, of 64 nearly as many, small ones more; on a Cortex-M0+, which has no floats, 0.07 to 0.7 of
 * them; on a desktop's processor about the same time. With four bits all of it takes 0.6 to 1 of the flash of eight,
 * and 1.1 to 1.3 times the instructions on a Cortex-M4, 1 to 1.1 times on a Cortex-M0+.
 * {name}_test.c checks it: cc {name}_test.c {file} -lm
 */
#ifndef {upper}_H
#define {upper}_H

#define {upper}_OBSERVATIONS {program.inputs}
#define {upper}_ACTIONS {program.outputs}
{defined}
#ifdef __cplusplus
extern "C" {{
#endif

{declared};

#ifdef __cplusplus
}}
#endif

#endif
"""

_CHECK = """\
static const float observations[{count}][{upper}_OBSERVATIONS] = {observations};
static const {kind} expected[{count}][{upper}_ACTIONS] = {expected};
{masks}
static int wrong(double *largest)
{{
    int found = 0, n, a;
{memory}    for (n = 0; n < {count}; n++) {{
        {kind} action[{upper}_ACTIONS];
        {name}_act(observations[n], {passed}action);
        for (a = 0; a < {upper}_ACTIONS; a++) {{
            const double difference = fabs((double)action[a] - (double)expected[n][a]);
            found += !(difference <= {tolerance});
            *largest = difference > *largest ? difference : *largest;
        }}
    }}
    return found;
}}
"""

_TEST = """\
/* Expected actions for some observations of {name}: exit status 0 if they come out. */
#include "{name}.h"

#include <math.h>
#include <stdio.h>

{check}
int main(void)
{{
    double largest = 0.0;
    const int found = wrong(&largest);
    printf("{name}: %d wrong, largest difference %g over {count} observations\\n", found, largest);
    return found != 0;
}}
"""


def kind(program: Program) -> str:
    """What an action is of, in C."""
    return "int" if program.discrete else "float"


def signature(program: Program, name: str) -> str:
    """The function's: the observation, what is beside it, and where the action goes."""
    upper, beside = name.upper(), ""
    if program.beside is not None:
        constant = "" if program.memory else "const "
        beside = f"{constant}float {program.beside[0]}[{upper}_{program.beside[0].upper()}], "
    action = f"{kind(program)} action[{upper}_ACTIONS]"
    return f"void {name}_act(const float observation[{upper}_OBSERVATIONS], {beside}{action})"


def header(program: Program, name: str, file: str, costs: Costs, held_steps: int) -> str:
    """What ``NAME.h`` holds."""
    beside, defined = _BESIDE["nothing"], ""
    if program.beside is not None:
        what, width = program.beside
        beside, defined = _BESIDE[what].format(bytes=4 * width), f"#define {name.upper()}_{what.upper()} {width}\n"
    bits = next((step.bits for step in program.steps if isinstance(step, QuantisedAffine)), None)
    form = "float weights" if bits is None else f"int{bits} weights"
    return _HEADER.format(
        name=name,
        file=file,
        upper=name.upper(),
        form=form,
        costs=costs,
        declared=signature(program, name),
        program=program,
        meaning=_meaning(program, held_steps),
        read=_read(program),
        beside=beside,
        defined=defined,
    )


def check(program: Program, name: str, examples: NDArray[Any], tolerance: float) -> str:
    """``wrong``, which counts the actions that do not come out, and the largest difference: for a test or a sketch."""
    observations, beside = np.split(np.asarray(examples, dtype=np.float32), [program.inputs], axis=1)
    masks = memory = passed = ""
    if program.memory:  # from zeros, each decision after the one before
        now, decided = np.zeros((1, program.memory), np.float32), []
        for row in observations:
            action, now = program.decide(row[None], now)
            decided.append(action)
        actions = np.concatenate(decided)
        memory = f"    float memory[{name.upper()}_MEMORY] = {{0.0f}}; /* zeros, as an episode begins */\n"
        passed = "memory, "
    else:
        actions = program.decide(observations, beside)[0]
    if program.beside is not None and not program.memory:
        masks = f"static const float masks[{len(examples)}][{name.upper()}_MASK] = {braces(beside)};\n"
        passed = "masks[n], "
    actions = actions.reshape(len(examples), -1)
    return _CHECK.format(
        name=name,
        upper=name.upper(),
        kind=kind(program),
        count=len(examples),
        observations=braces(observations),
        expected=braces(actions if program.discrete else actions.astype(np.float32)),
        masks=masks,
        memory=memory,
        passed=passed,
        tolerance=repr(0.0 if program.discrete else float(tolerance)),
    )


def test(name: str, checked: str, count: int) -> str:
    """What ``NAME_test.c`` holds, around a `check` of so many observations."""
    return _TEST.format(name=name, check=checked, count=count)

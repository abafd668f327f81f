"""A program as C99: one file and its header, no allocation, nothing beyond libm; and a test that carries its own data.

Weights lie input-major and four inputs are taken at a time: sums of different outputs are independent of each other, so
compilers vectorise them without being allowed to reorder a sum. Rows are padded to whole vectors of 16 bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.deployment.metadata import KEY
from prunectl.agents.deployment.program import (
    MOST,
    Affine,
    Argmax,
    Bound,
    Convolution,
    Diagonal,
    LayerNorm,
    Map,
    Program,
    QuantisedAffine,
    Simplices,
    Switches,
)

#: Activations as C expressions of ``v``; NaN stays NaN.
_EXPRESSIONS = {
    "relu": "v < 0.0f ? 0.0f : v",
    "tanh": "tanhf(v)",
    "sigmoid": "1.0f / (1.0f + expf(-v))",
    "silu": "v / (1.0f + expf(-v))",
    "elu": "v < 0.0f ? {alpha} * expm1f(v) : v",
    "leaky_relu": "v < 0.0f ? {alpha} * v : v",
    "mish": "v > 20.0f ? v : v * tanhf(log1pf(expf(v)))",
    "abs": "fabsf(v)",
}


@dataclass(frozen=True)
class Costs:
    """What a controller takes on the machine that it runs on: bytes of constants, bytes of stack, and
    multiply-accumulates a decision. Code and call frames come on top."""

    flash: int
    ram: int
    macs: int


@dataclass(frozen=True)
class CSource:
    """The texts of ``NAME.c``, ``NAME.h`` and ``NAME_test.c``, and what the code costs."""

    code: str
    header: str
    test: str
    costs: Costs


def identifier(stem: str) -> str:
    """A file's stem as a C identifier: other characters become underscores, and it begins with a letter."""
    name = re.sub(r"[^0-9A-Za-z_]+", "_", stem).strip("_")
    return name if name[:1].isalpha() else f"controller_{name}".rstrip("_")


def c_source(
    program: Program, file: str, metadata: Mapping[str, Any], examples: NDArray[Any], tolerance: float
) -> CSource:
    """The code of a program, its functions named after the `identifier` of its file.

    Args:
        program: in float or with quantised layers.
        file: the name of the code's file, with its ending.
        metadata: what the controller says of itself; JSON in a comment.
        examples: observations ``(n, inputs)`` for the test, whose expected actions are the program's own.
        tolerance: how far the test's actions may lie from those; indices must be equal.
    """
    name = identifier(file.rpartition(".")[0])
    writer = _Writer(program)
    costs = Costs(writer.flash, writer.ram, program.macs)
    upper, kind = name.upper(), "int" if program.discrete else "float"
    signature = f"void {name}_act(const float observation[{upper}_OBSERVATIONS], {kind} action[{upper}_ACTIONS])"
    body = "\n".join(f"    {line}" for line in writer.body)
    code = (
        f'#include "{name}.h"\n\n#include <math.h>\n#include <stdint.h>\n\n{_comment(metadata)}\n\n'
        + "\n".join(writer.constants)
        + f"\n\n{signature}\n{{\n{body}\n}}\n"
    )
    form = "int8 weights" if any(isinstance(step, QuantisedAffine) for step in program.steps) else "float weights"
    meaning = _meaning(program, metadata.get("held_steps", 1))
    header = _HEADER.format(
        name=name, file=file, upper=upper, form=form, costs=costs, signature=signature, program=program, meaning=meaning
    )
    return CSource(code, header, _test(program, name, kind, examples, tolerance), costs)


class _Writer:
    """Constants, and statements that pass the values on between two buffers."""

    def __init__(self, program: Program) -> None:
        self.constants: list[str] = []
        self.body: list[str] = []
        self.flash = 0
        self.current, self.width = "observation", program.inputs
        self.sizes = {"x": 0, "y": 0}
        self.codes = {"p": 0, "q": 0}  # of 16 and of 8 bits
        self.sums = 0
        for index, step in enumerate(program.steps):
            match step:
                case Affine():
                    self.affine(index, step)
                case Convolution():
                    self.convolution(index, step)
                case QuantisedAffine():
                    self.quantised(index, step)
                case Diagonal():
                    self.diagonal(index, step)
                case Bound():
                    low, high = self.constant(f"low{index}", step.low), self.constant(f"high{index}", step.high)
                    self.each(f"v < {low}[i] ? {low}[i] : v > {high}[i] ? {high}[i] : v")
                case Map():
                    self.each(_EXPRESSIONS[step.function].format(alpha=_number(step.alpha)))
                case LayerNorm():
                    self.normalised(index, step)
                case Simplices():
                    self.simplices(step.size)
                case Argmax():
                    self.argmax(step.options or (self.width,))
                case Switches():
                    self.body.append(f"for (i = 0; i < {self.width}; i++) action[i] = {self.current}[i] > 0.0f;")
        if not program.discrete:
            self.body.append(f"for (i = 0; i < {self.width}; i++) action[i] = {self.current}[i];")
        buffers = [f"float {name}[{size}];" for name, size in self.sizes.items() if size]
        for (name, size), bits in zip(self.codes.items(), (16, 8), strict=True):
            buffers += [f"int{bits}_t {name}[{size}];"] if size else []
        buffers += [f"int32_t s[{self.sums}];"] if self.sums else []
        self.ram = 4 * sum(self.sizes.values()) + 2 * self.codes["p"] + self.codes["q"] + 4 * self.sums
        names = ", ".join(name for name in "iocrtkl" if any(f"for ({name} =" in line for line in self.body))
        self.body[:0] = [*buffers, f"int {names};" if names else "", ""]

    def affine(self, index: int, step: Affine) -> None:
        outputs, source = self.declare(index, step.weight), self.current
        bias = self.constant(f"b{index}", _padded(step.bias, outputs))
        target = self.target(outputs)
        self.body.append(f"for (o = 0; o < {outputs}; o++) {target}[o] = {bias}[o];")
        self.products(index, source, target, "float", outputs)
        self.width = len(step.bias)

    def convolution(self, index: int, step: Convolution) -> None:
        """Plain loops: output channel o at row r and column t, over input channel c and the kernel's k and l."""
        weight, bias = self.constant(f"w{index}", step.weight), self.constant(f"b{index}", step.bias)
        (channels, height, width), (outputs, rows, columns) = step.image, step.result
        tall, wide = step.weight.shape[2:]
        (down, right), (above, left) = step.stride, step.padding
        source, target = self.current, self.target(outputs * rows * columns)
        inside = []
        if above:
            inside.append(f"if (r * {down} + k < {above} || r * {down} + k >= {height + above}) continue;")
        if left:
            inside.append(f"if (t * {right} + l < {left} || t * {right} + l >= {width + left}) continue;")
        at = f"(c * {height} + r * {down} + k - {above}) * {width} + t * {right} + l - {left}"
        self.body += [
            f"for (o = 0; o < {outputs}; o++) for (r = 0; r < {rows}; r++) for (t = 0; t < {columns}; t++) {{",
            f"    float v = {bias}[o];",
            f"    for (c = 0; c < {channels}; c++) for (k = 0; k < {tall}; k++) for (l = 0; l < {wide}; l++) {{",
            *(f"        {line}" for line in inside),
            f"        v += {weight}[o][c][k][l] * {source}[{at}];",
            "    }",
            f"    {target}[(o * {rows} + r) * {columns} + t] = v;",
            "}",
        ]
        self.width = outputs * rows * columns

    def quantised(self, index: int, step: QuantisedAffine) -> None:
        outputs, inputs = self.declare(index, step.weight), self.width
        centre, inverse = self.constant(f"c{index}", step.centre), self.constant(f"r{index}", step.inverse_step)
        scale, bias = (self.constant(f"{word}{index}", part) for word, part in (("d", step.scale), ("b", step.bias)))
        codes, bits = ("p", 16) if step.most > MOST else ("q", 8)
        self.codes[codes], self.sums = max(self.codes[codes], inputs), max(self.sums, outputs)
        self.body += [
            f"for (i = 0; i < {inputs}; i++) {{",
            f"    float v = ({self.current}[i] - {centre}[i]) * {inverse}[i];",
            f"    v = !(v > -{step.most}.0f) ? -{step.most}.0f : v < {step.most}.0f ? v : {step.most}.0f;",
            f"    {codes}[i] = (int{bits}_t)(v < 0.0f ? v - 0.5f : v + 0.5f);",
            "}",
            f"for (o = 0; o < {outputs}; o++) s[o] = 0;",
        ]
        self.products(index, codes, "s", "int32_t", outputs)
        self.width = len(step.bias)
        target = self.target(self.width)
        self.body.append(f"for (o = 0; o < {self.width}; o++) {target}[o] = (float)s[o] * {scale}[o] + {bias}[o];")

    def products(self, index: int, source: str, target: str, kind: str, outputs: int) -> None:
        """``target[o] += source[i] * w[i][o]``, four inputs at a time."""
        whole, weight = self.width // 4 * 4, f"w{index}"
        if whole:
            terms = " + ".join(f"v{k} * {weight}[i + {k}][o]" for k in range(4))
            self.body += [
                f"for (i = 0; i < {whole}; i += 4) {{",
                *(f"    const {kind} v{k} = {source}[i + {k}];" for k in range(4)),
                f"    for (o = 0; o < {outputs}; o++) {target}[o] = {target}[o] + {terms};",
                "}",
            ]
        if whole < self.width:
            self.body += [
                f"for (i = {whole}; i < {self.width}; i++) {{",
                f"    const {kind} v = {source}[i];",
                f"    for (o = 0; o < {outputs}; o++) {target}[o] += v * {weight}[i][o];",
                "}",
            ]

    def diagonal(self, index: int, step: Diagonal) -> None:
        weight = self.constant(f"k{index}", step.weight)
        value = f"(v - {self.constant(f'm{index}', step.shift)}[i])" if step.shift.any() else "v"
        offset = f" + {self.constant(f'b{index}', step.bias)}[i]" if step.bias.any() else ""
        self.each(f"{value} * {weight}[i]{offset}")

    def normalised(self, index: int, step: LayerNorm) -> None:
        weight, bias = self.constant(f"k{index}", step.weight), self.constant(f"b{index}", step.bias)
        (source, target), count = self.in_place(), self.width
        self.body += [
            "{",
            "    float mean = 0.0f, spread = 0.0f;",
            f"    for (i = 0; i < {count}; i++) mean += {source}[i];",
            f"    mean /= {count}.0f;",
            f"    for (i = 0; i < {count}; i++) spread += ({source}[i] - mean) * ({source}[i] - mean);",
            f"    spread = sqrtf(spread / {count}.0f + {_number(step.epsilon)});",
            f"    for (i = 0; i < {count}; i++)",
            f"        {target}[i] = ({source}[i] - mean) / spread * {weight}[i] + {bias}[i];",
            "}",
        ]

    def simplices(self, size: int) -> None:
        source, target = self.in_place()
        self.body += [
            f"for (i = 0; i < {self.width}; i += {size}) {{",
            f"    float most = {source}[i], sum = 0.0f;",
            f"    for (k = 1; k < {size}; k++) most = {source}[i + k] > most ? {source}[i + k] : most;",
            f"    for (k = 0; k < {size}; k++) {{",
            f"        {target}[i + k] = expf({source}[i + k] - most);",
            f"        sum += {target}[i + k];",
            "    }",
            f"    for (k = 0; k < {size}; k++) {target}[i + k] /= sum;",
            "}",
        ]

    def argmax(self, options: tuple[int, ...]) -> None:
        begin = 0
        for number, count in enumerate(options):
            values = f"({self.current} + {begin})" if begin else self.current
            self.body += [
                f"action[{number}] = 0;",
                f"for (i = 1; i < {count}; i++) {{",
                f"    if ({values}[i] > {values}[action[{number}]]) action[{number}] = i;",
                "}",
            ]
            begin += count

    def each(self, expression: str) -> None:
        """Unit by unit."""
        source, target = self.in_place()
        self.body += [
            f"for (i = 0; i < {self.width}; i++) {{",
            f"    const float v = {source}[i];",
            f"    {target}[i] = {expression};",
            "}",
        ]

    def in_place(self) -> tuple[str, str]:
        """Where the values are and where they go: there too, but for the observation, which is not ours to write."""
        source = self.current
        return source, self.target(self.width) if source == "observation" else source

    def target(self, width: int) -> str:
        """The buffer that the next values go to."""
        self.current = "y" if self.current == "x" else "x"
        self.sizes[self.current] = max(self.sizes[self.current], width)
        return self.current

    def declare(self, index: int, weight: NDArray[Any]) -> int:
        """The weights ``(out, in)`` as rows of an input each; the padded number of outputs."""
        lanes = 16 if weight.dtype == np.int8 else 4
        outputs = len(weight) if len(weight) <= lanes else -(-len(weight) // lanes) * lanes
        self.constant(f"w{index}", np.stack([_padded(row, outputs) for row in weight.T]))
        return outputs

    def constant(self, name: str, values: NDArray[Any]) -> str:
        kind = "int8_t" if values.dtype == np.int8 else "float"
        self.constants.append(f"static const {kind} {name}{_shape(values)} = {_braces(values)};")
        self.flash += values.nbytes
        return name


def _padded(values: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(values, (0, width - len(values)))


def _shape(values: NDArray[Any]) -> str:
    return "".join(f"[{size}]" for size in values.shape)


def _braces(values: NDArray[Any]) -> str:
    if values.ndim > 1:
        return "{\n" + ",\n".join(_braces(row) for row in values) + "}"
    write = str if values.dtype.kind in "iu" else _number
    return "{" + ", ".join(write(value) for value in values) + "}"


def _number(value: Any) -> str:
    """The shortest decimal that is this float."""
    return f"{np.float32(value)!s}f"


def _comment(metadata: Mapping[str, Any]) -> str:
    """JSON in a comment that nothing in it can end."""
    text = json.dumps(metadata).replace("*/", "*\\u002f").replace("/*", "\\u002f*")
    return f"/* {KEY}: {text} */"


def _meaning(program: Program, held_steps: int) -> str:
    several = "an index each" if isinstance(program.steps[-1], Argmax) else "1 or 0 each"
    chosen = "the index of the action" if program.single else several
    what = chosen if program.discrete else "in the task's own units"
    return what if held_steps == 1 else f"{what}, held for {held_steps} steps of the task"


_HEADER = """\
/* A neural controller, written by prunectl: {program.inputs} observations to an action, {form}.
 *
 *     flash  {costs.flash:>9,} bytes of constants
 *     RAM    {costs.ram:>9,} bytes of stack
 *     work   {costs.macs:>9,} multiply-accumulates a decision
 *
 * Observations are as the task gives them, in its order and units; the action is {meaning}.
 * Keeps no state, allocates nothing, needs libm alone. {name}_test.c checks it: cc {name}_test.c {file} -lm
 */
#ifndef {upper}_H
#define {upper}_H

#define {upper}_OBSERVATIONS {program.inputs}
#define {upper}_ACTIONS {program.outputs}

#ifdef __cplusplus
extern "C" {{
#endif

{signature};

#ifdef __cplusplus
}}
#endif

#endif
"""

_TEST = """\
/* Expected actions for some observations of {name}: exit status 0 if they come out. */
#include "{name}.h"

#include <math.h>
#include <stdio.h>

static const float observations[{count}][{upper}_OBSERVATIONS] = {observations};
static const {kind} expected[{count}][{upper}_ACTIONS] = {expected};

int main(void)
{{
    double largest = 0.0;
    int wrong = 0, n, a;
    for (n = 0; n < {count}; n++) {{
        {kind} action[{upper}_ACTIONS];
        {name}_act(observations[n], action);
        for (a = 0; a < {upper}_ACTIONS; a++) {{
            const double difference = fabs((double)action[a] - (double)expected[n][a]);
            wrong += !(difference <= {tolerance});
            largest = difference > largest ? difference : largest;
        }}
    }}
    printf("{name}: %d wrong, largest difference %g over {count} observations\\n", wrong, largest);
    return wrong != 0;
}}
"""


def _test(program: Program, name: str, kind: str, examples: NDArray[Any], tolerance: float) -> str:
    observations = np.asarray(examples, dtype=np.float32)
    actions = program(observations).reshape(len(examples), -1)
    return _TEST.format(
        name=name,
        upper=name.upper(),
        kind=kind,
        count=len(examples),
        observations=_braces(observations),
        expected=_braces(actions if program.discrete else actions.astype(np.float32)),
        tolerance=repr(0.0 if program.discrete else float(tolerance)),
    )

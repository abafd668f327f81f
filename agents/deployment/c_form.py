"""A program as C99: one file and its header, no allocation, nothing beyond libm; and a test that carries its own data.

Floats lie input-major and four inputs are taken at a time: sums of different outputs are independent of each other, so
compilers vectorise them without being allowed to reorder a sum. Weights of few bits lie output-major: sums of whole
numbers may be reordered, and four of them stay in registers. Rows are padded to whole vectors of 16 bytes. Weights of
four bits lie two in a byte and are read as 16 times what they are, which the scales take back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.choices import FORBIDDEN
from prunectl.agents.deployment.c_sums import SUMS
from prunectl.agents.deployment.c_texts import (
    Costs,
    braces,
    check,
    comment,
    decimal,
    header,
    shape,
    signature,
    test,
)
from prunectl.agents.deployment.program import Program
from prunectl.agents.deployment.steps import (
    LSTM,
    Affine,
    Allowed,
    Argmax,
    Bound,
    Convolution,
    Diagonal,
    LayerNorm,
    Map,
    Pick,
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

#: What constants are, in C.
_KINDS: Mapping[type[Any], str] = {np.float32: "float", np.int8: "int8_t", np.uint8: "uint8_t", np.uint16: "uint16_t"}


@dataclass(frozen=True)
class CSource:
    """The texts of ``NAME.c``, ``NAME.h`` and ``NAME_test.c``, what the code costs, and what of the test is not its
    ``main``."""

    code: str
    header: str
    test: str
    costs: Costs
    check: str


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
        examples: observations ``(n, inputs)`` for the test, whose expected actions are the program's own; with what is
            beside them, but for a memory, which begins with zeros and is carried from each to the next.
        tolerance: how far the test's actions may lie from those; indices must be equal.
    """
    name = identifier(file.rpartition(".")[0])
    writer = _Writer(program)
    costs = Costs(writer.flash, writer.ram, program.macs)
    body = "\n".join(f"    {line}" for line in writer.body)
    code = (
        f'#include "{name}.h"\n\n#include <math.h>\n#include <stdint.h>\n\n{comment(metadata)}\n\n'
        + (SUMS[writer.bits] if writer.codes else "")
        + "\n".join(writer.constants)
        + f"\n\n{signature(program, name)}\n{{\n{body}\n}}\n"
    )
    said = header(program, name, file, costs, metadata.get("held_steps", 1))
    checked = check(program, name, examples, tolerance)
    return CSource(code, said, test(name, checked, len(examples)), costs, checked)


class _Writer:
    """Constants, and statements that pass the values on between two buffers."""

    def __init__(self, program: Program) -> None:
        self.constants: list[str] = []
        self.body: list[str] = []
        self.flash = 0
        self.current, self.width = "observation", program.inputs
        self.sizes = {"x": 0, "y": 0}
        self.codes, self.bits = 0, 8
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
                    self.each(_EXPRESSIONS[step.function].format(alpha=decimal(step.alpha)))
                case Pick():
                    self.pick(index, step)
                case LayerNorm():
                    self.normalised(index, step)
                case Simplices():
                    self.simplices(step.size)
                case LSTM():
                    self.lstm(index, step)
                case Allowed():
                    self.each(f"mask[i] > 0.0f ? v : {decimal(FORBIDDEN)}")
                case Argmax():
                    self.argmax(step.options or (self.width,))
                case Switches():
                    self.body.append(f"for (i = 0; i < {self.width}; i++) action[i] = {self.current}[i] > 0.0f;")
        if not program.discrete:
            self.body.append(f"for (i = 0; i < {self.width}; i++) action[i] = {self.current}[i];")
        buffers = [f"float {name}[{size}];" for name, size in self.sizes.items() if size]
        buffers += [f"int16_t q[{self.codes}];", "int32_t s[4];"] if self.codes else []
        self.ram = 4 * sum(self.sizes.values()) + (2 * self.codes + 16 if self.codes else 0)
        names = ", ".join(name for name in "iocrtkl" if any(f"for ({name} =" in line for line in self.body))
        self.body[:0] = [*buffers, f"int {names};" if names else "", ""]

    def affine(self, index: int, step: Affine) -> None:
        outputs, source = self.declare(index, step.weight), self.current
        bias = self.constant(f"b{index}", _padded(step.bias, outputs))
        target = self.target(outputs)
        self.body.append(f"for (o = 0; o < {outputs}; o++) {target}[o] = {bias}[o];")
        self.products(f"w{index}", source, self.width, target, outputs)
        self.width = len(step.bias)

    def lstm(self, index: int, step: LSTM) -> None:
        """All gates are there before the states that they read are written over."""
        outputs, source, units = self.declare(index, step.weight), self.current, step.hidden
        self.declare(index, step.recurrent, "u")
        bias, target = self.constant(f"b{index}", _padded(step.bias, outputs)), self.target(outputs)
        output, cell = (f"(memory + {place})" for place in (step.output, step.cell))
        self.body.append(f"for (o = 0; o < {outputs}; o++) {target}[o] = {bias}[o];")
        self.products(f"w{index}", source, self.width, target, outputs)
        self.products(f"u{index}", output, units, target, outputs)
        gates = [f"{target}[i + {gate * units}]" for gate in range(4)]
        self.body += [
            f"for (i = 0; i < {units}; i++) {{",
            f"    {cell}[i] = {cell}[i] / (1.0f + expf(-{gates[1]})) + tanhf({gates[2]}) / (1.0f + expf(-{gates[0]}));",
            f"    {output}[i] = tanhf({cell}[i]) / (1.0f + expf(-{gates[3]}));",
            "}",
        ]
        self.current, self.width = output, units

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
        """Four outputs at a time, then those that are left; codes that pad a row meet weights of zero."""
        (outputs, inputs), weight, in_pairs = step.weight.shape, f"w{index}", step.bits == 4
        at_once = 8 if in_pairs else 4
        padded = _whole(inputs, at_once if inputs <= 16 else 16)
        rows = np.stack([_padded(row, padded) for row in step.weight])
        self.constant(weight, _in_pairs(rows) if in_pairs else rows)
        centre, inverse = self.constant(f"c{index}", step.centre), self.constant(f"r{index}", step.inverse_step)
        factor = step.scale / np.float32(16) if in_pairs else step.scale
        scale, bias = (self.constant(f"{word}{index}", part) for word, part in (("d", factor), ("b", step.bias)))
        self.codes, self.bits = max(self.codes, padded), step.bits
        if padded > inputs:
            self.body.append(f"for (i = {inputs // at_once * at_once}; i < {padded}; i++) q[i] = 0;")
        self.body += [
            f"for (i = 0; i < {inputs}; i++) {{",
            f"    float v = ({self.current}[i] - {centre}[i]) * {inverse}[i];",
            f"    v = !(v > -{step.most}.0f) ? -{step.most}.0f : v < {step.most}.0f ? v : {step.most}.0f;",
            "    q[PLACE(i)] = (int16_t)(v + copysignf(0.5f, v));",
            "}",
        ]
        target, whole = self.target(outputs), outputs // 4 * 4
        if whole:
            self.body += [
                f"for (o = 0; o < {whole}; o += 4) {{",
                f"    sums({weight}[o], q, {padded}, s);",
                f"    for (k = 0; k < 4; k++) {target}[o + k] = (float)s[k] * {scale}[o + k] + {bias}[o + k];",
                "}",
            ]
        if whole < outputs:
            self.body += [
                f"for (o = {whole}; o < {outputs}; o++) {{",
                f"    for (s[0] = 0, i = 0; i < {padded}; i++) s[0] += q[PLACE(i)] * WEIGHT({weight}[o], i);",
                f"    {target}[o] = (float)s[0] * {scale}[o] + {bias}[o];",
                "}",
            ]
        self.width = outputs

    def products(self, weight: str, source: str, inputs: int, target: str, outputs: int) -> None:
        """``target[o] += source[i] * weight[i][o]``, four inputs at a time."""
        whole = inputs // 4 * 4
        if whole:
            terms = " + ".join(f"v{k} * {weight}[i + {k}][o]" for k in range(4))
            self.body += [
                f"for (i = 0; i < {whole}; i += 4) {{",
                *(f"    const float v{k} = {source}[i + {k}];" for k in range(4)),
                f"    for (o = 0; o < {outputs}; o++) {target}[o] = {target}[o] + {terms};",
                "}",
            ]
        if whole < inputs:
            self.body += [
                f"for (i = {whole}; i < {inputs}; i++) {{",
                f"    const float v = {source}[i];",
                f"    for (o = 0; o < {outputs}; o++) {target}[o] += v * {weight}[i][o];",
                "}",
            ]

    def diagonal(self, index: int, step: Diagonal) -> None:
        weight = self.constant(f"k{index}", step.weight)
        value = f"(v - {self.constant(f'm{index}', step.shift)}[i])" if step.shift.any() else "v"
        offset = f" + {self.constant(f'b{index}', step.bias)}[i]" if step.bias.any() else ""
        self.each(f"{value} * {weight}[i]{offset}")

    def pick(self, index: int, step: Pick) -> None:
        """A number that is not read is never looked at."""
        where = self.constant(f"p{index}", np.asarray(step.index, dtype=np.uint16))
        source, target = self.current, self.target(len(step.index))
        self.body.append(f"for (i = 0; i < {len(step.index)}; i++) {target}[i] = {source}[{where}[i]];")
        self.width = len(step.index)

    def normalised(self, index: int, step: LayerNorm) -> None:
        weight, bias = self.constant(f"k{index}", step.weight), self.constant(f"b{index}", step.bias)
        (source, target), count = self.in_place(), self.width
        self.body += [
            "{",
            "    float mean = 0.0f, spread = 0.0f;",
            f"    for (i = 0; i < {count}; i++) mean += {source}[i];",
            f"    mean /= {count}.0f;",
            f"    for (i = 0; i < {count}; i++) spread += ({source}[i] - mean) * ({source}[i] - mean);",
            f"    spread = sqrtf(spread / {count}.0f + {decimal(step.epsilon)});",
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
        """Where the values are and where they go: there too, but for what is not ours to write."""
        source = self.current
        return source, source if source in self.sizes else self.target(self.width)

    def target(self, width: int) -> str:
        """The buffer that the next values go to."""
        self.current = "y" if self.current == "x" else "x"
        self.sizes[self.current] = max(self.sizes[self.current], width)
        return self.current

    def declare(self, index: int, weight: NDArray[Any], letter: str = "w") -> int:
        """The weights ``(out, in)`` as rows of an input each; the padded number of outputs."""
        outputs = len(weight) if len(weight) <= 4 else _whole(len(weight), 4)
        self.constant(f"{letter}{index}", np.stack([_padded(row, outputs) for row in weight.T]))
        return outputs

    def constant(self, name: str, values: NDArray[Any]) -> str:
        kind = _KINDS[values.dtype.type]
        self.constants.append(f"static const {kind} {name}{shape(values)} = {braces(values)};")
        self.flash += values.nbytes
        return name


def _in_pairs(weights: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Weights of four bits ``(out, in)``, two in a byte: the even input's low, the odd one's high."""
    nibbles = weights.astype(np.uint8) & 0xF
    return np.asarray(nibbles[:, ::2] | nibbles[:, 1::2] << 4, dtype=np.uint8)


def _whole(count: int, lanes: int) -> int:
    """The next number of whole vectors."""
    return -(-count // lanes) * lanes


def _padded(values: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(values, (0, width - len(values)))

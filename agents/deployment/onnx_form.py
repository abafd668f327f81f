"""A program as an ONNX model, written node by node: the same program gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from prunectl.agents.choices import FORBIDDEN
from prunectl.agents.deployment.metadata import KEY
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
    Step,
    Switches,
)

#: The first operator set with layer normalisation, and the format's version of its time: old runtimes read them too.
OPSET, IR_VERSION = 17, 8

#: Activations as nodes: their operators, in turn; a product with what came in where the last is Mul.
_OPERATORS = {
    "relu": ("Relu",),
    "tanh": ("Tanh",),
    "sigmoid": ("Sigmoid",),
    "silu": ("Sigmoid", "Mul"),
    "elu": ("Elu",),
    "leaky_relu": ("LeakyRelu",),
    "mish": ("Softplus", "Tanh", "Mul"),
    "abs": ("Abs",),
}

#: Every operator that is written. Others may loop, call functions, or ask for memory without end.
OPERATORS = frozenset(
    ["Gemm", "Sub", "Mul", "Add", "LayerNormalization", "Max", "Min", "ArgMax", "Reshape", "Conv", "Flatten", "Softmax"]
    + ["Gather", "Split", "Concat", "Greater", "Cast", "Where", "Round", "QuantizeLinear", "DequantizeLinear"]
    + [operator for operators in _OPERATORS.values() for operator in operators]
)


def onnx_bytes(
    program: Program, metadata: Mapping[str, Any], inputs: str = "observation", output: str = "action"
) -> bytes:
    """The model's file: one input ``(batch, inputs)`` float32, one output ``(batch, outputs)``, or ``(batch,)`` int64.

    What is beside the observation is another input, ``memory`` or ``mask``, ``(batch, width)`` float32; of a memory
    there is another output too, ``memory_after``: the caller keeps it for the next decision, and begins an episode with
    zeros. ``metadata`` is stored as JSON in the model's own property.
    """
    writer = _Writer(inputs)
    if program.memory:
        writer.recall(program)
    for step in program.steps:
        writer.add(step)
    writer.nodes[-1].output[0] = output
    if program.memory:
        parts = [writer.states[place] for place in sorted(writer.states)]
        writer.nodes.append(helper.make_node("Concat", parts, ["memory_after"], axis=1))
    beside = [] if program.beside is None else [_rows(*program.beside)]
    after = [_rows("memory_after", program.memory)] if program.memory else []
    shape: list[int | str] = ["batch"] if program.single else ["batch", program.outputs]
    kind = TensorProto.INT64 if program.discrete else TensorProto.FLOAT
    graph = helper.make_graph(
        writer.nodes,
        "controller",
        [_rows(inputs, program.inputs), *beside],
        [helper.make_tensor_value_info(output, kind, shape), *after],
        writer.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="prunectl", ir_version=IR_VERSION, opset_imports=opsets)
    helper.set_model_props(model, {KEY: json.dumps(metadata)})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _rows(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])


class _Writer:
    """Nodes in a row, each reading what the last one wrote."""

    def __init__(self, inputs: str) -> None:
        self.current = inputs
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.states: dict[int, str] = {}  # by their places in what is remembered

    def recall(self, program: Program) -> None:
        """Take what is remembered apart."""
        layers = [step for step in program.steps if isinstance(step, LSTM)]
        widths = {place: step.hidden for step in layers for place in (step.output, step.cell)}
        self.states = {place: f"state{place}" for place in sorted(widths)}
        sizes = self.constant(np.asarray([widths[place] for place in self.states], dtype=np.int64))
        self.nodes.append(helper.make_node("Split", ["memory", sizes], list(self.states.values()), axis=1))

    def add(self, step: Step) -> None:
        match step:
            case Affine():
                self.node("Gemm", self.constant(step.weight), self.constant(step.bias), transB=1)
            case QuantisedAffine():
                self.quantised(step)
            case Convolution():
                self.node("Reshape", self.constant(np.asarray([-1, *step.image], dtype=np.int64)))
                weight, bias = self.constant(step.weight), self.constant(step.bias)
                self.node("Conv", weight, bias, strides=step.stride, pads=[*step.padding, *step.padding])
                self.node("Flatten", axis=1)
            case Diagonal():
                if step.shift.any():
                    self.node("Sub", self.constant(step.shift))
                self.node("Mul", self.constant(step.weight))
                if step.bias.any():
                    self.node("Add", self.constant(step.bias))
            case Pick():
                self.node("Gather", self.constant(np.asarray(step.index, dtype=np.int64)), axis=1)
            case LayerNorm():
                weight, bias = self.constant(step.weight), self.constant(step.bias)
                self.node("LayerNormalization", weight, bias, axis=-1, epsilon=step.epsilon)
            case Simplices():
                self.node("Reshape", self.constant(np.asarray([0, -1, step.size], dtype=np.int64)))
                self.node("Softmax", axis=2)
                self.node("Flatten", axis=1)
            case Bound():
                self.node("Max", self.constant(step.low))
                self.node("Min", self.constant(step.high))
            case Map():
                before = self.current
                for operator in _OPERATORS[step.function]:
                    others = [before] if operator == "Mul" else []
                    alpha = {"alpha": step.alpha} if operator in ("Elu", "LeakyRelu") else {}
                    self.node(operator, *others, **alpha)
            case LSTM():
                self.lstm(step)
            case Allowed():
                logits, zero = self.current, self.constant(np.zeros(1, dtype=np.float32))
                self.current = "mask"
                self.node("Greater", zero)
                self.node("Where", logits, self.constant(np.full(1, FORBIDDEN, dtype=np.float32)))
            case Argmax(options) if options:
                logits, chosen = self.current, []
                parts = [f"part{index}" for index in range(len(options))]
                sizes = self.constant(np.asarray(options, dtype=np.int64))
                self.nodes.append(helper.make_node("Split", [logits, sizes], parts, axis=1))
                for self.current in parts:
                    self.node("ArgMax", axis=1, keepdims=1)
                    chosen.append(self.current)
                self.current, *others = chosen
                self.node("Concat", *others, axis=1)
            case Argmax():
                self.node("ArgMax", axis=1, keepdims=0)
            case Switches():
                self.node("Greater", self.constant(np.zeros(1, dtype=np.float32)))
                self.node("Cast", to=TensorProto.INT64)

    def quantised(self, step: QuantisedAffine) -> None:
        """Codes and weights of eight bits as pairs of QuantizeLinear and DequantizeLinear (QDQ), which runtimes and
        compilers for accelerators know; codes of sixteen bits, which the first of them knows from opset 21 on, as whole
        numbers among floats."""
        one, zero = self.constant(np.ones((), np.float32)), self.constant(np.zeros((), np.int8))
        self.node("Sub", self.constant(step.centre))
        self.node("Mul", self.constant(step.inverse_step))
        ends = (self.constant(np.full(1, end, np.float32)) for end in (-step.most, step.most))
        for operator, end in zip(("Max", "Min"), ends, strict=True):
            self.node(operator, end)
        if step.most <= np.iinfo(np.int8).max:
            self.node("QuantizeLinear", one, zero)
            self.node("DequantizeLinear", one, zero)
        else:
            self.node("Round")
        codes, self.current = self.current, self.constant(step.weight)
        self.node("DequantizeLinear", self.constant(step.scale), axis=0)
        weight, self.current = self.current, codes
        self.node("Gemm", weight, self.constant(step.bias), transB=1)

    def lstm(self, step: LSTM) -> None:
        """``cell = sigmoid(forget) cell + sigmoid(write) tanh(new)``, ``output = sigmoid(show) tanh(cell)``."""
        self.node("Gemm", self.constant(step.weight), self.constant(step.bias), transB=1)
        seen, self.current = self.current, self.states[step.output]
        self.node("Gemm", self.constant(step.recurrent), transB=1)
        self.node("Add", seen)
        gates = [f"gate{len(self.nodes)}_{number}" for number in range(4)]
        sizes = self.constant(np.full(4, step.hidden, dtype=np.int64))
        self.nodes.append(helper.make_node("Split", [self.current, sizes], gates, axis=1))
        made = []
        for self.current, operator in zip(gates, ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid"), strict=True):
            self.node(operator)
            made.append(self.current)
        write, forget, self.current, show = made
        self.node("Mul", write)
        added, self.current = self.current, forget
        self.node("Mul", self.states[step.cell])
        self.node("Add", added)
        self.states[step.cell] = self.current
        self.node("Tanh")
        self.node("Mul", show)
        self.states[step.output] = self.current

    def node(self, operator: str, *others: str, **attributes: Any) -> None:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.current, *others], [output], **attributes))
        self.current = output

    def constant(self, values: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

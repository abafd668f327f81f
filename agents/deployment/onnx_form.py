"""A program as an ONNX model, written node by node: the same program gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from prunectl.agents.deployment.metadata import KEY
from prunectl.agents.deployment.program import (
    Affine,
    Argmax,
    Bound,
    Convolution,
    Diagonal,
    LayerNorm,
    Map,
    Program,
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
    + ["Split", "Concat", "Greater", "Cast"]
    + [operator for operators in _OPERATORS.values() for operator in operators]
)


def onnx_bytes(
    program: Program, metadata: Mapping[str, Any], inputs: str = "observation", output: str = "action"
) -> bytes:
    """The model's file: one input ``(batch, inputs)`` float32, one output ``(batch, outputs)``, or ``(batch,)`` int64.

    ``metadata`` is stored as JSON in the model's own property.
    """
    writer = _Writer(inputs)
    for step in program.steps:
        writer.add(step)
    writer.nodes[-1].output[0] = output
    shape: list[int | str] = ["batch"] if program.single else ["batch", program.outputs]
    kind = TensorProto.INT64 if program.discrete else TensorProto.FLOAT
    graph = helper.make_graph(
        writer.nodes,
        "controller",
        [helper.make_tensor_value_info(inputs, TensorProto.FLOAT, ["batch", program.inputs])],
        [helper.make_tensor_value_info(output, kind, shape)],
        writer.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="prunectl", ir_version=IR_VERSION, opset_imports=opsets)
    helper.set_model_props(model, {KEY: json.dumps(metadata)})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Nodes in a row, each reading what the last one wrote."""

    def __init__(self, inputs: str) -> None:
        self.current = inputs
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, step: Step) -> None:
        match step:
            case Affine():
                self.node("Gemm", self.constant(step.weight), self.constant(step.bias), transB=1)
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

    def node(self, operator: str, *others: str, **attributes: Any) -> None:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self.current, *others], [output], **attributes))
        self.current = output

    def constant(self, values: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

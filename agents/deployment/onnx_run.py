"""An ONNX model of ours as a controller, run by ONNX Runtime on one thread."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.helper import make_graph, make_model, make_tensor_value_info
from onnx.shape_inference import infer_shapes

from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.exported import Exported
from prunectl.agents.deployment.metadata import KEY, Interface, read
from prunectl.agents.deployment.onnx_form import OPERATORS
from prunectl.agents.deployment.steps import Floats
from prunectl.agents.files import read_bounded
from prunectl.agents.supported import LARGEST_VALUE, MOST_MACS
from prunectl.registry import one_line

#: No controller's model is so large.
LARGEST_FILE = 256 * 2**20


class ONNXController(Exported):
    """``decide`` is one run of the session."""

    def __init__(self, session: onnxruntime.InferenceSession, interface: Interface, where: str) -> None:
        super().__init__(interface, where)
        self.session = session
        self.names = [entry.name for entry in session.get_inputs()]

    def decide(self, observations: Floats, beside: Floats) -> tuple[NDArray[Any], Floats]:
        actions, *after = self.session.run(None, dict(zip(self.names, (observations, beside), strict=False)))
        return np.asarray(actions), after[0] if after else beside


def load_onnx(path: Path) -> tuple[ONNXController, dict[str, Any]]:
    """The controller in a file that `prunectl export` wrote, and what the file says of itself.

    Raises:
        ControllerError: damaged, none of ours, or with something in it that no exported controller has.
    """
    content, model = read_model(path)
    said = {entry.key: entry.value for entry in model.metadata_props}.get(KEY)
    if said is None:
        raise ControllerError(f"{path}: it does not say its spaces: only models that `prunectl export` wrote do")
    interface, data = read(said, str(path))
    try:
        controller = ONNXController(session(content), interface, str(path))
        given = [np.zeros((2, width), np.float32) for width in (interface.observations, interface.beside)]
        actions, after = controller.decide(*given)
    except Exception as error:  # the runtime has errors of its own for each thing that may be wrong
        raise ControllerError(f"{path}: ONNX Runtime cannot run it ({one_line(error)})") from error
    if actions.shape != (2, *(interface.action_space.shape or ())):
        raise ControllerError(f"{path}: its actions have shape {actions.shape[1:]}, and it says otherwise")
    if controller.names != ["observation", *interface.beside_names] or after.shape != given[1].shape:
        raise ControllerError(f"{path}: what it takes beside observations is not what it says")
    return controller, data


def session(content: bytes) -> onnxruntime.InferenceSession:
    """A deterministic session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what goes wrong is raised
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def read_model(path: Path) -> tuple[bytes, onnx.ModelProto]:
    """A model that holds nothing but what we write: one network from an observation, and perhaps what is beside it, to
    an action, and perhaps what is remembered then.

    Raises:
        ControllerError: damaged, or with anything else in it.
        OSError: it cannot be read, or is too large.
    """
    content = read_bounded(path, LARGEST_FILE)
    try:
        model = onnx.load_model_from_string(content)
        _check_ours(model, str(path))
        onnx.checker.check_model(model)
        _check_sizes(model, str(path))
    except ControllerError:
        raise
    except Exception as error:  # a damaged file may fail in any way
        raise ControllerError(f"{path}: not a readable ONNX model ({one_line(error)})") from error
    return content, model


def _check_ours(model: onnx.ModelProto, where: str) -> None:
    graph = model.graph
    outside = [tensor.name for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise ControllerError(f"{where}: its '{outside[0][:40]}' lies in another file, which is not opened")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            name = f"{node.domain}.{node.op_type}".lstrip(".")
            raise ControllerError(f"{where}: it has an operator '{name[:40]}', which no exported controller needs")
    # Constants of many dimensions make results of many more numbers than they have themselves.
    matrices = {node.input[1] for node in graph.node if node.op_type == "Gemm" and len(node.input) > 1}
    matrices |= {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    filters = {node.input[1] for node in graph.node if node.op_type == "Conv" and len(node.input) > 1}
    padded = [node for node in graph.node if node.op_type == "Conv" and not _pads_less_than_it_reads(node, graph)]
    if padded:
        raise ControllerError(f"{where}: a convolution in it is padded by more than it reads, which ours is not")
    for tensor in graph.initializer:
        if len(tensor.dims) > (4 if tensor.name in filters else 2 if tensor.name in matrices else 1):
            raise ControllerError(f"{where}: its '{tensor.name[:40]}' has {len(tensor.dims)} dimensions, ours have not")
    inputs, outputs = ([value.name for value in values] for values in (graph.input, graph.output))
    ends = {"memory": ["memory_after"], "mask": []}
    beside = ends.get(inputs[1]) if len(inputs) == 2 else [] if len(inputs) == 1 else None
    if model.functions or graph.sparse_initializer or beside is None or not outputs or outputs[1:] != beside:
        raise ControllerError(f"{where}: a controller's model has one input, one output and no functions of its own")


def _check_sizes(model: onnx.ModelProto, where: str) -> None:
    """Raise ControllerError where a value would have numbers without end: a few filters make any number of an image."""
    graph = model.graph
    given = [(value.name, value.type.tensor_type.shape.dim) for value in graph.input]
    rows = [(name, [1, *(dimension.dim_value for dimension in shape[1:])]) for name, shape in given]
    shapes = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in rows]
    whole = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT64]
    shapes += [
        make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type != onnx.TensorProto.INT64
    ]
    end = make_tensor_value_info(graph.output[0].name, graph.output[0].type.tensor_type.elem_type, None)
    sized = make_model(make_graph(graph.node, "sizes", shapes, [end], whole), opset_imports=model.opset_import)
    found = infer_shapes(sized, data_prop=True).graph
    sizes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*shapes, *found.value_info, *found.output)
    }
    for node in graph.node:
        numbers = [math.prod(sizes[name]) if name in sizes else 0 for name in node.output]
        if not all(0 < number <= LARGEST_VALUE for number in numbers):
            raise ControllerError(f"{where}: its {node.op_type} would give {sum(numbers)} numbers for one observation")
        if node.op_type == "Conv" and sum(numbers) * math.prod(sizes[node.input[1]][1:]) > MOST_MACS:
            raise ControllerError(f"{where}: a convolution in it takes products without end")


def _pads_less_than_it_reads(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    """Whether zeros around an image are fewer than a kernel's side: more would take memory without end."""
    kernels = [tensor.dims[2:] for tensor in graph.initializer if len(node.input) > 1 and tensor.name == node.input[1]]
    said = {attribute.name: attribute for attribute in node.attribute}
    if not kernels or set(said) - {"strides", "pads"}:
        return False
    return all(0 <= pad < max(kernels[0], default=0) for pad in said["pads"].ints) if "pads" in said else True

"""Sizes that a small file may claim: everything is counted before anything of that size is made."""

from __future__ import annotations

import base64
import io
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import untrained
from gymnasium import spaces

from prunectl import agents
from prunectl.agents import ControllerError
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.onnx_form import onnx_bytes
from prunectl.agents.deployment.program import program
from prunectl.agents.extractors import CnnExtractor
from prunectl.agents.sb3.statistics import read_statistics
from prunectl.agents.tensors import read_tensors
from tests import hostile
from tests.hostile import said

MILLIONS = 5_000_000


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good zip of a few units."""
    path = tmp_path_factory.mktemp("good") / "ppo.zip"
    untrained("ppo", "CartPole-v1", widths=(4, 4)).save(path, {"task": "CartPole-v1"})
    hostile.use(agents.load(path).controller)  # imports what is imported late, before anybody watches
    return path.read_bytes()


# Tensors where numbers or tuples belong


class _Rebuilt:
    """Pickled as a tensor with these parts, be they what they like."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (*self.parts, False, OrderedDict())


def _saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _sized_by_a_tensor() -> bytes:
    return _saved(_Rebuilt(torch.zeros(4)._typed_storage(), 0, torch.ones(MILLIONS, dtype=torch.int8), (1,)))


def _strided_by_a_tensor() -> bytes:
    return _saved(_Rebuilt(torch.zeros(4)._typed_storage(), 0, (1,), torch.ones(MILLIONS, dtype=torch.int8)))


def _stored_in_a_tensor() -> bytes:
    """The tensor itself is the persistent id of another storage."""
    whole = _saved(torch.ones(MILLIONS, dtype=torch.int8))
    return hostile.with_structure(whole, lambda raw: raw.removesuffix(b".") + b"Q.")


@pytest.mark.parametrize("make", [_sized_by_a_tensor, _strided_by_a_tensor, _stored_in_a_tensor])
def test_a_tensor_where_a_tuple_belongs(make: Callable[[], bytes]) -> None:
    raw = make()
    with hostile.watched(), pytest.raises(ControllerError, match=r"no sensible shape|no storage"):
        read_tensors(raw)


# Layers


def test_a_world_model_of_a_million_layers(tmp_path: Path) -> None:
    path = tmp_path / "tdmpc.pt"
    state = {f"{part}.0.weight": torch.zeros(1, 1) for part in ("online.encoder", "target.encoder")}
    names = ("encoder", "dynamics", "reward", "actor", "critic_0", "critic_1")
    layers = {name: [] for name in names} | {"encoder": ["elu"] * 1_000_000}
    config = {"format": "prunectl tdmpc 1", "layers": layers}
    torch.save({"config": json.dumps(config), "networks": state}, path)
    assert "1000000 layers" in str(said(path))


# Spaces


def _entry(space: spaces.Space[Any]) -> dict[str, str]:
    """What Stable-Baselines3 writes of a space that only its pickle says."""
    return {":type:": str(type(space)), ":serialized:": base64.b64encode(pickle.dumps(space)).decode()}


def test_an_observation_of_a_thousand_large_parts(ppo: bytes, tmp_path: Path) -> None:
    box = spaces.Box(-np.inf, np.inf, (1,))
    box._shape, box.low, box.high, box.bounded_below, box.bounded_above = (2**20,), None, None, None, None  # type: ignore[assignment]
    parts = spaces.Dict({"a": spaces.Discrete(2)})
    parts.spaces = {f"part {number}": box for number in range(1000)}  # one in the pickle, a thousand times
    data = json.loads(hostile.entries_of(ppo)["data"]) | {"observation_space": _entry(parts)}
    path = tmp_path / "ppo.zip"
    path.write_bytes(hostile.with_entry(ppo, "data", lambda _: json.dumps(data).encode()))
    assert "numbers are read" in str(said(path))


def test_statistics_of_one_array_under_ten_thousand_names(tmp_path: Path) -> None:
    path, array = tmp_path / "vecnormalize.pkl", np.ones(2**20, np.uint8)
    rms = _Named("stable_baselines3.common.running_mean_std", "RunningMeanStd", {"mean": array, "var": array})
    state = {"epsilon": 1e-8, "clip_obs": 10.0, "obs_rms": {f"part {n}": rms for n in range(10_000)}}
    path.write_bytes(_pickled(_Named("stable_baselines3.common.vec_env.vec_normalize", "VecNormalize", state)))
    with hostile.watched(), pytest.raises(ControllerError, match="no more are read"):
        read_statistics(path)


class _Named:
    """Pickled as an object of a class of that name."""

    def __init__(self, module: str, name: str, state: Any) -> None:
        self.module, self.name, self.state = module, name, state


def _pickled(value: Any) -> bytes:
    stream = io.BytesIO()

    class Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
        def save(self, thing: Any, save_persistent_id: bool = True) -> None:
            if isinstance(thing, _Named) and id(thing) not in self.memo:
                self.write(f"c{thing.module}\n{thing.name}\n)R".encode())
                self.memoize(thing)
                super().save(thing.state)
                self.write(b"b")
                return
            super().save(thing, save_persistent_id)

    Pickler(stream, 4).dump(value)
    return stream.getvalue()


# What an export says of itself


@pytest.fixture(scope="module")
def exported() -> tuple[onnx.ModelProto, dict[str, Any]]:
    controller = untrained("sac", "Pendulum-v1", widths=(4, 4))
    interface = Interface.of(controller).as_json({"task": "Pendulum-v1"})
    return onnx.load_model_from_string(onnx_bytes(program(controller.deployed_path(), 3), interface)), interface


@pytest.mark.parametrize(
    "observed",
    [
        [[f"part {number}", {"shape": [2**24], "type": "float32"}] for number in range(100)],
        {"shape": [2**32, 2**32], "type": "float32"},  # 2^64 numbers, which count as none in 64 bits
        {"switches": [2**32, 2**32]},
        {"choices": [10**30], "alone": True},
        [["a", {"switches": [2**62, 2]}], ["b", {"switches": [2**62, 2]}], ["c", {"shape": [3], "type": "float32"}]],
    ],
    ids=["many parts", "many sides", "many switches", "many choices", "switches that count as none"],
)
def test_what_an_export_says_that_it_sees(
    exported: tuple[onnx.ModelProto, dict[str, Any]], tmp_path: Path, observed: Any
) -> None:
    model, interface = exported
    model.metadata_props[0].value = json.dumps({**interface, "observed": observed})
    (tmp_path / "export.onnx").write_bytes(model.SerializeToString())
    assert "cannot be read" in str(said(tmp_path / "export.onnx"))


def test_an_export_that_says_too_much(exported: tuple[onnx.ModelProto, dict[str, Any]], tmp_path: Path) -> None:
    model, interface = exported
    model.metadata_props[0].value = json.dumps(interface)[:-1] + ', "more": [' + "[]," * 12_000_000 + "[]]}"
    (tmp_path / "export.onnx").write_bytes(model.SerializeToString())
    assert "cannot be read" in str(said(tmp_path / "export.onnx"))


# Convolutions: a few filters make any number of an image


@pytest.mark.parametrize(("channels", "kernel"), [(4096, 1), (20, 900)])
def test_a_convolution_of_an_export(
    exported: tuple[onnx.ModelProto, dict[str, Any]], tmp_path: Path, channels: int, kernel: int
) -> None:
    helper, numpy = onnx.helper, onnx.numpy_helper
    _, interface = exported
    constants = {
        "image": np.array([-1, 1, 1024, 1024]),
        "filters": np.zeros((channels, 1, kernel, kernel), np.float32),
        "bias": np.zeros(channels, np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["observation", "image"], ["seen"]),
        helper.make_node("Conv", ["seen", "filters", "bias"], ["wide"]),
        helper.make_node("Flatten", ["wide"], ["action"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("observation", ["batch", 2**20]), ("action", ["batch", "numbers"]))
    ]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy.from_array(value, name) for name, value in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"prunectl": json.dumps({**interface, "observations": 2**20})})
    onnx.save_model(model, tmp_path / "wide.onnx")
    line = str(said(tmp_path / "wide.onnx"))
    assert ("products without end" if kernel > 1 else "4294967296 numbers for one observation") in line


@pytest.mark.parametrize(("channels", "kernels"), [([512, 1], [1, 1]), ([40], [900])])
def test_a_convolution_of_a_policy(channels: list[int], kernels: list[int]) -> None:
    image = spaces.Box(0, 255, (1, 1024, 1024), np.uint8)
    strides = [1, 999][: len(channels)]
    with hostile.watched(), pytest.raises(ValueError, match="for one image are too many"):
        CnnExtractor(image, channels, kernels, strides, features_dim=1)


# Surroundings


def test_stacks_of_stacks(ppo: bytes, tmp_path: Path) -> None:
    from prunectl.experiments.episodes.evaluator import environments

    stack = ["stable_baselines3.common.vec_env.VecFrameStack", {"n_stack": 1000}]
    around = {"settings": {}, "wrappers": [stack] * 3}
    sidecar = json.loads(hostile.entries_of(ppo)["prunectl.json"]) | {"surroundings": around}
    path = tmp_path / "ppo.zip"
    path.write_bytes(hostile.with_entry(ppo, "prunectl.json", lambda _: json.dumps(sidecar).encode()))
    controller = agents.load(path).controller
    with (
        hostile.watched(),
        pytest.raises(Exception, match="observations are stacked"),
        environments("CartPole-v1", 1, controller),
    ):
        pass


# Networks of one's own


def test_a_file_of_very_many_tensors(tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    tensors = {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(20_000)}
    text = json.dumps({"__metadata__": {"prunectl": '{"format": "prunectl networks 1"}'}, **tensors}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert said(path) is not None

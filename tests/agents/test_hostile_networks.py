"""Files of own networks that anybody may have written: nothing of them runs, memory and time are bounded."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prunectl import agents
from prunectl.agents import Controller, ControllerError
from prunectl.agents.networks.calls import Call, Calls, Value
from prunectl.agents.networks.controller import Networks
from prunectl.agents.networks.vocabulary import FUNCTIONS, LAYERS, METHODS
from tests import hostile
from tests.agents.test_hostile import DEPTHS, Spoil, fuzz
from tests.hostile import said

Json = dict[str, Any]


def flow(c: Any, x: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
    latent = c["encoder"](x)
    both = torch.cat([latent, action], dim=1)
    return {"encoder": latent, "actor": torch.tanh(c["actor"](latent)), "critic": c["critic"](both)}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    networks = {
        "encoder": nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ELU(0.5)),
        "actor": nn.Linear(4, 1),
        "critic": nn.Linear(5, 1),
    }
    scale = torch.tensor([2.0])
    act: Callable[..., Any] = lambda c, x: torch.tanh(c["actor"](c["encoder"](x))) * scale  # noqa: E731
    controller = Controller.of(networks, flow, act, 3, observe=lambda x: x.clamp(-5.0, 5.0)[:, :3])
    path = tmp_path_factory.mktemp("networks") / "good.safetensors"
    controller.save(path, {"task": "Pendulum-v1", "training_seed": 1})
    hostile.use(agents.load(path).controller)  # imports what is imported late, before anybody watches
    return path.read_bytes()


def header_of(raw: bytes) -> tuple[Json, bytes]:
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def with_header(raw: bytes, change: Callable[[Any], Any]) -> bytes:
    header, tensors = header_of(raw)
    text = json.dumps(change(header)).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def with_said(raw: bytes, change: Callable[[Any], Any]) -> bytes:
    """The file with other JSON of ours in it."""

    def changed(header: Json) -> Json:
        data = change(json.loads(header["__metadata__"]["prunectl"]))
        return {**header, "__metadata__": {"prunectl": json.dumps(data)}}

    return with_header(raw, changed)


@pytest.mark.parametrize("depth", DEPTHS)
def test_spoilt_bytes(good: bytes, tmp_path: Path, depth: int) -> None:
    path = tmp_path / "spoilt.safetensors"

    def spoilt(spoil: Spoil) -> None:
        path.write_bytes(spoil(good))
        said(path)

    fuzz(depth, spoilt, hostile.byte_edits)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("where", [with_header, with_said])
def test_odd_values_in_the_json(good: bytes, tmp_path: Path, where: Callable[..., bytes], depth: int) -> None:
    path = tmp_path / "spoilt.safetensors"

    def spoilt(spoil: Callable[[Any], Any]) -> None:
        path.write_bytes(where(good, spoil))
        said(path)

    fuzz(depth, spoilt, hostile.json_edits)


@pytest.mark.parametrize("depth", DEPTHS)
def test_spoilt_bytes_of_cleanrl(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "spoilt.cleanrl_model"
    layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    torch.save({f"network.{name}": value for name, value in layers.state_dict().items()}, path)
    content = path.read_bytes()

    def spoilt(spoil: Spoil) -> None:
        path.write_bytes(spoil(content))
        said(path)

    fuzz(depth, spoilt, hostile.byte_edits)


def doubling(times: int) -> Calls:
    """A value of 3 numbers beside itself, and that beside itself, and so on."""
    steps = [Call("function", "cat", ([Value(n), Value(n)], 1)) for n in range(times)]
    return Calls(1, tuple(steps), Value(times))


def as_json(calls: Calls) -> Any:
    from prunectl.agents.networks.form import _calls_to_json

    return _calls_to_json(calls)


def observing(*steps: Call) -> Callable[[Json], Json]:
    """The JSON with other calls for what the networks are shown, ending in the last."""
    calls = as_json(Calls(1, steps, Value(len(steps))))
    return lambda data: {**data, "calls": {**data["calls"], "observe": calls}}


def layered(path: str, **settings: Any) -> Callable[[Json], Json]:
    return lambda data: {**data, "layers": {**data["layers"], path: settings}}


LINEAR = {"kind": "Linear", "in_features": 10**9, "out_features": 10**9, "bias": True}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (observing(Call("method", "__class__", (Value(0),))), "calls method '__class__', which is not known"),
        (observing(Call("method", "tofile", (Value(0), "zeros"))), "calls method 'tofile'"),
        (observing(Call("function", "operator.attrgetter", ())), "calls function 'operator.attrgetter'"),
        (observing(Call("function", "load", ())), "calls function 'load'"),
        (observing(Call("layer", "encoder", (Value(0),))), "calls layer 'encoder'"),
        (observing(Call("tensor", "encoder.0.forward")), "calls tensor 'encoder.0.forward'"),
        (observing(Call("constant", "7")), "calls constant '7'"),
        (observing(Call("eval", "x")), "calls eval 'x'"),
        (observing(Call("method", "relu", (Value(1),))), "an argument that is none"),
        (observing(Call("method", "relu", ("zeros",))), "a method of no value"),
        (observing(Call("method", "relu", (Value(0), "../../etc/passwd"))), "a setting of '../../etc/passwd'"),
        (observing(Call("method", "relu", (Value(0), 10**30))), "a setting of"),
        (observing(Call("function", "chunk", (Value(0), 10**9))), "into pieces"),
        (observing(Call("method", "split", (Value(0), 1))), "into pieces"),
        (observing(*doubling(40).steps), "numbers for one observation"),
        (
            observing(
                Call("method", "flatten", (Value(0), 0)),
                *doubling(0).steps,
                *[Call("function", "cat", ([Value(n), Value(n)], 0)) for n in range(1, 20)],
                Call("method", "unsqueeze", (Value(20), 1)),
                Call("function", "mul", (Value(21), Value(20))),
            ),
            "numbers for one observation",
        ),
        (layered("actor", **LINEAR), "do not fit|size mismatch|fails"),
        (layered("actor", **{**LINEAR, "in_features": -1}), "cannot be built|fails"),
        (layered("actor", kind="Bilinear", in1_features=1), "'Bilinear', which is no layer that is read"),
        (layered("actor", kind="Module"), "'Module', which is no layer"),
        (layered("encoder.0.weight", kind="Identity"), "lies inside of a layer"),
        (layered("encoder.forward", kind="ReLU"), "cannot be named so"),
        (layered("encoder.__class__", kind="ReLU"), "no path of a layer|cannot be named"),
        (layered(".".join(["encoder", *"abcdefghijkl"]), kind="ReLU"), "no path of a layer"),
        (layered("other", kind="ReLU"), "its layers are of"),
        (layered("encoder.1", kind="AdaptiveAvgPool1d", output_size=10**8), "numbers for one observation"),
        (layered("encoder.1", kind="LSTM"), "needs the settings"),
        (lambda data: {**data, "tensors": {"encoder.2.weight": "parameter"}}, "there is no tensor|lies inside"),
        (lambda data: {**data, "observation_space": {**data["observation_space"], "shape": [10**9]}}, "a space of"),
        (lambda data: {**data, "components": ["encoder"]}, "its layers are of"),
        (
            lambda data: {**data, "components": [*data["components"], *(f"c{n}" for n in range(9_999))]},
            "9999 components without layers",
        ),
        (lambda data: {**data, "given": {"choices": [-1, 2, 3], "alone": False}}, "cannot be read"),
        (lambda data: {**data, "given": {"shape": [10**9], "type": "float32"}}, "cannot be read"),
        (lambda data: {**data, "format": "prunectl networks 2"}, "this version reads 'prunectl networks 1'"),
    ],
)
def test_what_no_honest_file_says(good: bytes, tmp_path: Path, change: Callable[[Any], Any], line: str) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(with_said(good, change))
    said(path)
    with pytest.raises(ControllerError, match=line):
        agents.load(path)


def test_a_length_that_no_header_has(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + good[8:])
    with pytest.raises(ControllerError, match="a header of"):
        agents.load(path)


def test_weights_that_are_no_numbers(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nan.safetensors"
    path.write_bytes(good)
    controller = agents.load(path).controller
    assert isinstance(controller, Networks)
    with torch.no_grad():
        controller.networks.get_submodule("actor").weight[0, 0] = np.nan
    controller.save(path, {})
    with pytest.raises(ControllerError, match=r"'actor\.weight' hold NaN"):
        agents.load(path)


def test_the_vocabulary_reads_no_file_and_draws_no_number() -> None:
    names = {*LAYERS, *METHODS, *(name.rpartition(".")[2] for name in FUNCTIONS)}
    drawing = {"bernoulli", "normal", "rand", "multinomial", "dropout", "rrelu", "RReLU"}
    making = {"zeros", "ones", "full", "arange", "repeat", "expand", "tile", "pad", "one_hot", "new_zeros", "outer"}
    reading = {"load", "save", "tofile", "from_file", "numpy", "tolist", "apply", "apply_", "map_", "register_hook"}
    assert not names & (drawing | making | reading)
    assert not {name for name in names if name.startswith("_")}

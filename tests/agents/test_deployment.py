"""Every family as a program, as ONNX and as C: the same actions, and files that can be trusted to be what they are."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from stable_baselines3 import PPO
from torch import nn

from prunectl import agents
from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.deployment import onnx_form, onnx_run
from prunectl.agents.deployment.c_form import c_source, identifier
from prunectl.agents.deployment.c_run import FAST, compiled
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.onnx_form import onnx_bytes
from prunectl.agents.deployment.program import Program, program
from prunectl.agents.deployment.steps import FUNCTIONS, Affine, Argmax, Diagonal, Map, Pick, QuantisedAffine
from prunectl.agents.deployment.whole_weights import quantised
from prunectl.agents.rows import row_space
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.normalisation import Normalisation
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.layers import SimNorm
from prunectl.agents.tdmpc.networks import build
from prunectl.agents.tdmpc.planner import Planning
from prunectl.experiments.deploying.few_bits import Bits, in_few_bits
from prunectl.pruning import apply, trace
from prunectl.pruning.grids import grid_of, most_of
from prunectl.pruning.plan import describe
from prunectl.pruning.rounding import nearest
from tests.agents.test_sb3 import FAMILIES, name_of
from tests.agents.test_spaces import KINDS, Still, box, rows_of
from tests.conftest import SaveTiny, untrained, untrained_planner2

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to compile the C with")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2")


def controller_of(family: tuple[str, str, dict[str, Any]]) -> SB3Controller:
    """Random weights, running statistics that are not those of an untouched batch normalisation, and normalisation."""
    controller = untrained(family[0], family[1], **family[2])
    generator = torch.Generator().manual_seed(1)
    for name, values in controller.networks.named_buffers():
        if name.endswith(("ra_mean", "ra_var")):
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    if family[0] == "ppo":
        seen = controller.observation_space.shape[0]
        statistics = Normalisation(np.linspace(-1, 1, seen), np.linspace(0.5, 4, seen), 1.5, 1e-8)
        controller = dataclasses.replace(controller, normalisation=statistics)
    return controller


def seen_by(controller: Controller, count: int = 50) -> np.ndarray:
    shape = controller.observation_space.shape
    return np.random.default_rng(3).normal(scale=2.0, size=(count, *shape)).astype(np.float32)


def program_of(controller: Controller) -> Program:
    return program(controller.deployed_path(), controller.observation_space.shape[0])


def said_by(controller: Controller, **provenance: Any) -> dict[str, Any]:
    return Interface.of(controller).as_json({"task": "Pendulum-v1", "training_seed": 3, **provenance})


def write_c(folder: Path, made: Program, said: dict[str, Any], name: str = "small", tolerance: float = 1e-5) -> Path:
    observations = np.random.default_rng(4).normal(scale=2.0, size=(12, made.inputs))
    source = c_source(made, f"{name}.c", said, observations, tolerance)
    for suffix, text in ((".c", source.code), (".h", source.header), ("_test.c", source.test)):
        (folder / f"{name}{suffix}").write_text(text)
    return folder / f"{name}.c"


def self_test(code: Path) -> subprocess.CompletedProcess[str]:
    folder, name = code.parent, code.stem
    build_it = ["gcc", *STRICT, f"{name}_test.c", f"{name}.c", "-o", "self_test", "-lm"]
    subprocess.run(build_it, cwd=folder, check=True, timeout=60)
    return subprocess.run([str(folder / "self_test")], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
class TestEveryFamily:
    def test_the_program_answers_as_the_controller_does(self, family: tuple[str, str, dict[str, Any]]) -> None:
        controller = controller_of(family)
        seen = seen_by(controller)
        np.testing.assert_allclose(program_of(controller)(seen), controller.act(seen), atol=2e-5)

    def test_onnx(self, family: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
        controller = controller_of(family)
        seen = seen_by(controller)
        (tmp_path / "c.onnx").write_bytes(onnx_bytes(program_of(controller), said_by(controller)))
        loaded = agents.load(tmp_path / "c.onnx")
        assert (loaded.task, loaded.training_seed, loaded.name) == ("Pendulum-v1", 3, "c")
        assert loaded.controller.algorithm == controller.algorithm
        assert loaded.controller.action_space == controller.action_space
        expected = controller.act(seen)
        for rows in (seen, seen[:1]):  # the batch is free
            found = loaded.controller.act(rows)
            assert found.dtype.kind == expected.dtype.kind
            np.testing.assert_allclose(found, controller.act(rows), atol=2e-5)

    @needs_gcc
    def test_c(self, family: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
        controller = controller_of(family)
        seen = seen_by(controller)
        code = write_c(tmp_path, program_of(controller), said_by(controller))
        assert self_test(code).returncode == 0
        loaded = agents.load(code, trust=True)
        assert loaded.controller.action_space == controller.action_space
        np.testing.assert_allclose(loaded.controller.act(seen), controller.act(seen), atol=2e-5)


@pytest.mark.parametrize("bits", [None, 8, 4], ids=["float", "int8", "int4"])
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_numbers_that_are_not_read_are_left_out_in_every_form(
    algorithm: str, bits: Bits | None, tmp_path: Path
) -> None:
    """Before they are normalised: nothing is computed of them, and nothing of theirs is stored."""
    controller, read = controller_of((algorithm, "Pendulum-v1", {})), [0, 2]
    graph = trace(controller, observed=True)
    kept = {name: tuple(read if name == graph.observation else range(n)) for name, n in graph.dense.items()}
    small = apply(describe(graph, kept, 0.0), controller, graph)
    made = program_of(small)
    made = made if bits is None else in_few_bits(made, seen_by(controller, 500), bits)
    assert made.steps[0] == Pick((0, 2))
    assert made.widths[0] == 2
    seen = seen_by(controller)
    expected = made(seen)
    if bits is None:
        np.testing.assert_allclose(expected, small.act(seen), atol=2e-5)
    others = seen.copy()
    others[:, 1] = 1e6
    if bits != 4:  # in ONNX there are no weights of four bits
        (tmp_path / "c.onnx").write_bytes(onnx_bytes(made, said_by(small)))
        loaded = agents.load(tmp_path / "c.onnx").controller
        np.testing.assert_allclose(loaded.act(others), expected, atol=2e-5 if bits is None else 0.1)
    if shutil.which("gcc"):
        code = write_c(tmp_path, made, said_by(small), tolerance=1e-3)
        assert self_test(code).returncode == 0
        np.testing.assert_allclose(agents.load(code, trust=True).controller.act(others), expected, atol=1e-3)
        assert "uint16_t p0[2] = {0, 2}" in code.read_text()
        said = code.with_suffix(".h").read_text()
        assert "Of the observations 2 are read, counted from 0: 0, 2. The others may be anything." in said


@needs_gcc
@pytest.mark.parametrize("bits", [8, 4], ids=["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES[::3], ids=name_of)
def test_few_bits_in_c_are_what_numpy_says_they_are(
    family: tuple[str, str, dict[str, Any]], bits: Bits, tmp_path: Path
) -> None:
    controller = controller_of(family)
    made = in_few_bits(program_of(controller), seen_by(controller, 500), bits)
    code = write_c(tmp_path, made, said_by(controller), tolerance=1e-3)
    assert self_test(code).returncode == 0
    seen = 2 * seen_by(controller)  # beyond what it was calibrated on, too
    np.testing.assert_allclose(agents.load(code, trust=True).controller.act(seen), made(seen), atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES[::3], ids=name_of)
def test_int8_in_onnx_is_what_numpy_says_it_is(family: tuple[str, str, dict[str, Any]], tmp_path: Path) -> None:
    controller = controller_of(family)
    made = quantised(program_of(controller), seen_by(controller, 500))
    (tmp_path / "c.onnx").write_bytes(content := onnx_bytes(made, said_by(controller)))
    nodes = [node.op_type for node in onnx.load_model_from_string(content).graph.node]
    layers = sum(isinstance(step, QuantisedAffine) for step in made.steps)
    # A pair for what each layer reads but the first, whose codes have sixteen bits, and the second half for weights.
    assert nodes.count("QuantizeLinear") == layers - 1
    assert nodes.count("DequantizeLinear") == 2 * layers - 1
    seen = 2 * seen_by(controller)  # beyond what it was calibrated on, too
    np.testing.assert_allclose(agents.load(tmp_path / "c.onnx").controller.act(seen), made(seen), atol=1e-3)


@pytest.mark.parametrize("kind", ["matrix", "choice", "choices", "switches", "image, flattened", "image"])
def test_observations_of_every_kind_are_exported(kind: str, tmp_path: Path) -> None:
    observed, policy = KINDS[kind]
    model = PPO(policy, Still(observed, box(2)), n_steps=8, batch_size=8, seed=0, device="cpu")
    controller = SB3Controller.of("ppo", model)
    rows = rows_of(controller.observed)
    made = program_of(controller)
    np.testing.assert_allclose(made(rows), controller.act(rows), atol=1e-5)
    (tmp_path / "c.onnx").write_bytes(onnx_bytes(made, said_by(controller)))
    loaded = agents.load(tmp_path / "c.onnx").controller
    assert row_space(loaded.observed).dtype == row_space(controller.observed).dtype
    assert loaded.observed.shape == controller.observed.shape
    np.testing.assert_allclose(loaded.act(rows), controller.act(rows), atol=1e-5)


@needs_gcc
@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (0, 0)), ((2, 1), (1, 2))], ids=["plain", "padded"])
def test_a_convolution_in_c_and_in_onnx_is_pytorchs(
    stride: tuple[int, int], padding: tuple[int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Unflatten(1, (2, 7, 5)), nn.Conv2d(2, 3, (3, 2), stride, padding), nn.ReLU(), nn.Conv2d(3, 4, 2),
        nn.Flatten(), nn.LazyLinear(2),
    )  # fmt: skip
    rows = torch.randn(9, 70)
    expected = layers(rows).detach().numpy()
    made = program(layers, 70)
    np.testing.assert_allclose(made(rows.numpy()), expected, atol=1e-5)
    assert self_test(write_c(tmp_path, made, {})).returncode == 0
    model = onnx_run.session(onnx_bytes(made, {}))
    np.testing.assert_allclose(model.run(None, {"observation": rows.numpy()})[0], expected, atol=1e-5)
    # By hand: the first layer's products are its 36 weights at every place of what it gives.
    assert (
        made.macs
        == 36 * np.prod(made.steps[0].result[1:]) + 48 * np.prod(made.steps[2].result[1:]) + made.steps[3].weight.size
    )


# Programs by hand


def test_a_program_worked_by_hand() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        network[0].bias.copy_(torch.tensor([0.5, 0.0]))
        network[2].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        network[2].bias.zero_()
    made = program(network, 2)
    assert made.widths == (2, 2, 3)
    assert made.macs == 4 + 6
    # (1, -1): 1 - 2 + 0.5 < 0 and -1 < 0; (2, 1): 4.5 and -2
    assert made(np.array([[1.0, -1.0], [2.0, 1.0]])).tolist() == [[0, 0, 0], [4.5, 0, 4.5]]


def test_a_normalisation_is_folded_into_the_layer_behind_it() -> None:
    from sb3_contrib.common.torch_layers import BatchRenorm1d

    norm = BatchRenorm1d(2, eps=1.0)
    norm.ra_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.ra_var.copy_(torch.tensor([3.0, 8.0]))  # deviations 2 and 3
    with torch.no_grad():
        norm.scale.copy_(torch.tensor([4.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.5, 0.0]))
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 10.0]]))
        layer.bias.fill_(7.0)
    made = program(nn.Sequential(norm, layer).eval(), 2)
    (step,) = made.steps
    assert isinstance(step, Affine)
    assert step.weight.tolist() == [[2.0, 10.0]]
    assert step.bias.tolist() == [7.0 + (0.5 - 2.0) + 10 * (0 - 2.0)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_activation_is_torchs_in_every_form(name: str, tmp_path: Path) -> None:
    modules = {"elu": nn.ELU(1.5), "leaky_relu": nn.LeakyReLU(0.2), "relu": nn.ReLU(), "silu": nn.SiLU()}
    modules |= {"tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(), "mish": nn.Mish()}
    # A magnitude is no layer of its own: it is a step of `OneHot`.
    made = Program(5, (Map(name),)) if name == "abs" else program(nn.Sequential(modules[name]), 5)
    seen = np.linspace(-6, 6, 60, dtype=np.float32).reshape(12, 5)
    expected = modules.get(name, torch.abs)(torch.as_tensor(seen)).numpy()
    np.testing.assert_allclose(made(seen), expected, atol=1e-6)
    (found,) = onnx_run.session(onnx_bytes(made, {})).run(None, {"observation": seen})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if shutil.which("gcc"):
        assert self_test(write_c(tmp_path, made, {}, tolerance=1e-6)).returncode == 0


def test_a_layer_without_a_step_is_named() -> None:
    with pytest.raises(ControllerError, match=r"Softsign cannot be exported; these can: Linear"):
        program(nn.Sequential(nn.Linear(2, 2), nn.Softsign()), 2)


@pytest.mark.parametrize("first", [nn.LayerNorm(6), SimNorm(3)], ids=["norm", "simplices"])
def test_layers_over_several_units_are_torchs_in_every_form(first: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(first, nn.Linear(6, 6), nn.LayerNorm(6, eps=0.1), SimNorm(2))
    for parameter in layers.parameters():
        nn.init.normal_(parameter)
    made, seen = program(layers, 6), np.random.default_rng(0).normal(size=(9, 6), scale=4.0).astype(np.float32)
    with torch.no_grad():
        expected = layers(torch.as_tensor(seen)).numpy()
    np.testing.assert_allclose(made(seen), expected, atol=1e-6)
    (found,) = onnx_run.session(onnx_bytes(made, {})).run(None, {"observation": seen})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if shutil.which("gcc"):
        assert self_test(write_c(tmp_path, made, {}, tolerance=1e-5)).returncode == 0


# C


def test_costs_by_hand() -> None:
    random = np.random.default_rng(0)

    def layer(inputs: int, outputs: int) -> Affine:
        return Affine(random.normal(size=(outputs, inputs)).astype(np.float32), np.ones(outputs, np.float32))

    made = Program(3, (layer(3, 18), Map("relu"), layer(18, 2), Map("tanh")))
    costs = c_source(made, "x.c", {}, np.zeros((1, 3)), 0.0).costs
    # Rows fill vectors of 16 bytes: 18 outputs are padded to 20 floats, two are left as they are.
    assert costs.flash == 4 * (3 * 20 + 20 + 18 * 2 + 2)
    assert costs.ram == 4 * (20 + 2)
    assert costs.macs == 3 * 18 + 18 * 2
    small = c_source(quantised(made, random.normal(size=(50, 3))), "x.c", {}, np.zeros((1, 3)), 0.0).costs
    # A byte a weight, in rows of an output each: 3 inputs are padded to 4, 18 to 32. Centre and step of each input,
    # scale and bias of each output in floats.
    assert small.flash == (18 * 4 + 2 * 32) + 4 * (2 * 3 + 2 * 18 + 2 * 18 + 2 * 2)
    # Two float buffers, codes of 16 bits, four sums of 32.
    assert small.ram == 4 * (18 + 2) + 2 * 32 + 4 * 4
    assert small.macs == costs.macs


@needs_gcc
def test_the_compiled_constants_take_what_the_header_says(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1", widths=(24, 20))
    made = program_of(controller)
    code = write_c(tmp_path, made, said_by(controller))
    subprocess.run(["gcc", *STRICT, "-c", code.name], cwd=tmp_path, check=True)
    sizes = subprocess.run(["size", "-A", "small.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    constants = sum(int(line.split()[1]) for line in sizes.splitlines() if line.startswith(".rodata"))
    # The few constants of expressions lie there too, and the compiler aligns arrays.
    assert 0 <= constants - c_source(made, "x.c", {}, np.zeros((1, 3)), 0.0).costs.flash < 200


@pytest.mark.parametrize(
    ("stem", "name"),
    [("small", "small"), ("sac-0.9 (best)", "sac_0_9_best"), ("90", "controller_90"), ("_x", "x"), ("é", "controller")],
)
def test_identifiers(stem: str, name: str) -> None:
    assert identifier(stem) == name


@needs_gcc
def test_nothing_that_metadata_says_leaves_its_comment(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1")
    nasty = 'x */ #error "out" /* y \\ ??/ // é\n'
    code = write_c(tmp_path, program_of(controller), said_by(controller, command=nasty))
    assert self_test(code).returncode == 0
    said = next(line for line in code.read_text().splitlines() if line.startswith("/* prunectl: "))
    assert json.loads(said.removeprefix("/* prunectl: ").removesuffix(" */"))["command"] == nasty
    agents.load(code, trust=True)


@needs_gcc
def test_a_wrong_weight_fails_the_self_test(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1")
    code = write_c(tmp_path, program_of(controller), said_by(controller))
    text = code.read_text()
    at = text.index("b2[16] = {") + len("b2[16] = {")
    code.write_text(text[:at] + "0.5f + " + text[at:])
    done = self_test(code)
    assert done.returncode == 1
    assert "12 wrong" in done.stdout


@needs_gcc
def test_what_is_no_number_stays_none(tmp_path: Path) -> None:
    controller = untrained("ppo", "Pendulum-v1")
    loaded = agents.load(write_c(tmp_path, program_of(controller), said_by(controller)), trust=True)
    assert np.isnan(loaded.controller.act(np.full((1, 3), np.nan))).all()


@needs_gcc
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 1), (7, 5), (8, 4), (17, 6), (33, 66)])
def test_rows_of_every_width_lie_in_pairs(inputs: int, outputs: int, tmp_path: Path) -> None:
    """Odd inputs, outputs that are left over from four, rows of more than a vector: as NumPy has them to the last bit
    of a sum, with the smallest and the largest weight among them."""
    generator = np.random.default_rng(inputs)
    weight = generator.integers(-7, 8, size=(outputs, inputs)).astype(np.float32)
    weight[0, 0], weight[-1, -1] = 7, -7
    layer = Affine(weight, np.zeros(outputs, np.float32))
    made = in_few_bits(Program(inputs, (layer,)), generator.uniform(-1, 1, size=(200, inputs)).astype(np.float32), 4)
    assert self_test(write_c(tmp_path, made, {}, tolerance=0.0)).returncode == 0


# Few bits


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("shape", [(1, 5), (6, 3), (16, 17), (64, 64)], ids=str)
def test_what_lies_on_a_grid_stays_as_it_is(shape: tuple[int, int], bits: Bits) -> None:
    """Weights rounded once, whose largest may have been clipped: their grid is found again, and each weight of the
    export is the one that was taught."""
    generator = torch.Generator().manual_seed(shape[0])
    drawn = torch.randn(shape, generator=generator) * torch.rand(shape[1], generator=generator)
    taught = nearest(drawn, bits)
    rows, columns = grid_of(taught.double(), bits)
    whole = taught / (rows[:, None] * columns)
    assert (whole - whole.round()).abs().max() < 1e-3
    assert whole.abs().max() < most_of(bits) + 0.5
    if bits == 4:
        layer = Affine(taught.numpy(), np.zeros(shape[0], np.float32))
        (step,) = in_few_bits(
            Program(shape[1], (layer,)), np.random.default_rng(0).normal(size=(99, shape[1])), 4
        ).steps
        assert isinstance(step, QuantisedAffine)
        np.testing.assert_array_equal(step.weight, whole.round().numpy())
        written = step.weight * step.scale[:, None] * step.inverse_step
        np.testing.assert_allclose(written, taught, rtol=1e-4, atol=1e-6)


def test_four_bits_by_hand() -> None:
    # Scales of the inputs 2 and 1, which are seen from -1 to 1 and from 0 to 4: in their weights' scale both span 4.
    layer = Affine(np.array([[14.0, -3.0], [-8.0, 7.0]], np.float32), np.array([0.0, 1.0], np.float32))
    seen = np.array([[-1.0, 4.0], [1.0, 0.0], [0.0, 2.0], [0.5, 3.0]], np.float32)
    (step,) = in_few_bits(Program(2, (layer,)), seen, 4).steps
    assert isinstance(step, QuantisedAffine)
    assert step.weight.tolist() == [[7, -3], [-4, 7]]
    assert (step.most, step.bits, step.centre.tolist()) == (32767, 4, [0, 2])
    np.testing.assert_allclose(step.inverse_step, [32767, 32767 / 2], rtol=1e-5)
    np.testing.assert_allclose(step.scale, 2 / 32767, rtol=1e-5)
    np.testing.assert_allclose(Program(2, (step,))(seen), seen @ layer.weight.T + layer.bias, atol=1e-3)


def test_what_never_moves_is_a_constant_in_four_bits_too() -> None:
    layer = Affine(np.array([[7.0, 5.0], [3.0, -7.0]], np.float32), np.array([2.0, 0.0], np.float32))
    for seen in (np.array([[-1.0, 3.0], [1.0, 3.0]], np.float32), np.array([[2.0, 3.0], [2.0, 3.0]], np.float32)):
        (step,) = in_few_bits(Program(2, (layer,)), seen, 4).steps
        assert isinstance(step, QuantisedAffine)
        assert (step.inverse_step == 0).tolist() == (np.ptp(seen, axis=0) == 0).tolist()
        np.testing.assert_allclose(Program(2, (step,))(seen), seen @ layer.weight.T + layer.bias, atol=2e-3)


def test_quantising_by_hand() -> None:
    # Inputs seen from -1 to 1 and always 3: steps 1 / 32767 and none. Weights 127 and 5: a scale of one step, the
    # constant input lives in the bias.
    layer = Affine(np.array([[127.0, 5.0]], np.float32), np.array([2.0], np.float32))
    seen = np.array([[-1.0, 3.0], [1.0, 3.0], [0.0, 3.0]], np.float32)
    (step,) = quantised(Program(2, (layer,)), seen).steps
    assert isinstance(step, QuantisedAffine)
    assert step.weight.tolist() == [[127, 0]]
    assert step.most == 32767
    np.testing.assert_allclose(step.scale, [1 / 32767])
    np.testing.assert_allclose(step.bias, [2 + 15], rtol=1e-6)
    assert step.centre.tolist() == [0, 3]
    np.testing.assert_allclose(step.inverse_step, [32767, 0])
    made = Program(2, (step,))
    np.testing.assert_allclose(made(seen)[:, 0], [17 - 127, 17 + 127, 17], rtol=1e-5)
    np.testing.assert_allclose(made(np.array([[5.0, 9.0]]))[0], [17 + 127], rtol=1e-5)  # saturates, and stays 3


def test_later_inputs_make_up_for_roundings() -> None:
    generator = np.random.default_rng(5)
    hidden = generator.normal(size=(1000, 3)) @ generator.normal(size=(3, 30))  # thirty inputs that move as three
    layer = Affine(generator.normal(size=(8, 30)).astype(np.float32), np.zeros(8, np.float32))
    (step,) = quantised(Program(30, (layer,)), hidden).steps
    assert isinstance(step, QuantisedAffine)
    exact = hidden @ layer.weight.T
    plain = np.rint(layer.weight / step.inverse_step / step.scale[:, None]) * step.inverse_step * step.scale[:, None]
    rounded_apart = np.abs(hidden @ plain.T - exact).mean()
    assert np.abs(Program(30, (step,))(hidden) - exact).mean() < 0.5 * rounded_apart


def test_sums_of_many_wide_codes_fit_into_32_bits() -> None:
    generator = np.random.default_rng(6)
    layer = Affine(np.ones((1, 600), np.float32), np.zeros(1, np.float32))
    seen = generator.uniform(-1, 1, size=(20, 600)).astype(np.float32)
    (step,) = quantised(Program(600, (layer,)), seen).steps
    assert isinstance(step, QuantisedAffine)
    assert 600 * 127 * step.most < 2**31
    (step,) = in_few_bits(Program(600, (layer,)), seen, 4).steps
    assert isinstance(step, QuantisedAffine)
    assert 600 * 16 * 7 * step.most < 2**31


# Files


def test_the_same_controller_gives_the_same_bytes(save_tiny: SaveTiny) -> None:
    path = save_tiny("crossq", "Pendulum-v1")

    def exported() -> tuple[bytes, object]:
        controller = agents.load(path).controller
        said = said_by(controller)
        small = quantised(program_of(controller), seen_by(controller, 500))
        return onnx_bytes(program_of(controller), said), c_source(small, "x.c", said, np.zeros((1, 3)), 0.0)

    assert exported() == exported()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    controller = untrained("sac", "Pendulum-v1")
    (tmp_path / "c.onnx").write_bytes(onnx_bytes(program_of(controller), said_by(controller)))
    return tmp_path / "c.onnx"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_damaged_model_is_one_clear_line(model: Path, share: float) -> None:
    content = model.read_bytes()
    model.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ControllerError, match=r"c\.onnx: ") as caught:
        agents.load(model)
    assert "\n" not in str(caught.value)


def edited(path: Path, change: Any) -> None:
    model = onnx.load_model(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def looping(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["still"])],
        "body",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in (("n", 7), ("go_on", 9))],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, [])],
    )
    model.graph.node.insert(0, helper.make_node("Loop", ["", ""], [], body=body))


def custom(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    model.graph.node[1].domain = "theirs"


def elsewhere(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")


def silent(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def restated(**changes: Any) -> Any:
    def change(model: onnx.ModelProto) -> None:
        said = json.loads(model.metadata_props[0].value)
        model.metadata_props[0].value = json.dumps({**said, **changes})

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (looping, "Loop"),
        (custom, "theirs.Relu"),
        (elsewhere, "lies in another file"),
        (silent, "only models that `prunectl export` wrote"),
        (restated(observations=4), "ONNX Runtime cannot run it"),
        (restated(actions={"n": 3}), "actions have shape"),
        (restated(actions={"low": [1], "high": "x", "dtype": "float32"}), "what it says of its spaces"),
        (restated(held_steps=0), "what it says of its spaces"),
        (restated(format="prunectl export 9"), "this version reads"),
    ],
)
def test_a_model_that_is_not_ours_is_not_run(model: Path, change: Any, says: str) -> None:
    edited(model, change)
    with pytest.raises(ControllerError, match=says):
        agents.load(model)


def test_no_model_is_read_that_is_too_large(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_run, "LARGEST_FILE", 1000)
    with pytest.raises(OSError, match="no such file is so large"):
        agents.load(model)


def test_every_operator_that_is_written_can_be_read() -> None:
    steps = [Map(name) for name in FUNCTIONS]
    diagonal = Diagonal(*(np.full(2, value, np.float32) for value in (1, 2, 3)))
    content = onnx_bytes(Program(2, (diagonal, *steps, Argmax())), {})
    assert {node.op_type for node in onnx.load_model_from_string(content).graph.node} <= onnx_form.OPERATORS


def test_c_is_run_on_the_users_word_alone(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1")
    code = write_c(tmp_path, program_of(controller), said_by(controller))
    with pytest.raises(ControllerError, match="--trust"):
        agents.load(code)
    code.write_text("int main(void) { return 0; }\n")
    with pytest.raises(ControllerError, match="only C that `prunectl export` wrote"):
        agents.load(code, trust=True)


@needs_gcc
def test_c_that_does_not_compile_is_one_clear_line(tmp_path: Path) -> None:
    controller = untrained("sac", "Pendulum-v1")
    code = write_c(tmp_path, program_of(controller), said_by(controller))
    (tmp_path / "small.h").unlink()
    with pytest.raises(ControllerError, match=r"gcc refuses: .*small\.h") as caught:
        agents.load(code, trust=True)
    assert "\n" not in str(caught.value)


# What an exported controller is


def test_an_exported_controller_only_acts(model: Path) -> None:
    controller = agents.load(model).controller
    refusals = (
        controller.dataflow,
        controller.deployed_path,
        lambda: controller.save(model, {}),
        lambda: controller.suffix,
        lambda: controller.with_networks(nn.Module()),
    )
    for refused in refusals:
        with pytest.raises(ControllerError, match=r"can be evaluated and nothing else"):
            refused()


def test_the_policy_of_a_world_model_holds_its_decisions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    spaces = untrained("sac", "Pendulum-v1")
    controller = TDMPCController(
        networks=build(3, 1, latent=8, encoder=12, hidden=16),
        planning=Planning(),
        action_repeat=2,
        reward_scale=1.0,
        observation_space=spaces.observation_space,
        action_space=spaces.action_space,
    )
    (tmp_path / "c.onnx").write_bytes(onnx_bytes(program_of(controller), said_by(controller)))
    write_c(tmp_path, program_of(controller), said_by(controller))
    assert "held for 2 steps of the task" in (tmp_path / "small.h").read_text()
    exported = agents.load(tmp_path / "c.onnx").controller
    seen = seen_by(controller, 6)
    online = controller.networks.online
    with torch.no_grad():
        expected = 2 * online.actor(online.encoder(torch.as_tensor(seen))).numpy()
    np.testing.assert_allclose(exported.act(seen), expected, atol=1e-5)
    drive = exported.policy([1, 2])
    both, second = np.array([0, 1]), np.array([1])
    np.testing.assert_array_equal(drive(seen[:2], both), exported.act(seen[:2]))
    np.testing.assert_array_equal(drive(seen[2:4], both), exported.act(seen[:2]))  # held
    np.testing.assert_array_equal(drive(seen[4:5], second), exported.act(seen[4:5]))
    np.testing.assert_array_equal(drive(seen[5:6], second), exported.act(seen[4:5]))


def test_the_policy_of_simplices_and_mish(tmp_path: Path) -> None:
    controller = untrained_planner2()
    (tmp_path / "c.onnx").write_bytes(onnx_bytes(program_of(controller), said_by(controller)))
    seen = 3.0 * seen_by(controller, 40)
    with torch.no_grad():
        expected = controller.deployed_path()(torch.as_tensor(seen)).numpy()
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(agents.load(tmp_path / "c.onnx").controller.act(seen), expected, atol=1e-5)
    np.testing.assert_allclose(program_of(controller)(seen), expected, atol=1e-5)
    if shutil.which("gcc"):
        assert self_test(write_c(tmp_path, program_of(controller), {}, tolerance=1e-4)).returncode == 0


@needs_gcc
def test_fast_arithmetic_stays_in_the_library(tmp_path: Path) -> None:
    """gcc's -ffast-math, given to the linker too, makes a library flush subnormals in whatever process loads it."""
    source = tmp_path / "half.c"
    source.write_text("double half(double x) { return 0.5 * x; }\n")
    compiled([source], FAST)
    smallest = np.finfo(np.float64).tiny
    assert smallest * 0.5 > 0
    assert (torch.tensor([smallest], dtype=torch.float64) * 0.5).item() > 0

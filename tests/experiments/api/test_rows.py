"""Pruning by rows of observations, where there is no task: an autoencoder with two heads."""

from __future__ import annotations

import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

import prunectl
from prunectl.agents import Controller
from prunectl.experiments.cli import run
from prunectl.experiments.episodes.rows import Rows, agreement


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def passing(c: Any, x: Tensor) -> dict[str, Tensor]:
    code = torch.relu(c["encoder"](x))
    return {"encoder": code, "decoder": c["decoder"](code), "head": c["head"](code)}


def rows(count: int = 800) -> Any:
    code = np.random.default_rng(0).normal(size=(count, 2))
    return np.tanh(code @ np.random.default_rng(1).normal(size=(2, 6))).astype(np.float32)


@cache
def autoencoder() -> Controller:
    torch.manual_seed(0)
    networks = {"encoder": mlp(6, 24, 12), "decoder": mlp(12, 24, 6), "head": mlp(12, 8, 2)}
    return Controller.of(networks, passing, lambda c, x: c["head"](torch.relu(c["encoder"](x))), 6)


def test_rows_are_divided_and_none_is_in_two_parts() -> None:
    given = rows()
    found = Rows.of(autoencoder(), given, seed=3)
    parts = [found.calibration.observations, found.choosing, found.calibration.held_out_observations]
    assert [len(part) for part in parts] == [560, 80, 160]
    together = np.concatenate(parts)
    assert len(np.unique(together, axis=0)) == len(given)
    assert set(map(tuple, together.tolist())) == set(map(tuple, given.tolist()))
    assert not np.array_equal(together[:560], given[:560])  # rows come in an order that means something
    np.testing.assert_array_equal(found.calibration.actions, autoencoder().act(parts[0]))
    np.testing.assert_array_equal(Rows.of(autoencoder(), given, seed=3).choosing, found.choosing)


def test_agreement_by_hand() -> None:
    wanted = np.array([[0.0, 1.0], [2.0, 1.0]])
    assert agreement(wanted, wanted) == 1.0
    assert agreement(np.array([[1.0, 1.0], [2.0, 1.0]]), wanted) == 0.5  # an error of 1 against a spread of 1 + 1
    assert agreement(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])) == 0.75


def test_fidelity_says_what_it_costs() -> None:
    fresh = prunectl.prune(autoencoder(), 0.5, inputs=rows(), recovery="none")
    refitted = prunectl.prune(autoencoder(), 0.5, inputs=rows(), recovery="reconstruct")
    assert refitted.integrity > max(0.9, fresh.integrity)
    assert refitted.plan.sparsity_total == pytest.approx(0.5, abs=0.02)
    assert refitted.dense is None
    assert np.isnan(refitted.kept)
    said = str(refitted)
    assert "networks on the inputs given" in said
    assert f"decoder {refitted.fidelity['decoder']:.3f}" in said
    assert "return" not in said
    record = refitted.as_json()
    assert (record["task"], record["dense_return"], record["episodes"]) == (None, None, 0)


def test_distillation_goes_by_rows_and_is_no_worse_where_they_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["prunectl.pruning.recovery.distill"]  # a module that its function hides
    monkeypatch.setattr(module, "BATCHES", 100)
    monkeypatch.setattr(module, "OFF_STAGE_BATCHES", 50)
    small = prunectl.prune(autoencoder(), 0.8, inputs=rows(), budget=200)
    assert small.validation is not None
    before, after = small.validation
    assert before <= after <= 1
    assert "the agreement with the dense controller's actions" in str(small)


def test_the_plan_is_that_of_prune() -> None:
    plan = prunectl.plan(autoencoder(), 0.5, inputs=rows())
    assert plan.kept == prunectl.prune(autoencoder(), 0.5, inputs=rows(), recovery="none").plan.kept


@pytest.mark.parametrize(
    ("inputs", "more", "said"),
    [
        (rows(20), {}, "at least 50 observations"),
        (rows()[:, :5], {}, r"of shape \(6,\) are needed"),
        (np.full((60, 6), np.nan), {}, "NaN or infinite"),
        (np.array([["a"] * 6] * 60), {}, "are needed"),
        (rows(), {"env": "Pendulum-v1"}, "leave one of them out|observes"),
        (rows(), {"recovery": "finetune"}, "needs a task"),
        (None, {}, "inputs="),
    ],
)
def test_what_rows_cannot_be(inputs: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(prunectl.Error, match=said):
        prunectl.prune(autoencoder(), 0.5, inputs=inputs, **more)


def test_from_file_to_export_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    autoencoder().save(Path("dense.safetensors"), {})
    np.save("rows.npy", rows())
    given = ["--inputs", "rows.npy"]
    asked = ["prune", "dense.safetensors", *given, "--sparsity", "0.5", "--recovery", "reconstruct"]
    assert run([*asked, "-o", "small.safetensors"]) == 0
    assert "fidelity: encoder" in capsys.readouterr().out
    for form in ("onnx", "c"):
        assert run(["export", "small.safetensors", *given, "--format", form, "-o", f"small.{form}"]) == 0
    small, exported = (prunectl.load(name).controller for name in ("small.safetensors", "small.onnx"))
    np.testing.assert_allclose(exported.act(rows()), small.act(rows()), rtol=1e-4, atol=1e-5)
    assert run(["prune", "dense.safetensors", "--sparsity", "0.5", "-o", "x.safetensors"]) == 2
    assert "--inputs ROWS.npy" in capsys.readouterr().err
    Path("rows.npy").write_text("1, 2, 3")
    assert run([*asked, "-o", "x.safetensors"]) == 2
    assert "no array of numbers" in capsys.readouterr().err


def looking(c: Any, x: Tensor) -> dict[str, Tensor]:
    seen = c["camera"](x)
    states, _ = c["memory"](seen.flatten(2).transpose(1, 2))
    return {"camera": seen, "memory": states, "pilot": c["pilot"](states[:, -1])}


def test_what_is_no_program_of_steps_is_exported_as_onnx_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = {
        "camera": nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU()),
        "memory": nn.LSTM(4, 5, batch_first=True),
        "pilot": nn.Linear(5, 3),
    }
    steer: Any = lambda c, x: looking(c, x)["pilot"].argmax(1)  # noqa: E731
    space = spaces.Discrete(3)
    controller = Controller.of(networks, looking, steer, (2, 9, 9), space, observe=lambda x: x / 255.0)
    images = np.random.default_rng(0).integers(0, 256, (90, 2, 9, 9))
    small = prunectl.prune(controller, 0.3, inputs=images, recovery="none").controller
    made = prunectl.export(small, tmp_path / "pilot.onnx", inputs=images).made
    assert made.difference.largest == 0  # the share of choices that differ
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "pilot.onnx")
    given = images[:7].reshape(7, -1).astype(np.float32)
    np.testing.assert_array_equal(session.run(None, {"observation": given})[0], small.act(images[:7]))
    with pytest.raises(prunectl.Error, match="as ONNX it can be"):
        prunectl.export(small, tmp_path / "pilot.c", inputs=images)
    assert not (tmp_path / "pilot.c").exists()

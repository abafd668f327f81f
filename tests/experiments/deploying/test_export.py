"""Exports from the command line: checked before they are written, and evaluated like any checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from prunectl.agents.deployment import emulated
from prunectl.experiments.cli import run
from prunectl.experiments.deploying import export as exporting
from prunectl.experiments.deploying.export import difference
from tests.conftest import SaveTiny, needs_arm

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to compile the C with")


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    status = run([*(str(argument) for argument in arguments), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    data = json.loads(captured.out)
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("form", [(), ("--int8",)])
def test_onnx_drives_the_task_as_the_checkpoint_does(
    form: tuple[str, ...], balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.onnx"
    told = said(capsys, "export", balancer, "--format", "onnx", *form, "-o", out)
    assert told["files"] == [str(out)]
    assert told["observations"] == 1000
    assert told["max_difference"] <= (0.05 if form else 0)  # in floats not one of its choices differs
    found = said(capsys, "evaluate", out, "--episodes", 3)
    assert found["task"] == "CartPole-v1"
    assert found["returns"] == said(capsys, "evaluate", balancer, "--episodes", 3)["returns"] == [500.0] * 3
    assert "exported controller" in failing(capsys, "prune", out, "--sparsity", 0.5, "-o", tmp_path / "x.zip")
    assert "--force" in failing(capsys, "export", balancer, "--format", "onnx", "-o", out)


@needs_gcc
@pytest.mark.parametrize("form", [(), ("--int8",), ("--int4",)])
def test_c_drives_the_task_as_the_checkpoint_does(
    form: tuple[str, ...], balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small one.c"
    told = said(capsys, "export", balancer, "--format", "c", *form, "-o", out)
    names = [Path(name).name for name in told["files"]]
    assert names == ["small one.c", "small_one.h", "small_one_test.c"]
    assert told["compiled"] is True
    assert told["macs"] == 4 * 12 + 12 * 12 + 12 * 2
    assert f"{told['flash']:,} bytes of constants" in (tmp_path / "small_one.h").read_text()
    assert "--trust" in failing(capsys, "evaluate", out)
    assert said(capsys, "evaluate", out, "--trust", "--episodes", 3)["returns"] == [500.0] * 3
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run(["gcc", *flags, "small_one_test.c", "small one.c", "-lm"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "a.out")], check=True)


def test_what_differs_is_not_written(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "own_actions", lambda controller, rows: 1 - controller.act(rows))
    line = failing(capsys, "export", balancer, "--format", "onnx", "-o", tmp_path / "x.onnx")
    assert "not written" in line
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_differences_are_in_half_action_ranges() -> None:
    box = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))
    found = difference(np.array([[1.0, 0.5], [0.0, 0.0]]), np.array([[0.0, 0.5], [0.0, 0.1]]), box)
    assert found.largest == pytest.approx(0.5)
    assert found.mean == pytest.approx((0.5 + 0.2) / 4)
    free = spaces.Box(-np.inf, np.inf, (1,))
    assert difference(np.array([[3.0]]), np.array([[1.0]]), free).largest == 2
    assert difference(np.array([1, 2, 0, 0]), np.array([1, 0, 0, 0]), spaces.Discrete(3)).largest == 0.25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "onnx", "-o", "x.c"), "ends in .onnx"),
        (("--format", "c", "-o", "x.onnx"), "ends in .c"),
        (("--format", "onnx", "--planner", "--int8", "-o", "x"), "and without --int8"),
        (("--format", "onnx", "--int4", "-o", "x.onnx"), "weights of four bits are written as C: take int8"),
        (("--format", "c", "--int4", "--int8", "-o", "x.c"), "a weight has eight bits or four"),
        (("--format", "onnx", "-o", "nowhere/x.onnx"), "no such folder"),
        (("--format", "c", "--planner", "-o", "x"), "--planner goes with --format onnx"),
        (("--format", "onnx", "--planner", "-o", "x"), "a ppo controller does not plan"),
        (("--format", "onnx", "--planner", "-o", "."), "a planner goes to a new folder"),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...],
    says: str,
    balancer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in failing(capsys, "export", balancer, *arguments)


def test_a_missing_extra_is_named(
    save_tiny: SaveTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_tiny("ppo", "CartPole-v1")
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("prunectl.agents.deployment.onnx_form", "prunectl.agents.deployment.onnx_run"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    line = failing(capsys, "export", path, "--format", "onnx", "-o", tmp_path / "x.onnx")
    assert "pip install onnx onnxruntime" in line
    (tmp_path / "y.onnx").write_bytes(b"")
    assert "pip install onnx onnxruntime" in failing(capsys, "evaluate", tmp_path / "y.onnx")


@needs_arm
def test_a_checkpoint_becomes_an_image_that_drives_the_task(
    save_tiny: SaveTiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = save_tiny("td3", "Pendulum-v1"), tmp_path / "small one.elf"
    told = said(capsys, "export", checkpoint, "--format", "c", "--target", "cortex-m4", "-o", out)
    names = [Path(name).name for name in told["files"]]
    assert names == ["small one.c", "small_one.h", "small_one_test.c", "small one.elf"]
    taken = told["on_target"]
    assert told["flash"] < taken["flash"] < told["flash"] + 4_000
    assert told["ram"] <= taken["ram"] < told["ram"] + 400
    assert told["macs"] < taken["instructions"] < 40 * told["macs"]
    assert taken["rate_80mhz"] == pytest.approx(80e6 / taken["instructions"])
    assert all(taken["boards"].values())
    assert "--trust" in failing(capsys, "evaluate", out)
    found = said(capsys, "evaluate", out, "--trust", "--episodes", 2)
    assert found["task"] == "Pendulum-v1"
    expected = said(capsys, "evaluate", checkpoint, "--episodes", 2)["returns"]
    np.testing.assert_allclose(found["returns"], expected, rtol=1e-3)
    again = failing(capsys, "export", checkpoint, "--format", "c", "--target", "cortex-m4", "-o", out)
    assert "--force" in again


@needs_arm
@pytest.mark.parametrize(
    ("board", "says"), [("sleep 60", "has not answered for 0.2 s"), ("echo lost >&2", "stopped: lost")]
)
def test_a_board_that_hangs_or_stops_is_one_line(
    board: str,
    says: str,
    save_tiny: SaveTiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "x.elf"
    said(capsys, "export", save_tiny("td3", "Pendulum-v1"), "--format", "c", "--target", "cortex-m4", "-o", out)
    pipe = subprocess.PIPE
    process = subprocess.Popen(board, shell=True, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe)
    monkeypatch.setattr(emulated, "_started", lambda image, target: process)
    monkeypatch.setattr(emulated, "PATIENCE", 0.2)
    line = failing(capsys, "evaluate", out, "--trust", "--episodes", 1)
    assert says in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--format", "c", "-o", "x.elf"), "an image is for a target that is emulated, as cortex-m4"),
        (("--format", "c", "--target", "x86", "-o", "x.elf"), "an image is for a target that is emulated"),
        (("--format", "c", "--target", "pdp11", "-o", "x.c"), "unknown target 'pdp11': there are cortex-m4"),
        (("--format", "onnx", "--target", "x86", "-o", "x.onnx"), "--target is a machine that C is compiled for"),
    ],
    ids=["no target", "not emulated", "unknown", "onnx"],
)
def test_targets_that_make_no_sense(
    options: tuple[str, ...], line: str, balancer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in failing(capsys, "export", balancer, *options)


@needs_gcc
def test_where_nothing_emulates_the_target_its_object_is_measured(
    balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = said(capsys, "export", balancer, "--format", "c", "--target", "x86", "-o", tmp_path / "x.c")
    assert told["flash"] < told["on_target"]["flash"] < told["flash"] + 4_000
    assert told["on_target"]["instructions"] is None

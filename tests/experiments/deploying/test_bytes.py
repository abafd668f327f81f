"""The bytes study: what rounding does to weights, what it takes, and the ways side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from prunectl.agents import Controller
from prunectl.experiments.deploying import bytes_study, study
from prunectl.experiments.deploying.rounding import rounded
from prunectl.pruning import Method, prune
from prunectl.pruning.rounding import round_to, scales, weights_of
from tests.conftest import SaveTiny, untrained


def seen(controller: Controller) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(500, 1))  # observations of few directions, as they are
    observations = np.concatenate([np.cos(turn), np.sin(turn), turn], axis=1).astype(np.float32)
    return controller.inputs(observations, rng.uniform(-2, 2, (500, 1)).astype(np.float32))


@pytest.mark.parametrize(("bits", "weights"), [(8, 3 * 8 + 8 * 8 + 8 * 1), (4, (3 * 8 + 8 * 8 + 8 * 1) // 2)])
def test_weights_are_rounded_row_by_row_and_counted(bits: int, weights: int) -> None:
    dense = untrained("td3", "Pendulum-v1", widths=(8, 8))
    small, size = rounded(dense, bits, seen(dense))
    outputs, inputs = 8 + 8 + 1, 3 + 8  # a single output's have no scale of their own
    assert size == weights + 4 * (outputs + inputs) + 4 * outputs  # scales, and biases
    before, after = (dict(one.components["actor"].module.named_parameters()) for one in (dense, small))
    for name, exact in before.items():
        if exact.dim() == 2:
            step = scales(exact, bits)
            torch.testing.assert_close(after[name] / step, (after[name] / step).round(), rtol=0, atol=1e-3)
            assert not torch.equal(after[name], exact)
    for name, component in dense.components.items():
        if not component.deployed:
            own = small.components[name].module.state_dict()
            assert all(torch.equal(own[key], value) for key, value in component.module.state_dict().items())


def test_error_feedback_errs_less_than_the_nearest_numbers() -> None:
    dense = untrained("td3", "Pendulum-v1", widths=(32, 32))
    inputs = seen(dense)
    small, _ = rounded(dense, 4, inputs)
    nearest = dense.with_networks(untrained("td3", "Pendulum-v1", widths=(32, 32)).networks)
    round_to(weights_of(nearest.components["actor"].module), 4)
    with torch.no_grad():
        exact, ours, plain = (one.dataflow()(*inputs)["actor"] for one in (dense, small, nearest))
    assert (ours - exact).square().mean() < 0.5 * (plain - exact).square().mean()


def test_a_row_of_zeros_stays_zero_and_other_widths_are_refused() -> None:
    dense = untrained("td3", "Pendulum-v1", widths=(8, 8))
    with torch.no_grad():
        next(dense.components["actor"].module.parameters())[0] = 0.0
    small, _ = rounded(dense, 4, seen(dense))
    assert (next(small.components["actor"].module.parameters())[0] == 0).all()
    with pytest.raises(ValueError, match="2 to 8 bits, not 16"):
        rounded(dense, 16, seen(dense))


def test_the_ways_meet_in_one_table_which_is_kept(
    save_tiny: SaveTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytes_study, "SPARSITIES", {"sparse": (0.5,)})
    monkeypatch.setattr(bytes_study, "EPISODES", 2)
    path = str(save_tiny("ppo", "CartPole-v1"))
    table = bytes_study.written(tmp_path / "out", [path]).set_index("way")
    assert list(table.index) == ["pruned", "rounded to 8 bits", "rounded to 4 bits", "sparse"]
    assert table.loc["pruned", "normalised_return"] == 1
    assert (
        table.loc["pruned", "bytes"] > table.loc["rounded to 8 bits", "bytes"] > table.loc["rounded to 4 bits", "bytes"]
    )
    monkeypatch.setattr(bytes_study, "measured", None)  # would fail if it were called again
    assert len(bytes_study.written(tmp_path / "out", [path])) == 4


def test_what_was_broken_off_goes_on_where_it_stopped(
    save_tiny: SaveTiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytes_study, "SPARSITIES", {"pruned": (0.2,), "sparse": (0.5, 0.6)})
    monkeypatch.setattr(bytes_study, "METHODS", dict.fromkeys(("pruned", "sparse"), Method.of("unstructured")))
    monkeypatch.setattr(bytes_study, "EPISODES", 2)
    path, asked = str(save_tiny("ppo", "CartPole-v1")), list[float]()

    def broken_off(*given: Any, **named: Any) -> Any:
        asked.append(given[2])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return prune(*given, **named)

    whole = bytes_study.written(tmp_path / "whole", [path])
    monkeypatch.setattr(bytes_study, "prune", broken_off)
    with pytest.raises(KeyboardInterrupt):
        bytes_study.written(tmp_path / "out", [path])
    pd.testing.assert_frame_equal(bytes_study.written(tmp_path / "out", [path]), whole, check_exact=True)
    assert asked == [0.2, 0.5, 0.6, 0.6]
    assert [file.suffix for file in (tmp_path / "out").iterdir()] == [".csv"]


def test_the_fewest_bytes_are_those_of_a_point_that_surely_keeps_enough() -> None:
    rows = [("a", "pruned", 10, 0.96), ("a", "pruned", 20, 0.94), ("a", "sparse", 2, 0.99), ("b", "sparse", 4, 0.9)]
    table = pd.DataFrame(rows, columns=["controller", "way", "fewer", "low"])
    found = bytes_study.fewest(table)
    assert found["a"].to_dict() == {"pruned": 10, "sparse": 2, bytes_study.ANY: 10}
    assert found["b"].isna().all()


@pytest.mark.parametrize("main", [bytes_study.main, study.main], ids=["bytes_study", "study"])
def test_a_checkpoint_that_is_not_there_is_one_line_and_leaves_no_folder(
    main: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["study", str(tmp_path / "out"), "td3-pendulum", "nowhere.zip"])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().err
    assert (left.value.code, said.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])
    assert "nowhere.zip" in said

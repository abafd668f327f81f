"""The drift of importances over training: its numbers by hand, and that watching changes nothing."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from prunectl.experiments.drawing.drift_figure import drift_figure
from prunectl.experiments.training.importance_drift import Measurement, drift_table
from prunectl.experiments.training.sb3 import Training, train

SMALL = {"policy_kwargs": {"net_arch": [8, 8]}, "batch_size": 16}


def measurement(step: int, actor: dict[str, list[float]], critic: dict[str, list[float]]) -> Measurement:
    return {"step": step, "scores": {"fisher": {"actor": actor, "critic": critic}}}


MEASURED = [
    measurement(10, {"actor/0": [1, 2, 3], "actor/1": [5, 1, 2, 3, 4]}, {"critic/0": [1, 1]}),
    measurement(20, {"actor/0": [3, 2, 1], "actor/1": [10, 2, 4, 6, 8]}, {"critic/0": [30, 34]}),
    measurement(30, {"actor/0": [9, 5, 2], "actor/1": [1, 5, 4, 3, 2]}, {"critic/0": [4, 8]}),
]


def test_shares_and_rank_correlations_by_hand() -> None:
    table = drift_table(MEASURED).set_index(["component", "step"])
    actor, critic = table.loc["actor"], table.loc["critic"]
    assert actor["units"].tolist() == [8, 8, 8]
    assert actor["total"].tolist() == [21, 36, 31]
    assert actor["share"].tolist() == pytest.approx([21 / 23, 36 / 100, 31 / 43])
    assert critic["share"].tolist() == pytest.approx([2 / 23, 64 / 100, 12 / 43])
    # Within its layers: 3 units reversed, 5 as before; then 3 as before, 5 reversed.
    assert actor["rank_previous"].tolist()[1:] == pytest.approx([(-3 + 5) / 8, (3 - 5) / 8])
    assert pd.isna(actor["rank_previous"].iloc[0])
    assert actor["rank_final"].tolist() == pytest.approx([-1, (3 - 5) / 8, 1])
    # Equal scores have no ranks.
    assert critic["rank_final"].isna().tolist() == [True, False, False]


def test_the_figure_has_a_line_a_component_in_every_panel() -> None:
    figure = drift_figure(drift_table(MEASURED))
    assert [axes.get_title() for axes in figure.axes] == ["fisher", ""]
    for axes in figure.axes:
        assert [line.get_label() for line in axes.get_lines()] == ["actor", "critic"]
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == pytest.approx([21 / 23, 36 / 100, 31 / 43])


@pytest.mark.parametrize(
    ("algorithm", "settings"), [("sac", {"learning_starts": 50}), ("ppo", {"n_steps": 64}), ("crossq", {})]
)
def test_watching_leaves_the_training_as_it_is(tmp_path: Path, algorithm: str, settings: dict[str, int]) -> None:
    asked = Training(algorithm, "Pendulum-v1", 200, 1, {**SMALL, **settings})
    plain = train(asked, tmp_path / "plain", "", evaluations=2)
    watched = train(replace(asked, track_importance=True), tmp_path / "watched", "", evaluations=2)
    one, other = (zipfile.ZipFile(path).read("policy.pth") for path in (plain, watched))
    assert one == other
    curves = [pd.read_csv(path.parent / "curve.csv").drop(columns="seconds") for path in (plain, watched)]
    pd.testing.assert_frame_equal(*curves)
    table = pd.read_csv(watched.parent / "importance.csv")
    assert set(table["importance"]) == {"gradient", "fisher", "uncertainty"}
    assert table["step"].unique().tolist() == curves[0]["step"].tolist()
    shares = table.groupby(["step", "importance"])["share"].sum()
    assert shares.tolist() == pytest.approx([1.0] * len(shares), rel=1e-4)
    assert {entry.name for entry in watched.parent.iterdir()} - {entry.name for entry in plain.parent.iterdir()} == {
        "importance.csv", "importance.pdf", "importance.png",
    }  # fmt: skip

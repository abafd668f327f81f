"""The stability checks against linear loops whose answers are known in closed form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import eigh
from scipy.stats import binom

from prunectl import agents
from prunectl.agents.controller import Controller, ControllerError
from prunectl.envs.linear import GRAVITY, SYSTEMS
from prunectl.envs.plants import PLANTS
from prunectl.experiments.cli import run
from prunectl.experiments.episodes.calibration import calibrate
from prunectl.experiments.episodes.seeds import calibration_seeds, reported_seeds
from prunectl.experiments.jsontext import json_text
from prunectl.experiments.stability.attraction import attraction, axes, grid, kept
from prunectl.experiments.stability.bounds import clopper_pearson, safe_sparsity
from prunectl.experiments.stability.family_tables import as_json, verdict
from prunectl.experiments.stability.lyapunov import (
    LinearModel,
    Lyapunov,
    LyapunovError,
    fit,
    level_within,
    linear_model,
    quadratic,
)
from prunectl.experiments.stability.measure import Candidate, Effort, family, smaller_than
from prunectl.experiments.stability.robustness import conditions
from prunectl.experiments.stability.rollout import Condition, Trajectories, trajectories
from prunectl.pruning import Calibration, Method, prune

PENDULUM = "prunectl/LinearPendulum-v0"
PLANT = PLANTS[PENDULUM]
SYSTEM = SYSTEMS[PENDULUM]
GAIN, COST = SYSTEM.lqr()


def law(gain: np.ndarray, task: str = PENDULUM) -> Controller:
    """A linear controller a = -K x, as far as the evaluator sees it."""
    from prunectl import envs

    space = envs.make(task)

    def act(observations: np.ndarray) -> np.ndarray:
        return np.clip(-observations.astype(np.float64) @ gain.T, -1, 1)

    def policy(seeds: Sequence[int]) -> Any:
        return lambda observations, episodes: act(observations)

    fake = SimpleNamespace(
        surroundings=None,
        plans=False,
        masked=False,
        act=act,
        policy=policy,
        observed=space.observation_space,
        observation_space=space.observation_space,
        action_space=space.action_space,
    )
    return cast(Controller, fake)


@pytest.fixture(scope="module")
def fitted() -> Lyapunov:
    return fit(law(GAIN), PLANT, 100)


@pytest.fixture(scope="module")
def regulator() -> tuple[Candidate, Calibration]:
    """The bundled network that was fitted to the regulator, and what pruning looks at."""
    controller = agents.load("lqr-linear-pendulum-1").controller
    return Candidate("dense", controller), calibrate(controller, PENDULUM)


def test_the_fit_finds_the_regulators_own_loop(fitted: Lyapunov) -> None:
    a, b = SYSTEM.discrete()
    near = np.diag(PLANT.near)
    truth = np.linalg.inv(near) @ (a - b @ GAIN) @ near  # in units of `near`
    np.testing.assert_allclose(fitted.model.a, truth, atol=1e-4)
    np.testing.assert_allclose(fitted.model.rest, 0, atol=1e-4)
    assert fitted.model.r2 > 0.9999
    assert fitted.model.radius == pytest.approx(np.abs(np.linalg.eigvals(a - b @ GAIN)).max(), abs=1e-4)
    np.testing.assert_allclose(truth.T @ fitted.p @ truth - fitted.p, -np.eye(2), atol=1e-2)


def test_the_decrease_along_the_regulators_loop_is_the_closed_forms(fitted: Lyapunov) -> None:
    # Without saturation: the set where |K x| <= 1 holds the ellipsoid of level 1 / (K P^-1 K').
    gain = GAIN * np.asarray(PLANT.near)
    unsaturated = float(1 / (gain @ np.linalg.inv(fitted.p) @ gain.T)[0, 0])
    seeds = reported_seeds(60)
    inside = Lyapunov(PLANT, fitted.model, fitted.p, 1, 1e-6 * unsaturated, unsaturated)
    found = trajectories(law(GAIN), PLANT, seeds, inside.states(seeds), most_steps=40)
    slowest, fastest = 1 - 1 / np.linalg.eigvalsh(fitted.p)[[-1, 0]]
    excess = inside.excess(found)
    assert fastest < excess.max() <= slowest + 1e-4
    assert excess.max() == pytest.approx(slowest, abs=0.02)  # 60 trajectories see nearly the slowest direction
    a, b = SYSTEM.discrete()
    later = found.states[:, 0] @ np.linalg.matrix_power(a - b @ GAIN, 40).T
    exact = np.log(inside(found.states[:, 0]) / inside(later)) / (40 * PLANT.step)
    np.testing.assert_allclose(inside.decay(found), exact, rtol=1e-2)
    slowest_pole = -2 * np.log(fitted.model.radius) / PLANT.step  # what the decay tends to over many steps
    assert 0.5 * slowest_pole < np.median(exact) < 1.5 * slowest_pole


def test_too_small_a_gain_is_caught(fitted: Lyapunov) -> None:
    seeds = reported_seeds(40)
    starts = fitted.states(seeds)
    weak = np.array([[0.5 * GRAVITY / 3.0, 0.5]])  # less torque than gravity: falls over
    found = trajectories(law(weak), PLANT, seeds, starts, most_steps=100)
    assert (fitted.excess(found) > 1).mean() > 0.9  # the others still come down along the stable direction
    assert found.stabilised(PLANT).mean() < 0.1
    found = trajectories(law(GAIN), PLANT, seeds, starts)
    assert (fitted.excess(found) <= 1).all()
    assert found.stabilised(PLANT).all()


@pytest.mark.parametrize(("share", "rises"), [((1, 1), False), ((2, 0.7), False), ((1, 0.3), True), ((0.5, 0.5), True)])
def test_another_gain_moves_the_function_by_its_generalised_eigenvalue(
    fitted: Lyapunov, share: tuple[float, float], rises: bool
) -> None:
    """A stable loop may let the dense loop's function rise: the check is on the safe side of the truth."""
    a, b = SYSTEM.discrete()
    gain = GAIN * np.asarray(share)
    assert np.abs(np.linalg.eigvals(a - b @ gain)).max() < 1
    near = np.diag(PLANT.near)
    loop = np.linalg.inv(near) @ (a - b @ gain) @ near
    most = float(np.max(eigh(loop.T @ fitted.p @ loop, fitted.p, eigvals_only=True)))  # largest V(x+) / V(x)
    assert (most > 1) == rises
    tiny = replace(fitted, window=1, inner=1e-9, level=1e-2 * fitted.level)  # far from saturation
    seeds = reported_seeds(200)
    found = trajectories(law(gain), PLANT, seeds, tiny.states(seeds), most_steps=1)
    assert tiny.excess(found).max() == pytest.approx(most, rel=0.02)
    assert tiny.excess(found).max() <= most + 1e-3


def test_a_loop_that_does_not_contract_has_no_function() -> None:
    with pytest.raises(LyapunovError, match=r"spectral radius 1\.\d+|hardly ever near"):
        fit(law(np.array([[0.5 * GRAVITY / 3.0, 0.5]])), PLANT, 40)


def test_starts_fill_the_ellipsoid_evenly(fitted: Lyapunov) -> None:
    v = fitted(fitted.states(range(2000))) / fitted.level
    assert v.max() <= 1 + 1e-9
    # In the plane the share within V <= s * level is its area's: s.
    for share in (0.1, 0.5, 0.9):
        assert (v <= share).mean() == pytest.approx(share, abs=0.04)
    spread = fitted(fitted.spread(range(2000), fitted.inner, fitted.level))
    middle = np.sqrt(fitted.inner * fitted.level)
    assert (spread >= fitted.inner * (1 - 1e-9)).all()
    assert (spread <= middle).mean() == pytest.approx(0.5, abs=0.04)


def test_a_hand_worked_quadratic() -> None:
    # a = 1/2 in one dimension: p / 4 - p + 1 = 0, so p = 4/3; along two axes each its own.
    np.testing.assert_allclose(quadratic(np.diag([0.5, 0.0])), np.diag([4 / 3, 1.0]))
    p = np.array([[2.0, 1.0], [1.0, 2.0]])  # p^-1 has 2/3 on its diagonal
    assert level_within(p, np.zeros(2), np.array([1.0, 2.0])) == pytest.approx(1.5)
    assert level_within(p, np.array([0.5, 0.0]), np.array([1.0, 2.0])) == pytest.approx(0.375)


def test_excess_by_hand() -> None:
    near = np.asarray(PLANT.near)
    model = LinearModel(np.zeros((2, 2)), np.zeros(2), 1.0)
    lyapunov = Lyapunov(PLANT, model, np.eye(2), 2, inner=1.0, level=100.0)
    # V along the first entry: the square of z.
    rows = [[4, 5, 3, 2, 1], [4, 2, 5, 1, 1], [0.5, 0.9, 0.8, 1.0, 0.1], [4, 3, 2, np.nan, np.nan]]
    states = np.zeros((4, 5, 2))
    states[..., 0] = np.array(rows) * near[0]
    states[np.isnan(states[..., 0])] = np.nan
    found = Trajectories(states, np.zeros(4), np.array([False, False, False, True]))
    # Within two steps: 9/16, 4/25, 1/9; then 25/16 at most; at rest all along; cut short.
    np.testing.assert_allclose(lyapunov.excess(found), [9 / 16, 25 / 16, 1.0, np.inf])


def test_trajectories_begin_where_they_are_told_and_end_as_the_task_says() -> None:
    starts = np.array([[0.01, 0.0], [0.45, 1.0]])
    found = trajectories(law(GAIN), PLANT, (1, 2), starts)
    np.testing.assert_allclose(found.states[:, 0], starts)
    assert found.ended.tolist() == [False, True]
    assert np.isnan(found.states[1, -1]).all()
    assert found.stabilised(PLANT).tolist() == [True, False]
    a, b = SYSTEM.discrete()
    np.testing.assert_allclose(found.states[0, 1], a @ starts[0] - b @ (GAIN @ starts[0]), atol=1e-6)


def test_what_is_attracted_lies_between_the_certified_and_the_controllable_set() -> None:
    size = 17
    region = attraction(law(GAIN), PLANT, size, (0,))
    states = grid(PLANT, size).reshape(size, size, 2)
    # No controller holds the unstable mode sqrt(g) theta + theta' beyond 3 / sqrt(g).
    fast = np.sqrt(GRAVITY)
    controllable = np.abs(fast * states[..., 0] + states[..., 1]) < 3.0 / fast
    # The regulator holds the ellipsoid of its cost inside which it does not saturate: x'Sx <= 1 / (K S^-1 K').
    level = float(1 / (GAIN @ np.linalg.inv(COST) @ GAIN.T)[0, 0])
    certified = np.einsum("...i,ij,...j->...", states, COST, states) <= level
    assert certified.sum() > 5
    assert (region | ~certified).all()
    assert (controllable | ~region).all()
    assert 0.3 < region.mean() < 0.7


def test_a_grid_around_the_circle_has_no_angle_twice() -> None:
    angle, speed = axes(PLANTS["Pendulum-v1"], 4)
    np.testing.assert_allclose(angle, [-np.pi, -np.pi / 2, 0, np.pi / 2])
    np.testing.assert_allclose(speed, [-8, -8 / 3, 8 / 3, 8])
    states = grid(PLANTS["Pendulum-v1"], 4)
    assert states[1].tolist() == [-np.pi, pytest.approx(-8 / 3)]


def test_the_share_kept_is_of_the_dense_region() -> None:
    dense, pruned = np.array([[True, True], [True, False]]), np.array([[True, False], [False, True]])
    assert kept(dense, pruned) == pytest.approx(1 / 3)
    assert np.isnan(kept(~np.ones((2, 2), bool), pruned))


def test_a_family_stops_at_the_first_that_fails() -> None:
    weak = np.array([[0.5 * GRAVITY / 3.0, 0.5]])
    sizes = (100, 50, 10)
    subjects = [
        Candidate(str(size), law(gain), 1 - size / 100, 1 - size / 100)
        for size, gain in zip(sizes, (GAIN, GAIN * 1.01, weak), strict=True)
    ]
    found = family(PLANT, [subjects[0], subjects[2], subjects[1]], Effort(starts=60, grid=3, robust=2))
    assert found.sparsities == pytest.approx([0, 0.5, 0.9])
    assert [member.holds for member in found.members] == [True, True, False]
    assert found.safe == found.settles == pytest.approx(0.5)
    assert 0.5 < found.s95 < 0.9
    assert found.kept(found.members[1]) == 1.0
    data = json.loads(json_text(as_json(found)))
    assert [row["holds"] for row in data["controllers"]] == [True, True, False]
    assert [row["attraction"] for row in data["controllers"]] == [["001", "010", "100"]] * 2 + [["000", "010", "000"]]
    assert len(data["controllers"][0]["robustness"]) == len(conditions(PLANT)) == 8
    assert verdict(found).startswith("Safe sparsity: 0.500. ")


def test_too_few_starts_hold_nothing() -> None:
    found = family(PLANT, [Candidate("dense", law(GAIN))], Effort(starts=58, grid=0, robust=0))
    assert found.safe is None
    assert verdict(found).startswith("Safe sparsity: none.")


def test_a_delay_is_that_of_the_augmented_loop() -> None:
    a, b = SYSTEM.discrete()
    start = np.array([[0.02, 0.0]])
    found = trajectories(law(GAIN), PLANT, (0,), start, Condition(delay=2), most_steps=20)
    x, waiting = start[0], [np.zeros(1), np.zeros(1)]
    for row in found.states[0]:
        np.testing.assert_allclose(row, x, atol=1e-6)
        waiting.append(-GAIN @ x)
        x = a @ x + b @ waiting.pop(0)


def test_noise_is_seeded_and_of_the_size_stated() -> None:
    seen: list[np.ndarray] = []
    controller = law(GAIN)

    def policy(seeds: Sequence[int]) -> Any:
        def act(observations: np.ndarray, episodes: np.ndarray) -> np.ndarray:
            seen.append(observations.copy())
            return controller.act(observations)

        return act

    controller.policy = policy  # type: ignore[method-assign]
    runs = [
        trajectories(controller, PLANT, range(30), np.zeros((30, 2)), Condition(noise=2.0), most_steps=40)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0].states, runs[1].states)
    noise = np.concatenate(seen[:40]) - runs[0].states[:, :-1].swapaxes(0, 1).reshape(-1, 2)
    np.testing.assert_allclose(noise.std(axis=0), 2 * np.asarray(PLANT.noise), rtol=0.1)


def test_mass_reaches_the_plant() -> None:
    start = np.array([[0.02, 0.0]])
    found = trajectories(law(GAIN), PLANT, (0,), start, Condition(changed="mass", factor=1.2), most_steps=1)
    a, b = SYSTEM.discrete(mass=1.2)
    np.testing.assert_allclose(found.states[0, 1], a @ start[0] - b @ (GAIN @ start[0]), atol=1e-6)


def test_the_bundled_controller_is_the_regulator() -> None:
    controller = agents.load("lqr-linear-pendulum-1").controller
    seeds = calibration_seeds(60)
    starts = np.stack([np.random.default_rng(seed).uniform(-1, 1, 2) * PLANT.near for seed in seeds])
    model = linear_model(PLANT, trajectories(controller, PLANT, seeds, starts, most_steps=60))
    a, b = SYSTEM.discrete()
    assert model.radius == pytest.approx(np.abs(np.linalg.eigvals(a - b @ GAIN)).max(), abs=2e-3)
    np.testing.assert_allclose(model.rest, 0, atol=0.01)


@given(st.integers(0, 40), st.integers(1, 40))
def test_the_bound_is_where_so_few_failures_become_unlikely(failures: int, trials: int) -> None:
    failures = min(failures, trials)
    bound = clopper_pearson(failures, trials)
    if failures == trials:
        assert bound == 1
    else:
        assert binom.cdf(failures, trials, bound) == pytest.approx(0.05, abs=1e-9)
        assert bound > failures / trials


def test_none_of_59_is_what_5_percent_takes() -> None:
    assert clopper_pearson(0, 59) < 0.05 < clopper_pearson(0, 58)
    assert clopper_pearson(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    with pytest.raises(ValueError, match="3 failures of 2 trials"):
        clopper_pearson(3, 2)


def test_safe_sparsity_ends_at_the_first_that_does_not_hold() -> None:
    assert safe_sparsity([0, 0.5, 0.8, 0.9], [True, True, False, True]) == 0.5
    assert safe_sparsity([0, 0.5], [True, True]) == 0.5
    assert safe_sparsity([0, 0.5], [False, True]) is None
    with pytest.raises(ValueError, match="rising order"):
        safe_sparsity([0.5, 0], [True, True])


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--starts", "3", "--grid", "3", "--robust", "1"]
    out = tmp_path / "found"
    pruning = ["--sparsities", "0.5", "--recovery", "reconstruct"]
    assert run(["stability", "lqr-linear-pendulum", *pruning, *few, "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "pruned 0.5" in shown
    assert "Safe sparsity: none." in shown  # three starts show nothing
    figures = {f"{name}.{end}" for name in ("safe", "decrease", "attraction", "robustness") for end in ("png", "pdf")}
    tables = {f"{name}.{end}" for name in ("stability", "robustness") for end in ("csv", "md")}
    assert {path.name for path in out.iterdir()} == figures | tables | {"stability.json"}
    assert run(["stability", "lqr-linear-pendulum", *few, "-o", str(out)]) == 2
    assert "it is there already" in capsys.readouterr().err
    assert run(["stability", "sac-reacher"]) == 2
    assert "no goal to come to rest at" in capsys.readouterr().err
    assert run(["stability", "lqr-linear-pendulum", "lqr-linear-pendulum", "--sparsities", "0.5"]) == 2
    assert run(["stability", "lqr-linear-pendulum", "--sparsities", "half"]) == 2
    assert "write them as 0.5,0.8,0.9" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_and_its_report_say_what_the_command_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"controllers": "lqr-linear-pendulum-1", "sparsities": [0.5, 0.9], "episodes": 5, "stability": 59}
    method = {"grouping": "stock-global", "importance": "magnitude", "recovery": "none"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**config, "methods": method}))
    out = tmp_path / "out"
    assert run(["sweep", str(tmp_path / "mine.yaml"), "--workers", "1", "--out", str(out)]) == 0
    assert run(["report", str(out)]) == 0
    capsys.readouterr()
    options = [f"--{name}={value}" for name, value in method.items()]
    few = ["--starts", "59", "--grid", "0", "--robust", "0", "--json"]
    assert run(["stability", "lqr-linear-pendulum-1", "--sparsities", "0.5,0.9", *options, *few]) == 0
    said = json.loads(capsys.readouterr().out)
    table = pd.read_csv(out / "results.csv")
    for name in ("unstable", "rising", "sparsity_deployed"):
        assert table[name].tolist() == pytest.approx([row[name] for row in said["controllers"]])
    assert table["unstable"].tolist() == [0, 0, 59]
    (summary,) = pd.read_csv(out / "summary.csv").to_dict("records")
    assert summary["safe_deployed"] == pytest.approx(said["safe_sparsity"])
    assert summary["settling_deployed"] == pytest.approx(said["settling_sparsity"])


def test_checkpoints_are_compared_with_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    same = ["stability", "lqr-linear-pendulum", "lqr-linear-pendulum", "--starts", "3", "--grid", "0"]
    assert run([*same, "--robust", "0", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["sparsity_total"] for row in data["controllers"]] == [0.0, 0.0]
    assert data["controllers"][0]["attraction"] is None
    assert run([*same, "--robust", "1"]) == 0
    assert capsys.readouterr().out.count("lqr-linear-pendulum-1 ") == 4  # a row each in both tables


def test_the_dense_controller_comes_first() -> None:
    large, small = (agents.load(name).controller for name in ("sac-pendulum", "ppo-pendulum"))
    pruned = smaller_than(Candidate("large", large), "small", small)
    assert pruned.sparsity_total == pytest.approx(1 - small.parameters() / large.parameters())
    with pytest.raises(ControllerError, match="name the dense controller first"):
        smaller_than(Candidate("small", small), "large", large)
    exported = cast(Controller, SimpleNamespace(parameters=lambda deployed: 0))
    with pytest.raises(ControllerError, match="exported does not say how large it is"):
        smaller_than(Candidate("large", large), "exported", exported)


@pytest.mark.parametrize(("sparsity", "rests", "falls"), [(0.8, True, True), (0.85, True, False), (0.9, False, False)])
def test_pruned_networks_are_judged_as_their_own_jacobians_are(
    regulator: tuple[Candidate, Calibration], sparsity: float, rests: bool, falls: bool
) -> None:
    """The closed form of results/stability: a loop may be stable while the dense loop's function rises along it."""
    dense, calibration = regulator
    method = Method.of("stock-global", "magnitude", "uniform", "none")
    small = prune(dense.controller, method, sparsity, calibration, seed=0).controller
    steps = 1e-3 * np.diag(SYSTEM.limit)
    actions = small.act(np.concatenate([steps, -steps]).astype(np.float32))[:, 0]
    gain = (actions[:2] - actions[2:]) / (2e-3 * np.asarray(SYSTEM.limit))
    a, b = SYSTEM.discrete()
    loop = a + b @ gain[None]
    assert (np.abs(np.linalg.eigvals(loop)).max() < 1) == rests
    found = family(PLANT, [dense, smaller_than(dense, "small", small)], Effort(starts=60, grid=0, robust=0))
    assert found.lyapunov is not None
    near = np.diag(PLANT.near)
    scaled = np.linalg.inv(near) @ loop @ near
    assert (eigh(scaled.T @ found.lyapunov.p @ scaled, found.lyapunov.p, eigvals_only=True).max() < 1) == falls
    member = found.members[1]
    assert member.decrease is not None
    assert (member.unstable.holds, member.decrease.rising.holds) == (rests, falls)

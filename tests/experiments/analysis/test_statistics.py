"""Statistics against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import isotonic_regression

from prunectl.experiments import statistics
from prunectl.experiments.statistics import (
    Array,
    interval,
    iqm,
    log_area,
    mean,
    median,
    monotone,
    normalised,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    redrawn,
    s95,
)

#: Runs of two methods ``(seeds, tasks)``, two runs of the first task the same, and what rliable 1.2.0 (with pandas
#: 2.3.3, NumPy 2.4.6, SciPy 1.17.1) says of them: ``metrics.aggregate_*`` and ``library.create_performance_profile`` of
#: OURS, ``metrics.probability_of_improvement`` of OURS and THEIRS, and ``library.get_interval_estimates`` with 50,000
#: and 20,000 resamples.
OURS = np.array(
    [
        [0.799, 0.639, 0.539, 0.763],
        [0.971, 0.440, 1.050, 0.935],
        [0.402, 0.704, 1.063, 0.396],
        [0.375, 0.714, 0.720, 0.538],
        [1.028, 0.318, 0.915, 0.986],
    ]
)
THEIRS = np.array(
    [
        [0.799, 0.333, 0.483, 0.595],
        [0.971, 0.957, 0.691, 0.669],
        [0.495, 0.721, 0.088, 0.566],
        [0.976, 0.839, 0.437, 0.688],
        [0.514, 0.476, 0.674, 0.336],
    ]
)
RLIABLE = {iqm: 0.7266, median: 0.7193, mean: 0.71475, optimality_gap: 0.2923}
RLIABLE_INTERVALS = {
    iqm: (0.5742, 0.8544),
    median: (0.5866, 0.8481),
    mean: (0.6173, 0.8106),
    optimality_gap: (0.1995, 0.3869),
}


def by_task(values: Array) -> list[Array]:
    """``(seeds, tasks)`` as a list of tasks at one sparsity."""
    return [task[:, None] for task in values.T]


def bootstrapped(values: Array, seed: int) -> list[Array]:
    """Each task redrawn on its own."""
    generator = np.random.default_rng(seed)
    return [redrawn(task[..., None], generator, 20_000) for task in by_task(values)]


@pytest.mark.parametrize("aggregate", RLIABLE)
def test_aggregates_are_rliables(aggregate: Callable[[Sequence[Array]], Array]) -> None:
    assert aggregate(by_task(OURS)) == pytest.approx([RLIABLE[aggregate]])
    found = np.concatenate(interval(aggregate(bootstrapped(OURS, 0))))
    assert found == pytest.approx(RLIABLE_INTERVALS[aggregate], abs=0.006)


def test_the_quarters_left_out_are_rounded_down_as_rliable_does() -> None:
    assert iqm(by_task(OURS[:, :3])) == pytest.approx([0.715666666])  # 15 runs: 3 and 3 go


def test_the_probability_of_improvement_is_rliables() -> None:
    ours, theirs = by_task(OURS), by_task(THEIRS)
    assert probability_of_improvement(ours, theirs) == pytest.approx([0.58])
    assert probability_of_improvement(theirs, ours) == pytest.approx([0.42])
    # Its methods share nothing, so they are drawn apart; ours share trainings and episodes (see `runs_of`).
    drawn = probability_of_improvement(bootstrapped(OURS, 1), bootstrapped(THEIRS, 2))
    assert np.concatenate(interval(drawn)) == pytest.approx([0.415, 0.745], abs=0.011)


def test_the_performance_profile_is_rliables() -> None:
    thresholds = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(performance_profile(by_task(OURS), thresholds), [[1.0, 1.0, 0.75, 0.45, 0.15]])


def test_tasks_with_more_runs_weigh_more_in_the_iqm_alone() -> None:
    many, one = np.array([[0.0], [0.0], [0.0], [0.4], [0.6]]), np.array([[1.0]])
    assert iqm([many, one]) == pytest.approx([0.25])  # of six, the lowest and the highest go
    assert mean([many, one]) == pytest.approx([0.6])
    assert median([many, one]) == pytest.approx([0.6])
    assert optimality_gap([many, one + 5]) == pytest.approx([0.4])  # what is above 1 makes up for nothing
    np.testing.assert_allclose(performance_profile([many, one], np.array([0.5])), [[0.6]])
    assert probability_of_improvement([many, one], [np.array([[0.0]]), one]) == pytest.approx([(0.7 + 0.5) / 2])


@given(
    arrays(np.float64, (3, 4, 2), elements=st.floats(-1, 2)),
    arrays(np.float64, (2, 4, 2), elements=st.floats(-1, 2)),
)
def test_one_of_two_methods_is_better_whichever_is_asked_about(ours: Array, theirs: Array) -> None:
    one, other = list(ours.swapaxes(0, 1)), list(theirs.swapaxes(0, 1))
    forth, back = probability_of_improvement(one, other), probability_of_improvement(other, one)
    np.testing.assert_allclose(forth + back, 1.0)
    np.testing.assert_allclose(probability_of_improvement(one, one), 0.5)


@given(arrays(np.float64, (5, 3, 2), elements=st.floats(-2, 2)))
def test_the_area_under_a_profile_is_what_the_gap_leaves(values: Array) -> None:
    tasks = [np.maximum(task, 0.0) for task in values.swapaxes(0, 1)]
    thresholds = (np.arange(2_000) + 0.5) / 2_000
    profile = performance_profile(tasks, thresholds)
    np.testing.assert_allclose(profile.mean(axis=-1), 1 - optimality_gap(tasks), atol=1e-3)


def test_normalised_return_runs_from_random_to_dense() -> None:
    returns = np.array([-1200.0, -700.0, -200.0, -150.0])
    np.testing.assert_allclose(normalised(returns, -200.0, -1200.0), [0.0, 0.5, 1.0, 1.05])


def test_a_dense_controller_no_better_than_random_has_no_normalised_return() -> None:
    assert np.isnan(normalised(10.0, 5.0, 5.0))
    assert np.isnan(normalised(10.0, 4.0, 5.0))


@given(arrays(np.float64, (2, 3, 6), elements=st.floats(-3, 3)))
def test_the_monotone_curve_is_the_isotonic_regression(values: Array) -> None:
    fitted = monotone(values)
    for one, fit in zip(values.reshape(-1, 6), fitted.reshape(-1, 6), strict=True):
        expected = np.minimum(isotonic_regression(one, increasing=False).x, 1.0)
        np.testing.assert_allclose(fit, expected, atol=1e-9)


def test_chance_above_the_dense_return_makes_up_for_chance_below_before_it_is_capped() -> None:
    np.testing.assert_allclose(monotone(np.array([0.92, 1.02, 0.2])), [0.97, 0.97, 0.2])
    np.testing.assert_allclose(monotone(np.array([1.4, 0.9])), [1.0, 0.9])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.0, 0.9, 0.0], 0.5),  # 0.95 lies half way between 0.4 and 0.6
        ([0.85, 1.0, 1.0, 1.0], 0.8),  # one low cell, and three that say otherwise: 0.9625
        ([0.85, 0.85, 0.85, 1.0], 0.05 / 0.1125 * 0.2),  # three, and one that says otherwise: 0.8875
        ([1.0, 0.0, 1.0, 1.0], 0.2 + 0.2 * 0.05 / (1 / 3)),  # what comes after the fall counts: two thirds from 0.4 on
        ([0.95, 0.95, 0.95, 0.95], 0.8),  # at the threshold is not below it
        ([1.2, 1.1, 1.3, 0.95], 0.8),  # never falls: the last sparsity
        ([0.0, 0.0, 0.0, 0.0], 0.01),
    ],
)
def test_s95_is_where_the_monotone_curve_falls(values: list[float], expected: float) -> None:
    assert s95(np.array(values), np.array([0.2, 0.4, 0.6, 0.8])) == pytest.approx(expected)


def test_one_noisy_cell_decided_the_first_crossing_and_does_not_decide_s95() -> None:
    """Of a controller that keeps everything, one cell after another is made low by chance."""
    x = np.array([0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98])
    curves = np.where(np.eye(8, dtype=bool), 0.93, 1.0)
    first_crossing = statistics.falls_at(curves, x)  # taken as they are, as s95 used to be
    assert first_crossing[0] == pytest.approx(0.3 * 5 / 7)
    np.testing.assert_allclose(s95(curves[:-1], x), 0.98)
    assert s95(curves[-1], x) == first_crossing[-1] == pytest.approx(0.97 + 0.01 * 5 / 7)  # nothing behind it to say so


def test_s95_works_along_the_last_axis_of_seeds_tasks_and_sparsity() -> None:
    values = np.array([[[1.0, 0.9], [1.0, 1.0]], [[0.9, 0.9], [1.0, 0.5]]])
    expected = [[0.75, 1.0], [0.25, 0.55]]
    np.testing.assert_allclose(s95(values, np.array([0.5, 1.0])), expected)


def test_s95_starts_from_the_dense_controller_whether_or_not_the_grid_has_it() -> None:
    with_dense = s95(np.array([1.0, 0.9]), np.array([0.0, 0.5]))
    assert [with_dense, s95(np.array([0.9]), np.array([0.5]))] == pytest.approx([0.25, 0.25])


def test_s95_at_two_points_of_one_sparsity_is_that_sparsity() -> None:
    assert s95(np.array([1.0, 0.5]), np.array([0.3, 0.3])) == pytest.approx(0.3)


def test_s95_refuses_a_falling_axis_and_passes_nan_on() -> None:
    with pytest.raises(ValueError, match="rising"):
        s95(np.array([1.0, 1.0]), np.array([0.5, 0.2]))
    assert np.isnan(s95(np.array([1.0, np.nan]), np.array([0.2, 0.5])))


def test_the_area_counts_every_halving_alike_and_does_not_go_below_random() -> None:
    # At 0.5, 0.75 and 0.875 what is left was halved once, twice, three times.
    x = np.array([0.5, 0.75, 0.875])
    assert log_area(np.array([1.0, 0.5, -3.0]), x) == pytest.approx((1 + 0.75 + 0.25) / 3)
    assert log_area(np.array([1.0, 1.0, 0.5]), x) == pytest.approx((1 + 1 + 0.75) / 3)
    assert np.isnan(log_area(np.array([1.0]), np.array([0.0])))


def test_an_interval_says_what_it_is_over() -> None:
    assert statistics.sources(1, 1) == "episodes"
    assert statistics.sources(1, 3) == "pruning seeds and episodes"
    assert statistics.sources(3, 1) == "trainings and episodes"
    assert statistics.sources(3, 2) == "trainings, pruning seeds and episodes"


TRAININGS = np.repeat(np.arange(4), 3)


def test_seeds_are_drawn_within_their_training() -> None:
    """The variance of the mean is that of four trainings, with a third of what their seeds add (known exactly where
    episodes add nothing); drawn as twelve runs of their own it would be 2.7 times too small."""
    generator = np.random.default_rng(5)
    runs = generator.normal(size=4)[TRAININGS] + 0.3 * generator.normal(size=12)
    draws = redrawn(runs[:, None, None], np.random.default_rng(0), 40_000, TRAININGS).mean(axis=1)[:, 0]
    of = runs.reshape(4, 3)
    expected = of.mean(axis=1).var() / 4 + of.var(axis=1).mean() / 12
    assert draws.var() == pytest.approx(expected, rel=0.03)
    assert expected > 2.5 * runs.var() / 12


def test_a_drawn_training_is_filled_with_its_own_seeds_however_many_it_has() -> None:
    trainings = np.array([7, 3, 7, 7])  # three seeds of one, one of the other, in whatever order
    runs = np.array([1.0, 100.0, 2.0, 3.0])
    draws = redrawn(runs[:, None, None], np.random.default_rng(0), 2_000, trainings)[..., 0]
    foreign = (draws == 100.0).sum(axis=1)
    # In the one seed's place and in the three seeds' stands one training or the other, each as often.
    assert set(foreign) == {0, 1, 3, 4}
    np.testing.assert_allclose([(foreign == n).mean() for n in (0, 1, 3, 4)], 0.25, atol=0.03)


@pytest.mark.parametrize(("trainings", "least", "most"), [(TRAININGS, 0.78, 0.95), (np.arange(12), 0.3, 0.72)])
def test_intervals_cover_what_new_trainings_would_say(trainings: Array, least: float, most: float) -> None:
    """Four trainings that differ much, three seeds each: twelve runs taken for trainings claim far too much. (Four
    cannot say more than four do: 95% of the draws cover less than that.)"""
    generator, hits = np.random.default_rng(2), 0
    for _ in range(200):
        runs = generator.normal(size=4)[TRAININGS] + 0.3 * generator.normal(size=12)
        returns = runs[:, None, None] + 0.3 * generator.normal(size=(12, 1, 10))
        low, high = interval(redrawn(returns, generator, 300, trainings).mean(axis=1))
        hits += bool(low[0] <= 0.0 <= high[0])
    assert least <= hits / 200 <= most


def test_resamples_keep_episodes_paired_across_sparsities() -> None:
    episodes = np.array([0.0, 10.0, 20.0])
    returns = np.stack([episodes, episodes + 1.0])[None]
    draws = redrawn(returns, np.random.default_rng(0), 500).mean(axis=1)
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 1.0)
    assert draws.shape == (500, 2)
    assert set(np.round(draws[:, 0] * 3 / 10).astype(int)) == set(range(7))


def test_resamples_draw_seeds_as_a_whole() -> None:
    returns = np.array([[[0.0, 0.0]], [[1.0, 1.0]]])
    draws = redrawn(returns, np.random.default_rng(0), 500).mean(axis=1)
    assert set(draws.ravel()) == {0.0, 0.5, 1.0}


def test_a_drawn_run_keeps_its_sparsities_together() -> None:
    returns = np.array([[[0.0], [10.0]], [[1.0], [11.0]], [[2.0], [12.0]]])
    draws = redrawn(returns, np.random.default_rng(0), 500)
    assert draws.shape == (500, 3, 2)
    np.testing.assert_allclose(draws[..., 1] - draws[..., 0], 10.0)
    # All 10 ways of drawing three of three come up, whatever their order.
    assert len({tuple(sorted(row)) for row in draws[..., 0].tolist()}) == 10


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        sample = generator.normal(5.0, 2.0, size=(1, 1, 40))
        low, high = interval(redrawn(sample, generator, 400).mean(axis=1))
        hits += bool(low[0] <= 5.0 <= high[0])
    assert 0.89 <= hits / 300 <= 0.98


def test_the_generator_decides_the_draws() -> None:
    returns = np.random.default_rng(3).normal(size=(2, 3, 5))
    one, same, other = (redrawn(returns, np.random.default_rng(seed), 50) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_draws_that_say_nothing_do_not_count() -> None:
    draws = np.column_stack([np.arange(101.0), np.arange(101.0), np.full(101, np.nan)])
    draws[::2, 1] = np.nan  # the odd numbers from 1 to 99 stay
    low, high = statistics.interval(draws)
    np.testing.assert_allclose([low[0], high[0]], [2.5, 97.5])
    np.testing.assert_allclose([low[1], high[1]], np.percentile(np.arange(1, 100, 2), [2.5, 97.5]))
    assert np.isnan([low[2], high[2]]).all()


def test_p_values_count_the_draws_on_the_other_side() -> None:
    assert statistics.p_value(np.array([1.0, 1.0, 1.0, -1.0])) == 2 * 2 / 5
    assert statistics.p_value(np.array([-1.0, -1.0, -1.0, -1.0])) == 2 * 1 / 5
    assert statistics.p_value(np.zeros(4)) == 1.0


def test_holm_is_worked_by_hand() -> None:
    # 3 * 0.01, 2 * 0.03, and 1 * 0.04, which is not less than the one before.
    np.testing.assert_allclose(statistics.holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(statistics.holm(np.array([0.7, 0.6])), [1.0, 1.0])


def test_episodes_are_redrawn_with_their_references() -> None:
    dense, random = np.array([10.0, 20.0, 30.0]), np.zeros(3)
    # Half of the dense return in every episode: whichever are drawn, one half.
    assert statistics.kept(0.5 * dense, dense, random) == pytest.approx((0.5, 0.5, 0.5))
    share, low, high = statistics.kept(np.array([10.0, 0.0, 30.0]), dense, random)
    assert share == pytest.approx(2 / 3)
    assert low < share < high == 1

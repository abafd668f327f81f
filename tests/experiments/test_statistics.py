"""Statistics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.statistics import area, interval, normalised, resampled, s95


def test_normalised_return_runs_from_random_to_dense() -> None:
    returns = np.array([-1200.0, -700.0, -200.0, -150.0])
    np.testing.assert_allclose(normalised(returns, -200.0, -1200.0), [0.0, 0.5, 1.0, 1.05])


def test_a_dense_controller_no_better_than_random_has_no_normalised_return() -> None:
    assert np.isnan(normalised(10.0, 5.0, 5.0))
    assert np.isnan(normalised(10.0, 4.0, 5.0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.0, 0.9, 0.0], 0.5),  # 0.95 lies half way between 0.4 and 0.6
        ([0.85, 1.0, 1.0, 1.0], 0.2 / 3),  # a third of the way from the dense controller
        ([1.0, 0.0, 1.0, 1.0], 0.21),  # what comes after the fall does not count
        ([0.95, 0.95, 0.95, 0.95], 0.8),  # at the threshold is not below it
        ([1.2, 1.1, 1.3, 0.95], 0.8),  # never falls: the last sparsity
        ([0.0, 0.0, 0.0, 0.0], 0.01),
    ],
)
def test_s95_is_the_first_crossing(values: list[float], expected: float) -> None:
    assert s95(np.array(values), np.array([0.2, 0.4, 0.6, 0.8])) == pytest.approx(expected)


def test_s95_works_along_the_last_axis_of_seeds_tasks_and_sparsity() -> None:
    values = np.array([[[1.0, 0.9], [1.0, 1.0]], [[0.9, 0.9], [1.0, 0.5]]])
    expected = [[0.75, 1.0], [0.25, 0.55]]
    np.testing.assert_allclose(s95(values, np.array([0.5, 1.0])), expected)


def test_s95_starts_from_the_dense_controller_whether_or_not_the_grid_has_it() -> None:
    with_dense = s95(np.array([1.0, 0.9]), np.array([0.0, 0.5]))
    assert with_dense == s95(np.array([0.9]), np.array([0.5])) == pytest.approx(0.25)


def test_s95_at_two_points_of_one_sparsity_is_that_sparsity() -> None:
    assert s95(np.array([1.0, 0.5]), np.array([0.3, 0.3])) == pytest.approx(0.3)


def test_s95_refuses_a_falling_axis_and_passes_nan_on() -> None:
    with pytest.raises(ValueError, match="rising"):
        s95(np.array([1.0, 1.0]), np.array([0.5, 0.2]))
    assert np.isnan(s95(np.array([1.0, np.nan]), np.array([0.2, 0.5])))


def test_area_is_the_mean_height_and_does_not_go_below_random() -> None:
    # 1 to 1 over 0.5, then 1 to 0 over 0.5: (0.5 + 0.25) / 1
    assert area(np.array([1.0, -3.0]), np.array([0.5, 1.0])) == pytest.approx(0.75)
    assert np.isnan(area(np.array([1.0]), np.array([0.0])))


def test_resamples_keep_episodes_paired_across_sparsities() -> None:
    episodes = np.array([0.0, 10.0, 20.0])
    returns = np.stack([episodes, episodes + 1.0])[None]
    draws = resampled(returns, np.random.default_rng(0), 500)
    np.testing.assert_allclose(draws[:, 1] - draws[:, 0], 1.0)
    assert draws.shape == (500, 2)
    assert set(np.round(draws[:, 0] * 3 / 10).astype(int)) == set(range(7))


def test_resamples_draw_seeds_as_a_whole() -> None:
    returns = np.array([[[0.0, 0.0]], [[1.0, 1.0]]])
    draws = resampled(returns, np.random.default_rng(0), 500)
    assert set(draws.ravel()) == {0.0, 0.5, 1.0}


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        sample = generator.normal(5.0, 2.0, size=(1, 1, 40))
        low, high = interval(resampled(sample, generator, 400))
        hits += bool(low[0] <= 5.0 <= high[0])
    assert 0.89 <= hits / 300 <= 0.98


def test_the_generator_decides_the_draws() -> None:
    returns = np.random.default_rng(3).normal(size=(2, 3, 5))
    one, same, other = (resampled(returns, np.random.default_rng(seed), 50) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)

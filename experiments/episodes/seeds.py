"""Which seeds serve what. Ranges never meet, so nothing is tuned on the episodes that are reported.

Trainings by Stable-Baselines3 are the exception: their environments begin with the training's own seed and the next
ones, so that the first episode of each starts where an early reported one does; the bundled agents were trained so.
"""

from __future__ import annotations

from prunectl.errors import Error

#: Reported episodes start here plus the user's ``--seed``; the ranges below lie far above.
REPORTED = 0
CALIBRATION = 10_000_000
VALIDATION = 20_000_000
TRAINING = 30_000_000
FINETUNING = 40_000_000
#: Seeds that one ``--seed`` may spread over without reaching its neighbour's.
STRIDE = 10_000
#: The highest ``--seed`` of a pruning or training, and the highest seed of a reported episode, that keep ranges apart.
MOST_SEED = (VALIDATION - CALIBRATION) // STRIDE - 1
MOST_EPISODE_SEED = CALIBRATION - STRIDE


def reported_seeds(episodes: int, seed: int = 0) -> tuple[int, ...]:
    """Seeds of the episodes that a result reports: ``seed``, ``seed + 1``, ...

    Raises:
        Error: they would reach those of calibration.
    """
    check_reported(episodes, seed)
    return tuple(range(REPORTED + seed, REPORTED + seed + episodes))


def check_reported(episodes: int, seed: int = 0) -> None:
    """Raise Error where so many reported episodes from a seed on would reach the seeds of calibration."""
    if REPORTED + seed + episodes > CALIBRATION:
        raise Error(
            f"{episodes:,} episodes from seed {seed:,} on reach the seeds of calibration, from {CALIBRATION:,} on: "
            "ask for fewer"
        )


def calibration_seeds(episodes: int, seed: int = 0) -> tuple[int, ...]:
    """Seeds of the episodes that importance, reconstruction and fidelity look at."""
    return tuple(range(CALIBRATION + seed * STRIDE, CALIBRATION + seed * STRIDE + episodes))


def validation_seeds(episodes: int, seed: int = 0) -> tuple[int, ...]:
    """Seeds that choose among checkpoints or students, and that methods are tuned on."""
    return tuple(range(VALIDATION + seed * STRIDE, VALIDATION + seed * STRIDE + episodes))


def finetuning_seed(seed: int = 0) -> int:
    """The first seed of the episodes that a fine-tuning learns from; the others follow within the stride."""
    return FINETUNING + seed * STRIDE

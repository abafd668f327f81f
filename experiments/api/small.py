"""What `prune` gives: the smaller controller, what was done to it, and what that cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from prunectl.agents import Controller, ControllerError
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.live import model_of, statistics_of
from prunectl.agents.sb3.resume import algorithm_of, controller_of, vectorised
from prunectl.experiments.api.calling import on_one_thread
from prunectl.experiments.api.files import check_output
from prunectl.experiments.api.subject import Subject
from prunectl.experiments.deploying.few_bits import Bits
from prunectl.experiments.episodes.evaluator import Episodes, environments
from prunectl.experiments.provenance import command_line, parts_of, versions
from prunectl.experiments.statistics import normalised
from prunectl.pruning import Method, PruningPlan, Variant
from prunectl.pruning import Pruned as Outcome


@dataclass(frozen=True, eq=False)
class Small:
    """A pruned controller and its record; printing it says all in plain words.

    Attributes:
        plan: what was cut.
        variant: how: grouping, importance, allocation and recovery, with what components and flows were given of their
            own and in how many steps.
        dense, pruned, random: episodes of the dense controller, of the pruned one and of uniformly random actions, on
            the same seeds, none of which chose anything; None where inputs were given in the place of a task.
        fidelity: R² of every component's output against the dense one's, on states held back.
        validation: the mean return before and after a recovery that looks at the task, on the episodes that chose; on
            inputs, R² of the actions, or the share of choices that are the same.
        seconds: what each stage took.
        seed: of the pruning.
    """

    subject: Subject
    outcome: Outcome[Controller]
    variant: Variant
    seed: int
    dense: Episodes | None
    pruned: Episodes | None
    random: Episodes | None
    seconds: Mapping[str, float]

    @property
    def method(self) -> Method:
        """Grouping, importance, allocation and recovery."""
        return self.variant.method

    @property
    def plan(self) -> PruningPlan:
        return self.outcome.plan

    @property
    def fidelity(self) -> Mapping[str, float]:
        return self.outcome.fidelity

    @property
    def integrity(self) -> float:
        """The lowest fidelity of any component: what the return does not see."""
        return self.outcome.integrity

    @property
    def validation(self) -> tuple[float, float] | None:
        return self.outcome.returns

    @property
    def kept(self) -> float:
        """The share of the dense controller's return that is kept: 1 is as the dense one, 0 as random actions; NaN
        where the dense one is no better than those, or where there is no task."""
        if self.dense is None or self.pruned is None or self.random is None:
            return math.nan
        return float(normalised(self.pruned.mean_return, self.dense.mean_return, self.random.mean_return))

    @cached_property
    def model(self) -> BaseAlgorithm:
        """The smaller controller as a Stable-Baselines3 model, ready to `predict`, `learn` and `save`.

        Of a model that was in memory it has the hyperparameters, the environments, the step count and a copy of the
        replay buffer; of a checkpoint what the file says. Its optimisers are fresh, over its own parameters.

        Raises:
            ControllerError: the controller is none of Stable-Baselines3's.
        """
        controller = self.outcome.controller
        if not isinstance(controller, SB3Controller):
            raise ControllerError(
                f"a {controller.algorithm} controller is no Stable-Baselines3 model: use small.controller, small.save"
            )
        place = self.subject.place
        if place is None:
            raise ControllerError(
                "no task was named, so there is nothing to learn on: use small.controller, small.save"
            )
        vector = place.vector or vectorised(controller, self._environments[1])
        source = self.subject.source
        return algorithm_of(controller, vector, {}) if source is None else model_of(controller, source, vector)

    @property
    def controller(self) -> Controller:
        """The smaller controller as it is by now: what `model` has learned since is in it."""
        controller = self.outcome.controller
        if "model" not in vars(self) or not isinstance(controller, SB3Controller):
            return controller
        normaliser = self.model.get_vec_normalize_env()
        learned = controller_of(controller, self.model)
        return learned if normaliser is None else _normalised(learned, normaliser)

    @on_one_thread
    def save(self, path: str | Path, force: bool = False) -> tuple[str, ...]:
        """Write an ordinary checkpoint, which Stable-Baselines3 and `prunectl.load` read.

        Args:
            path: where it goes.
            force: replace a file that is there.

        Returns:
            Remarks that the user should see, one a line.

        Raises:
            ControllerError: another ending than the controller's.
            OSError: it is there already, or the folder is not.
        """
        path = Path(path)
        check_ending(path, self.outcome.controller)
        check_output(path, force)
        return self.controller.save(path, self.provenance())

    def export(
        self, path: str | Path, bits: Bits | None = None, force: bool = False, target: str | None = None
    ) -> tuple[Path, ...]:
        """Write what acts, without PyTorch: see `prunectl.export`."""
        from prunectl.experiments.api.exporting import export_subject

        return export_subject(self.as_subject(), Path(path), bits, force, target=target).paths

    def as_subject(self) -> Subject:
        """The smaller controller as something to be run, exported or pruned again."""
        loaded = replace(self.subject.loaded, controller=self.controller, plan=self.plan.to_json())
        return Subject(loaded, self.subject.place)

    def provenance(self) -> dict[str, Any]:
        """What a checkpoint says of how it was made."""
        validation = self.validation
        return {
            "task": self.subject.stored_task(),
            "training_seed": self.subject.loaded.training_seed,
            "source": {"name": self.subject.loaded.name, "digest": self.subject.loaded.digest},
            **asdict(self.variant),
            "cut": self.outcome.grouping,
            "seed": self.seed,
            "plan": self.plan.to_json(),
            "fidelity": dict(self.fidelity),
            "validation": None if validation is None else dict(zip(("before", "after"), validation, strict=True)),
            "command": command_line(),
            "versions": versions(),
            **self._plugins,
        }

    def as_json(self) -> dict[str, Any]:
        """What `prunectl prune --json` prints, but for where it was written."""
        plan, said = self.plan, self.provenance()
        return {
            "task": self._task,
            **{name: said[name] for name in ("method", "budgets", "schedule", "cut")},
            "seed": self.seed,
            "sparsity_asked": plan.sparsity_asked,
            "sparsity_total": plan.sparsity_total,
            "sparsity_deployed": plan.sparsity_deployed,
            "params_dense": plan.params_dense,
            "params_pruned": plan.params_pruned,
            "params_deployed": plan.params_deployed,
            "components": said["plan"]["components"],
            "remark": plan.remark,
            "fidelity": said["fidelity"],
            "integrity": self.integrity,
            "validation": said["validation"],
            "episodes": 0 if self.dense is None else len(self.dense.seeds),
            "dense_return": None if self.dense is None else self.dense.mean_return,
            "pruned_return": None if self.pruned is None else self.pruned.mean_return,
            "random_return": None if self.random is None else self.random.mean_return,
            "normalised_return": None if self.dense is None else self.kept,
            "seconds": sum(self.seconds.values()),
            "stages": dict(self.seconds),
            **self._plugins,
        }

    def __str__(self) -> str:
        where = self._task or "the inputs given"
        lines = [f"{self.subject.loaded.name} on {where}, {self.variant.label}", str(self.plan)]
        if self.outcome.grouping != self.method.grouping:
            lines.append(f"of the cuts tried it is that of grouping '{self.outcome.grouping}'")
        lines += self._fidelities() if self.dense is None else self._returns()
        lines.append(
            f"integrity {self.integrity:.3f}: the lowest R² of any component's output against the dense one's, on "
            "states held back (1: as the dense one)"
        )
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.seconds.items() if seconds >= 0.05)
        lines.append(f"{sum(self.seconds.values()):.1f} s ({stages})")
        return "\n".join(lines)

    @property
    def _plugins(self) -> dict[str, Any]:
        loader = self.subject.loaded.loader
        return parts_of((*self.method.plugins, *([] if loader is None else [loader])))

    @property
    def _task(self) -> str | None:
        """The task that episodes were run on."""
        return None if self.dense is None else self.subject.task

    def _returns(self) -> Iterator[str]:
        """What the episodes brought, a line each."""
        assert self.dense is not None
        rows = (("dense", self.dense), ("pruned", self.pruned), ("random actions", self.random))
        means = ", ".join(f"{name} {ran.mean_return:.1f} ± {ran.std_return:.1f}" for name, ran in rows if ran)
        yield f"return over {len(self.dense.seeds)} episodes: {means}"
        if self.kept == self.kept:
            yield f"it keeps {self.kept:.0%} of the dense return (random actions would count as 0%)"
        else:
            yield "what it keeps cannot be said: the dense controller is no better than random actions"
        if self.validation is not None:
            before, after = self.validation
            yield (
                f"{self.method.recovery} took the return from {before:.1f} to {after:.1f}, on the episodes that chose "
                "between the candidates"
            )

    def _fidelities(self) -> Iterator[str]:
        """What is left of each component where no episodes were run, a line each."""
        yield "fidelity: " + ", ".join(f"{name} {value:.3f}" for name, value in self.fidelity.items())
        if self.validation is not None:
            before, after = self.validation
            yield (
                f"{self.method.recovery} took the agreement with the dense controller's actions from {before:.3f} to "
                f"{after:.3f}, on the rows that chose between the candidates"
            )

    @cached_property
    def _environments(self) -> tuple[AbstractContextManager[list[Any]], list[Any]]:
        """An environment for `model` where none was given, and what closes it once this object is gone."""
        opened = environments(self.subject.task, 1, self.outcome.controller)
        return opened, opened.__enter__()


def _normalised(controller: SB3Controller, vector: VecNormalize) -> SB3Controller:
    normalisation, rewards = statistics_of(vector)
    return replace(controller, normalisation=normalisation, rewards=rewards)


def check_ending(path: Path, controller: Controller) -> None:
    """Raise ControllerError unless the path ends as this controller's files do."""
    if path.suffix != controller.suffix:
        raise ControllerError(f"{path}: this controller is saved as a {controller.suffix} file: name it so")

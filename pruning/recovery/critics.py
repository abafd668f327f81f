"""What an error of the actor costs, by the dense controller's own critics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from gymnasium import spaces
from torch import Tensor, fx

from prunectl.agents.controller import Batch, Controller
from prunectl.pruning.errors import PruningError
from prunectl.pruning.recovery.pupil import outputs_of

#: How far around an action critics are asked, as a share of half the range that they know: exploration goes so far.
SPREAD = 0.3
#: Pairs of opposite directions in which they are asked, and rows at a time.
PAIRS, ROWS = 4, 2_000
#: Rows on which it is looked at whether critics take actions as the actor gives them.
_FEW = 50


@dataclass(frozen=True)
class Critics:
    """The Q-functions of a dense controller, which say how much less an action is worth than the actor's own.

    Attributes:
        flow: from the dense dataflow's inputs, the action last, to the critics' outputs.
        names: theirs.
    """

    flow: fx.GraphModule
    names: tuple[str, ...]

    @classmethod
    def of(cls, controller: Controller, observations: Batch) -> Critics:
        """Those of a controller; ``observations`` ``(n, obs)`` are some of its own, raw.

        Raises:
            PruningError: it has no actor of continuous actions, or no critic that judges what the actor gives.
        """
        check_critics(controller)
        if not _judge_what_is_given(controller, observations[:_FEW]):
            raise _none(controller)
        names = _names(controller)
        return cls(outputs_of(controller.dataflow(), names), names)

    def value(self, inputs: Sequence[Tensor]) -> Tensor:
        """What these actions are worth ``(n,)``: the mean of the critics, and of their quantiles."""
        results = self.flow(*inputs)
        return torch.stack([results[name][1].mean(dim=1) for name in self.names]).mean(dim=0)

    def curvature(self, inputs: Sequence[Tensor], actions: Tensor, seed: int = 0) -> Tensor:
        """How fast the value falls around these actions, in every direction: ``(n, actions, actions)``, no eigenvalue
        below 0.

        It is minus the second derivative of the value smoothed by Gaussian noise of standard deviation `SPREAD`, since
        piecewise linear networks have none themselves. By Stein's identity that is the mean of the gradient times the
        noise, over its variance; pairs of opposite noise take the gradient at the middle out. Directions in which the
        value rises, where a critic is wrong or the actor is, count as flat.

        Args:
            inputs: what the dense dataflow takes, ``(n, ...)`` each; the last, the action, is not looked at.
            actions: ``(n, actions)``, as the critics take them.
            seed: for the noise.
        """
        generator = torch.Generator().manual_seed(seed)
        found = []
        for rows in torch.split(torch.arange(len(actions)), ROWS):
            seen, middle = [tensor[rows] for tensor in inputs[:-1]], actions[rows]
            total = middle.new_zeros(*middle.shape, middle.shape[1])
            for _ in range(PAIRS):
                noise = torch.randn(middle.shape, generator=generator)
                ahead, behind = (self._gradient(seen, middle + side * SPREAD * noise) for side in (1, -1))
                total -= (ahead - behind)[:, :, None] * noise[:, None, :] / (2 * SPREAD)
            symmetric = 0.5 * (total + total.transpose(1, 2)) / PAIRS
            values, directions = torch.linalg.eigh(symmetric)
            found.append((directions * values.clamp_min(0)[:, None, :]) @ directions.transpose(1, 2))
        return torch.cat(found)

    def _gradient(self, seen: Sequence[Tensor], actions: Tensor) -> Tensor:
        asked = actions.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.value([*seen, asked]).sum(), asked)
        return gradient


def check_critics(controller: Controller) -> None:
    """Raise PruningError where it is plain from its components that a controller has no such critics."""
    acts = "actor" in controller.components and isinstance(controller.action_space, spaces.Box)
    if not (_names(controller) and acts) or controller.memory or controller.plans:
        raise _none(controller)


def _names(controller: Controller) -> tuple[str, ...]:
    return tuple(name for name in controller.components if name.partition(".")[0] == "critic")


def _none(controller: Controller) -> PruningError:
    return PruningError(
        "recovery 'distill-critic' needs critics that judge the actor's actions, as those of SAC, TQC, TD3 and DDPG; "
        f"'{controller.algorithm}' has none: take 'distill'"
    )


def _judge_what_is_given(controller: Controller, observations: Batch) -> bool:
    """Whether the critics take actions last, and as the actor gives them."""
    inputs = controller.inputs(observations, controller.act(observations))
    with torch.no_grad():
        given = outputs_of(controller.dataflow(), ["actor"])(*inputs)["actor"][1]
    return given.shape == inputs[-1].shape and torch.allclose(given, inputs[-1], rtol=1e-3, atol=1e-3)

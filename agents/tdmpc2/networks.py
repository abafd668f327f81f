"""The networks of TD-MPC2: latents of simplices, rewards and values as distributions, several Q-functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.inference import Function, function
from prunectl.agents.tdmpc.layers import SimNorm, width
from prunectl.agents.tdmpc.model import Asked, LatentModel, TDMPCNetworks
from prunectl.agents.tdmpc.networks import with_targets
from prunectl.agents.tdmpc2.distributions import Bins, action

#: Q-functions, numbers a simplex, and bins of a distribution, as the authors' model of 5 million parameters has them.
CRITICS, SIMPLEX, BINS = 5, 8, 101
#: How many critics a file may have.
NUMBERS = range(2, 17)
#: How many of the critics an estimate is made of (section 3.2).
ASKED = 2


class DistributionalModel(LatentModel):
    """The networks of TD-MPC2, with any number of critics from two on.

    z = encoder(s);  z' = dynamics(z, a);  reward(z, a) and Q_i(z, a): logits of bins, and the number they stand for;
    actor(z): means and deviations of a normal distribution, which is squashed to [-1, 1]
    """

    algorithm = "tdmpc2"
    format = "prunectl tdmpc2 1"

    @property
    def slow(self) -> Sequence[str]:
        return [name for name in self.components.values() if name.startswith("critic_")]

    @property
    def actions(self) -> int:
        return width(self.actor) // 2

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"reward": 1, "actor": 2 * self.actions, "critic": 1}

    @classmethod
    def read(cls, name: str, layers: list[str]) -> list[str]:
        """Files from before bins were among the layers have the authors'."""
        return [*layers, f"bins {Bins().extra_repr()}"] if judges(name) and layers[-1:] == ["linear"] else layers

    @property
    def policy(self) -> nn.Sequential:
        *before, last = self.actor
        assert isinstance(last, nn.Linear)
        means = nn.Linear(last.in_features, self.actions, device="meta")
        rows = {name: tensor[: self.actions] for name, tensor in last.state_dict().items()}
        means.load_state_dict(rows, assign=True)
        return nn.Sequential(*before, means.requires_grad_(False), nn.Tanh())

    def asked(self, min_std: float) -> Asked:
        reward, actor = function(self.reward), function(self.actor)
        return Asked(
            encoder=function(self.encoder),
            dynamics=function(self.dynamics),
            reward=lambda joint: reward(joint)[:, 0],
            policy=lambda latent, noise: action(actor(latent), noise),
            value=_mean_of_two([function(critic) for critic in self.critics]),
            drawn=len(self.critics),
        )


def _mean_of_two(critics: Sequence[Function]) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean of the two critics that each environment has drawn: those of its two highest numbers."""

    def value(joint: Tensor, numbers: Tensor) -> Tensor:
        by_environment = joint.view(len(numbers), len(joint) // len(numbers), joint.shape[1])
        total = torch.zeros(by_environment.shape[:2])
        chosen = numbers.topk(ASKED, dim=1).indices
        for index, critic in enumerate(critics):
            rows = (chosen == index).any(1).nonzero()[:, 0]
            if len(rows):
                found = critic(by_environment[rows].flatten(0, 1))
                total[rows] += found.view(len(rows), by_environment.shape[1]) / ASKED
        return total.flatten()

    return value


def judges(name: str) -> bool:
    """Whether the network of that attribute says numbers as distributions over bins."""
    return name == "reward" or name.startswith("critic_")


def layered(inputs: int, hidden: Sequence[int], outputs: int, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers, normalised and with Mish; the last one plain, or normalised before ``last``."""
    layers: list[nn.Module] = []
    for width_ in hidden:
        layers += [nn.Linear(inputs, width_), nn.LayerNorm(width_), nn.Mish()]
        inputs = width_
    layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers, *([] if last is None else [nn.LayerNorm(outputs), last]))


def build(observations: int, actions: int, latent: int = 512, encoder: int = 256, hidden: int = 512) -> TDMPCNetworks:
    """Fresh networks of the authors' shapes: small weights, zero biases, rewards and values start at zero.

    The authors drop 1% of the units after the first layer of each Q-function while it learns; these have no dropout.

    Raises:
        ControllerError: a latent that is not made of whole simplices.
    """
    if latent % SIMPLEX:
        raise ControllerError(f"latent_dim {latent}: TD-MPC2's latents are simplices of {SIMPLEX}, so a multiple of it")
    joint, wide = latent + actions, [hidden, hidden]
    critics = {f"critic_{index}": layered(joint, wide, BINS).append(Bins()) for index in range(CRITICS)}
    online = DistributionalModel(
        encoder=layered(observations, [encoder], latent, SimNorm(SIMPLEX)),
        dynamics=layered(joint, wide, latent, SimNorm(SIMPLEX)),
        reward=layered(joint, wide, BINS).append(Bins()),
        actor=layered(latent, wide, 2 * actions),
        **critics,
    )
    for module in online.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    for network in (online.reward, *online.critics):
        last = network[-2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
    return with_targets(online)

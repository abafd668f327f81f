"""What every latent world model of the TD-MPC family shares: networks around one latent, and what a planner asks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from prunectl.agents.tdmpc.inference import Function
from prunectl.agents.tdmpc.layers import width


@dataclass(frozen=True)
class Asked:
    """A world model as a planner asks it: quick functions without gradients. R rows; latents L, actions A.

    Attributes:
        encoder: ``(R, obs) -> (R, L)``.
        dynamics: ``(R, L + A) -> (R, L)``; latent and action stand side by side.
        reward: ``(R, L + A) -> (R,)``.
        policy: ``(R, L)`` and standard normal noise ``(R, A)`` to actions ``(R, A)`` in [-1, 1].
        value: ``(R, L + A)`` and numbers that draw among the critics ``(B, drawn)``, B a divisor of R, to ``(R,)``.
        drawn: how many critics there are to draw from; 0 where all are asked.
    """

    encoder: Function
    dynamics: Function
    reward: Function
    policy: Callable[[Tensor, Tensor], Tensor]
    value: Callable[[Tensor, Tensor], Tensor]
    drawn: int = 0


class Parts(nn.Module):
    """Some of the networks, by attribute: ``encoder``, ``dynamics``, ``reward``, ``actor``, ``critic_0``, ... in a
    fixed order."""

    encoder: nn.Sequential
    dynamics: nn.Sequential
    reward: nn.Sequential
    actor: nn.Sequential

    def __init__(self, **networks: nn.Sequential) -> None:
        super().__init__()
        for name, network in networks.items():
            self.add_module(name, network)

    @property
    def critics(self) -> Sequence[nn.Sequential]:
        """The Q-functions, in order."""
        return [getattr(self, name) for name, _ in self.named_children() if name.startswith("critic_")]


class LatentModel(Parts):
    """The networks around one latent z. Widths may be anything that fits: they are read off the layers.

    All take ``(n, in)`` and give ``(n, out)``; two inputs stand side by side, the latent first.
    """

    #: The algorithm, and the first word on its files.
    algorithm: ClassVar[str]
    format: ClassVar[str]

    @property
    def components(self) -> Mapping[str, str]:
        """Components in their fixed order, by the attribute that holds them."""
        return {name.replace("critic_", "critic."): name for name, _ in self.named_children()}

    @classmethod
    def read(cls, name: str, layers: list[str]) -> list[str]:
        """The layers of a network by name, of those that a file says."""
        return layers

    @property
    @abstractmethod
    def slow(self) -> Sequence[str]:
        """Attributes of the networks that targets are computed with, of which there are slow copies."""

    @property
    @abstractmethod
    def actions(self) -> int:
        """Number of action dimensions."""

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, int]:
        """How many numbers reward, actor and each critic give."""

    @abstractmethod
    def asked(self, min_std: float) -> Asked:
        """What a planner asks; ``min_std`` is its lower bound of the sampling distribution's standard deviation."""

    @property
    @abstractmethod
    def policy(self) -> nn.Sequential:
        """From latents to actions in [-1, 1], without noise, layer by layer."""

    @property
    def latent(self) -> int:
        """How many numbers the latent has."""
        return width(self.encoder)


class TDMPCNetworks(nn.Module):
    """All tensors of a controller: the online model and the slow copies."""

    def __init__(self, online: LatentModel, target: Parts) -> None:
        super().__init__()
        self.online, self.target = online, target

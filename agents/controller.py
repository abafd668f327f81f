"""The vocabulary every other package speaks: a controller is named components plus ``act``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from prunectl.agents.choices import Actions, options
from prunectl.agents.choices import Choice as Choice  # a word of this vocabulary
from prunectl.agents.surroundings import PLAIN, Surroundings
from prunectl.errors import ControllerError as ControllerError

#: Rows of numbers, first axis the batch: whatever the space of observations, each is a flat row (`agents.rows`).
Batch = NDArray[Any]

#: What drives a batch of episodes: ``(observations, episodes) -> actions``. ``episodes`` holds, for each row of
#: ``observations``, the index of the episode it belongs to (finished episodes drop out of the batch).
Policy = Callable[[Batch, NDArray[np.intp]], NDArray[Any]]


def attribute_name(component: str) -> str:
    """A component's name as a module attribute, which may not hold a dot."""
    return component.replace(".", "_")


@dataclass(frozen=True)
class Component:
    """One named network of a controller.

    ``deployed`` says whether ``act`` runs it. ``module`` holds exactly the component's own parameters.
    """

    name: str
    module: nn.Module
    deployed: bool

    @property
    def parameters(self) -> int:
        """Number of parameters, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.module.parameters())


class Controller(ABC):
    """A trained agent, seen as named components plus ``act(observations) -> actions``.

    ``networks`` owns every tensor of the controller, target networks included; the components are views on it. Nothing
    here is ever changed in place: `with_networks` gives the same controller around other networks.
    """

    algorithm: str
    observation_space: spaces.Box
    action_space: Actions
    networks: nn.Module
    #: What it was trained in besides the task's id. None for files of ours from before that was written down: then one
    #: observation more than the task gives was the time left.
    surroundings: Surroundings | None = PLAIN
    #: How the files end that `save` writes and `agents.load` reads.
    suffix: str
    #: What `of` calls. `agents.networks`, which is built on this module, puts it here.
    maker: ClassVar[Callable[..., Controller]]

    @staticmethod
    def of(
        components: Mapping[str, nn.Module],
        dataflow: Callable[..., Any],
        act: Callable[..., Any],
        observation_space: spaces.Box | Sequence[int] | int,
        action_space: spaces.Box | spaces.Discrete | None = None,
        *,
        observe: Callable[[torch.Tensor], torch.Tensor] | None = None,
        fixed_outputs: Sequence[str] | None = None,
        ties: Sequence[Sequence[str]] = (),
    ) -> Controller:
        """A controller of anybody's own networks. They are copied, and stay as they are.

        The functions are traced once, so they may not branch on values, and may use the layers and operations of
        `agents.networks.vocabulary`. What `act` calls is deployed. Target networks need not be given: they are copies
        of their online twins.

        Args:
            components: the networks by name, in any order; each holds its own parameters.
            dataflow: ``(components, observations)`` or ``(components, observations, actions)`` to a table with each
                component's output. It shows how data passes between them, so what may be pruned with what. A component
                that is asked about several values may be called on each; what it gives for one of them is enough.
            act: ``(components, observations) -> actions``, deterministic, in the environment's units; an index each
                where they are choices.
            observation_space: a box, or the shape of one observation.
            action_space: by default numbers without bounds, as many as `act` gives.
            observe: what the networks are shown of observations, where that is not all as it is: normalised, scaled.
                Both functions are given what it gives.
            fixed_outputs: components whose output keeps its width though other components read it; by default the one
                that `act` ends with. Outputs that nobody reads keep theirs anyway.
            ties: components that keep equal widths, layer by layer.

        Raises:
            ControllerError: a layer or an operation that is not known, or parts that do not fit each other.
        """
        return Controller.maker(
            components,
            dataflow,
            act,
            observation_space,
            action_space,
            observe=observe,
            fixed_outputs=fixed_outputs,
            ties=ties,
        )

    @property
    @abstractmethod
    def components(self) -> Mapping[str, Component]:
        """The components by name, in a fixed order: encoders, actor, critics, value, or q."""

    @property
    @abstractmethod
    def ties(self) -> Sequence[Sequence[str]]:
        """Components that must keep equal widths, layer by layer, because one architecture serves them all; or layers
        of the dataflow by name, whose outputs must."""

    @property
    @abstractmethod
    def mirrors(self) -> Mapping[str, str]:
        """Parameter-name prefix in ``networks`` -> prefix of the target network that has the same shape."""

    @property
    def observed(self) -> spaces.Space[Any]:
        """The space of what the task gives, which rows of observations are made of (`agents.rows`)."""
        return self.observation_space

    @property
    def latent_inputs(self) -> frozenset[int]:
        """Positions among the dataflow's inputs of latents, which lose units as the flow that they stand for does. All
        others (observations, actions) keep their width."""
        return frozenset()

    @property
    def fixed_outputs(self) -> frozenset[str]:
        """Components whose output keeps its width even where another component reads it: actions, values, rewards."""
        names = ("actor", "policy", "critic", "value", "reward", "q")
        return frozenset(name for name in self.components if name.split(".")[0] in names)

    @property
    def choices(self) -> Mapping[str, Choice]:
        """Components whose outputs decide among options, and how they do."""
        return {"actor": Choice(self.action_space)} if options(self.action_space) else {}

    @property
    def masked(self) -> bool:
        """Whether it is told which options its actions may choose among. Recorded rows of observations then end with
        that, a number an option in the order of its logits: 1 for allowed, 0 for not."""
        return False

    def allowed(self, observations: Batch) -> NDArray[np.bool_] | None:
        """Which options rows of observations say are allowed, ``(n, options)``: all where they say nothing. None for a
        controller that is not told."""
        if not self.masked:
            return None
        said = observations.reshape(len(observations), -1)[:, math.prod(self.observation_space.shape) :]
        return said != 0 if said.size else np.ones((len(said), sum(options(self.action_space))), dtype=np.bool_)

    @abstractmethod
    def dataflow(self) -> nn.Module:
        """How data passes through the components, as a module that ``torch.fx`` can trace.

        Its children are the components' modules under their `attribute_name`; ``forward(*inputs)`` returns a dict from
        component name to that component's output.
        """

    @abstractmethod
    def inputs(self, observations: Batch, actions: NDArray[Any]) -> tuple[torch.Tensor, ...]:
        """What `dataflow` takes, made of raw observations ``(n, obs)`` and actions as the environment takes them."""

    @abstractmethod
    def act(self, observations: Batch) -> NDArray[Any]:
        """Deterministic actions, in the environment's own units, for raw observations ``(n, obs)``."""

    def deployed_path(self) -> nn.Sequential:
        """What is exported: from raw observations ``(n, obs)`` to actions in the environment's units, layer by layer.

        It is what `act` runs, but for a controller that plans: there it is the policy that plans start from.

        Raises:
            ControllerError: there is no such path.
        """
        raise ControllerError(f"controllers of the kind '{self.algorithm}' have no path to export")

    def deployed_step(self) -> nn.Module:
        """What is exported of a controller that decides by more than an observation ``(n, obs)``.

        Of one with a memory: also from what is remembered by what acts ``(n, memory)``, which lies first in recorded
        memories, to actions and what is remembered after them. Of one that is told which options are allowed: also from
        these ``(n, options)``, above 0 for allowed, to actions. Its attribute ``beside`` has the name of that input and
        its width.

        Raises:
            ControllerError: an observation is all that it decides by.
        """
        raise ControllerError(f"controllers of the kind '{self.algorithm}' decide by observations alone")

    @property
    def held_steps(self) -> int:
        """Environment steps that a decision holds."""
        return 1

    @property
    def plans(self) -> bool:
        """Whether `act` searches for its action in the controller's own model, so that a decision is dear."""
        return False

    @property
    def memory(self) -> int:
        """How many numbers an episode remembers from one step to the next. Recorded rows of observations end with them,
        as they are before the step, and so do those that `inputs` takes."""
        return 0

    @property
    def memories(self) -> Mapping[str, Sequence[int]]:
        """Components whose outputs are states, and which of the dataflow's inputs these are at the next step: equal
        parts of the output's last dimension, in this order. An episode begins with zeros."""
        return {}

    def policy(self, seeds: Sequence[int]) -> Policy:
        """What drives one episode a seed. A controller with a memory or with randomness overrides this."""
        return lambda observations, episodes: self.act(observations)

    @abstractmethod
    def with_networks(self, networks: nn.Module) -> Self:
        """The same controller around other networks (of any widths)."""

    def narrowed(self, inputs: Sequence[torch.Tensor], components: Collection[str]) -> Self:
        """The same controller without outputs that nothing falls on of what it says; itself where all of them count.

        Args:
            inputs: what `dataflow` takes, ``(n, ...)`` each.
            components: those that may lose outputs.
        """
        return self

    @property
    def selects(self) -> bool:
        """Whether `reading` gives one that is shown fewer numbers."""
        return False

    def reading(self, inputs: Sequence[int]) -> Self:
        """The same controller around networks that are shown some numbers of the observation alone.

        Args:
            inputs: their indices among those that the networks were shown before, ascending; what `networks` reads has
                their width already (`with_networks`).

        Raises:
            ControllerError: its networks are shown all of an observation, or none of it as it is.
        """
        raise ControllerError(f"a '{self.algorithm}' controller with such observations reads all of them")

    @abstractmethod
    def save(self, path: Path, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        """Write a checkpoint that `agents.load` reads. Returns remarks that the user should see, one a line."""

    def parameters(self, deployed: bool = False) -> int:
        """Number of parameters over all components, or over the deployed ones only."""
        return sum(c.parameters for c in self.components.values() if c.deployed or not deployed)

    def __str__(self) -> str:
        lines = [f"{self.algorithm} controller, {self.parameters():,} parameters"]
        for component in self.components.values():
            widths = [width for module in component.module.modules() for width in _widths(module)]
            role = "deployed" if component.deployed else "training only"
            arrows = "-".join(map(str, widths))
            lines.append(f"  {component.name:<12} {component.parameters:>10,}  {arrows:<20} {role}")
        return "\n".join(lines)


def _widths(module: nn.Module) -> list[int]:
    """How many units a layer writes: outputs, channels or hidden units."""
    match module:
        case nn.Linear():
            return [module.out_features]
        case nn.Conv1d() | nn.Conv2d() | nn.ConvTranspose1d() | nn.ConvTranspose2d():
            return [module.out_channels]
        case nn.RNNBase():
            return [module.hidden_size] * module.num_layers
        case nn.RNNCellBase():
            return [module.hidden_size]
    return []


class HeldPolicy:
    """A policy whose decisions are held for some environment steps, each episode counting its own."""

    def __init__(self, policy: Policy, steps: int, episodes: int) -> None:
        self.policy, self.steps = policy, steps
        self.taken = np.zeros(episodes, dtype=np.int64)
        self.actions: list[Any] = [None] * episodes

    def __call__(self, observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        due = self.taken[episodes] % self.steps == 0
        if due.any():
            for episode, action in zip(episodes[due], self.policy(observations[due], episodes[due]), strict=True):
                self.actions[episode] = action
        self.taken[episodes] += 1
        return np.asarray([self.actions[episode] for episode in episodes])

"""A Stable-Baselines3 or sb3-contrib agent as a `Controller`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from prunectl.agents.boundary_layers import (
    Argmax,
    ArgmaxEach,
    Inputs,
    MaskedStep,
    QuantileMean,
    RememberingStep,
    Rescale,
    Switches,
    computed,
    decision,
    flat,
)
from prunectl.agents.choices import Actions, Choice, among, options
from prunectl.agents.controller import Batch, Component, Controller, ControllerError, Policy
from prunectl.agents.extractors import CnnExtractor, InputsExtractor, MlpExtractor
from prunectl.agents.remembering import RememberingPolicy
from prunectl.agents.rows import row_space
from prunectl.agents.sb3 import networks as views
from prunectl.agents.sb3.blueprint import Blueprint, build, of_model
from prunectl.agents.sb3.extractor import reading
from prunectl.agents.sb3.faithful import check_faithful
from prunectl.agents.sb3.memory import Memory, memories, memory_ties, split_states
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.agents.sb3.preprocessing import only_flattens, preprocessing
from prunectl.agents.sb3.save import save_zip
from prunectl.agents.surroundings import PLAIN, Surroundings


@dataclass(frozen=True)
class SB3Controller(Controller):
    """A policy of Stable-Baselines3, with the blueprint that says how it was made and would be made again."""

    suffix: ClassVar[str] = ".zip"  # type: ignore[misc]
    blueprint: Blueprint
    policy_networks: BasePolicy
    normalisation: Normalisation | None = None
    rewards: RewardScale | None = None
    surroundings: Surroundings | None = PLAIN

    def __post_init__(self) -> None:
        self.policy_networks.eval()
        for module in self.policy_networks.modules():
            vars(module).pop("optimizer", None)  # of no use without its algorithm, and every copy would carry it

    @classmethod
    def of(  # type: ignore[override]  # made of a model, which says all itself
        cls,
        algorithm: str,
        model: BaseAlgorithm,
        normalisation: Normalisation | None = None,
        where: str | None = None,
    ) -> Self:
        """A copy of a live algorithm object's policy; the object goes on as it was.

        Raises:
            ControllerError: its spaces are none that are read; messages begin with ``where``, or the algorithm.
            NotRebuiltError: it has or does something that its known parts alone do not.
        """
        where = where or algorithm
        blueprint, state = of_model(algorithm, model, where)
        controller = cls(blueprint, build(blueprint, state).policy, normalisation)
        check_faithful(controller, None if normalisation is None else normalisation.module(), model, where)
        return controller

    @property
    def algorithm(self) -> str:  # type: ignore[override]
        return self.blueprint.algorithm

    @property
    def networks(self) -> nn.Module:  # type: ignore[override]
        return self.policy_networks

    @cached_property
    def observation_space(self) -> spaces.Box:  # type: ignore[override]
        return row_space(self.observed)

    @property
    def observed(self) -> spaces.Space[Any]:
        return self.blueprint.observation_space

    @property
    def action_space(self) -> Actions:  # type: ignore[override]
        return self.blueprint.action_space

    @cached_property
    def components(self) -> Mapping[str, Component]:
        return views.as_components(views.component_modules(self.policy_networks))

    @property
    def ties(self) -> Sequence[Sequence[str]]:
        # SB3 builds all critics from one architecture, and unshared encoders from one list of widths.
        kinds = ("critic.", "encoder_")
        alike = [tuple(name for name in self.components if name.startswith(kind)) for kind in kinds]
        return [*(names for names in alike if len(names) > 1), *memory_ties(self.policy_networks)]

    @property
    def memory(self) -> int:
        memories = self._memories.values()
        return sum(2 * memory.lstm.num_layers * memory.lstm.hidden_size for memory in memories)

    @property
    def memories(self) -> Mapping[str, Sequence[int]]:
        return {name: (1 + 2 * number, 2 + 2 * number) for number, name in enumerate(self._memories)}

    @property
    def latent_inputs(self) -> frozenset[int]:
        return frozenset(place for places in self.memories.values() for place in places)

    @property
    def mirrors(self) -> Mapping[str, str]:
        names = ("actor", "critic", "q_net", "quantile_net")
        return {f"{name}.": f"{name}_target." for name in names if hasattr(self.policy_networks, f"{name}_target")}

    @property
    def choices(self) -> Mapping[str, Choice]:
        if self.masked:
            return {"actor": Choice(self._decided_in)}
        return {"q": Choice(self.action_space, valued=True)} if "q" in self.components else super().choices

    @property
    def masked(self) -> bool:
        return isinstance(self.policy_networks, MaskableActorCriticPolicy)

    def dataflow(self) -> nn.Module:
        return views.flow(self.policy_networks)

    def inputs(self, observations: Batch, actions: NDArray[Any]) -> tuple[torch.Tensor, ...]:
        given, states = self._apart(observations)
        seen = self._seen(given)
        if not views.judges_actions(self.policy_networks):
            return (seen, *split_states(torch.as_tensor(states), self._memories)) if self._memories else (seen,)
        scaled = self.policy_networks.scale_action(np.asarray(actions, dtype=np.float32))
        return seen, torch.as_tensor(scaled, dtype=torch.float32)

    def act(self, observations: Batch) -> NDArray[Any]:
        if self._memories:
            return self.advance(*self._apart(observations))[0]
        values = self._tensor(self._apart(observations)[0] if self.masked else observations)
        with torch.inference_mode():
            for forward in self._path:
                values = forward(values)
            if self.masked:
                values = _decided(decision(self._decided_in), values, self.allowed(observations))
            return values.numpy()

    def policy(self, seeds: Sequence[int]) -> Policy:
        return RememberingPolicy(self, len(seeds)) if self._memories else super().policy(seeds)

    def advance(self, observations: Batch, states: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """One step of a controller with a memory.

        Args:
            observations: raw, ``(n, obs)``.
            states: what is remembered, ``(n, memory)``.

        Returns:
            Actions as the environment takes them, and the states after them.
        """
        with torch.inference_mode():
            before = split_states(torch.as_tensor(states), self._memories)
            seen, following = self._seen(observations), []
            for number, (name, memory) in enumerate(self._memories.items()):
                reader = "value" if name == "memory_value" else "actor"
                encoder = self.components.get("encoder") or self.components.get(f"encoder_{reader}")
                features = seen if encoder is None else encoder.module(seen)
                following += memory(features, *before[2 * number : 2 * number + 2])
            actions = following[0][:, -1]
            for forward in self._path:
                actions = forward(actions)
            after = torch.cat([state.flatten(1) for state in following], dim=1)
            return actions.numpy(), after.numpy()

    def deployed_path(self) -> nn.Sequential:
        if self._memories:
            raise ControllerError("a controller with a memory has no path from an observation alone to export")
        if self.masked:
            raise ControllerError("a controller that is told which actions are allowed decides by those too")
        return self._layers()

    def _layers(self) -> nn.Sequential:
        """All that acts, from raw observations; to logits where it is for a mask what may be chosen among them."""
        return flat(*self._before, self._encoder, *self._from_latent())

    @property
    def _encoder(self) -> nn.Module:
        """What the actor, or its memory, sees through."""
        modules = {name: component.module for name, component in self.components.items()}
        encoder = modules.get("encoder", modules.get("encoder_actor", nn.Identity()))
        return encoder.net if isinstance(encoder, MlpExtractor | CnnExtractor) else encoder

    def deployed_step(self) -> nn.Module:
        if self.masked:
            return MaskedStep(self._layers(), sum(options(self.action_space)), decision(self._decided_in)).eval()
        if not self._memories:
            return super().deployed_step()
        memory = next(iter(self._memories.values()))
        return RememberingStep(flat(*self._before, self._encoder), memory.lstm, flat(*self._from_latent())).eval()

    def with_networks(self, networks: nn.Module) -> Self:
        assert isinstance(networks, BasePolicy)
        return replace(self, policy_networks=networks)

    @property
    def selects(self) -> bool:
        extractor = self.blueprint.policy_kwargs.get("features_extractor_class")
        vector = isinstance(self.observed, spaces.Box) and len(self.observed.shape) == 1
        named = self.blueprint.policy == "Mlp" and self.algorithm != "ars"  # whose policy takes no extractor
        return vector and named and extractor in (None, FlattenExtractor, InputsExtractor)

    @property
    def inputs_read(self) -> tuple[int, ...] | None:
        """Which numbers of an observation the networks are shown; None for all."""
        arguments = self.blueprint.policy_kwargs
        if arguments.get("features_extractor_class") is not InputsExtractor:
            return None
        return tuple(arguments["features_extractor_kwargs"]["inputs"])

    def reading(self, inputs: Sequence[int]) -> Self:
        if not self.selects:
            return super().reading(inputs)
        before = self.inputs_read or range(self.observation_space.shape[0])
        chosen = [before[index] for index in inputs]
        blueprint = replace(self.blueprint, policy_kwargs={**self.blueprint.policy_kwargs, **reading(chosen)})
        extractor = InputsExtractor(self.observation_space, chosen)
        memo: dict[int, Any] = {id(one): extractor for one in self.networks.modules() if only_flattens(one)}
        return replace(self, blueprint=blueprint, policy_networks=copy.deepcopy(self.policy_networks, memo))

    def save(self, path: Path, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        statistics = self.normalisation, self.rewards
        return save_zip(path, self.blueprint, self.policy_networks, *statistics, self.surroundings, provenance)

    @cached_property
    def _path(self) -> tuple[Callable[[torch.Tensor], torch.Tensor], ...]:
        """What `deployed_path` computes, or what follows a memory, without the modules around it, whose calls and
        whose looking up of their own tensors would cost `act` a quarter."""
        path = flat(*self._from_latent()) if self._memories else self._layers()
        decisions = (Argmax, ArgmaxEach, Switches)
        return tuple(partial(_decided, layer) if isinstance(layer, decisions) else computed(layer) for layer in path)

    def _from_latent(self) -> tuple[nn.Module, ...]:
        """From what the actor reads, or q, to actions in the environment's units."""
        if "q" in self.components:
            assert isinstance(self.action_space, spaces.Discrete)
            quantiles = getattr(self.policy_networks, "n_quantiles", None)
            means = nn.Identity() if quantiles is None else QuantileMean(quantiles, int(self.action_space.n))
            return self.components["q"].module, means, Argmax()
        actor = self.components["actor"].module
        assert isinstance(actor, views.Actor)
        after: nn.Module = nn.Identity()
        if self.masked:
            pass  # the mask comes first
        elif not isinstance(self.action_space, spaces.Box):
            after = decision(self.action_space)
        elif self.policy_networks.squash_output:
            after = Rescale(self.action_space)
        return actor.trunk, actor.mean, actor.squash, after

    @property
    def _decided_in(self) -> Actions:
        """The choices that logits decide: where masks are, a switch has a logit for off and one for on."""
        switches = self.masked and isinstance(self.action_space, spaces.MultiBinary)
        return spaces.MultiDiscrete(list(options(self.action_space))) if switches else self.action_space

    @cached_property
    def _memories(self) -> Mapping[str, Memory]:
        return memories(self.policy_networks)

    def _apart(self, rows: Batch) -> tuple[Batch, NDArray[np.float32]]:
        """Observations, and what is remembered beside them (nothing yet where rows are observations alone), or which
        options are allowed."""
        width = int(np.prod(self.observation_space.shape))
        if not (self._memories or self.masked) or rows.shape[1:] == self.observation_space.shape:
            return rows, np.zeros((len(rows), self.memory), dtype=np.float32)
        return rows[:, :width], np.ascontiguousarray(rows[:, width:], dtype=np.float32)

    @cached_property
    def _before(self) -> tuple[nn.Module, ...]:
        """From rows to what the networks are shown."""
        inputs, statistics = self.inputs_read, self.normalisation
        if inputs is not None and statistics is not None:  # of what nobody reads, nothing is computed
            statistics = statistics.of_inputs(inputs)
        picked = () if inputs is None else (Inputs(inputs),)
        normalise = () if statistics is None else (statistics.module(),)
        encoded, _ = views.encoders(self.policy_networks)
        shown = preprocessing(self.observed, self.blueprint.scales_images, shaped=bool(encoded))
        return (*picked, *normalise, *shown)

    def _seen(self, observations: Batch) -> torch.Tensor:
        values = self._tensor(observations)
        for module in self._before:
            values = module(values)
        return values

    def _tensor(self, observations: Batch) -> torch.Tensor:
        """Statistics are applied in the observations' own precision, networks see float32."""
        rows = observations if self.normalisation is not None else np.asarray(observations, dtype=np.float32)
        return torch.as_tensor(rows if rows.ndim == 2 else rows.reshape(len(rows), -1))


def _decided(decide: nn.Module, logits: torch.Tensor, allowed: NDArray[np.bool_] | None = None) -> torch.Tensor:
    """What is chosen, among all or what is allowed; of NaN it would be an action like any other."""
    if not torch.isfinite(logits).all():
        raise ControllerError("the controller's logits are not numbers")
    chosen: torch.Tensor = decide.forward(among(logits, None if allowed is None else torch.as_tensor(allowed)))
    return chosen

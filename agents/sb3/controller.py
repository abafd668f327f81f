"""A Stable-Baselines3 or sb3-contrib agent as a `Controller`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from prunectl.agents.boundary_layers import Argmax, Rescale, flat
from prunectl.agents.controller import Batch, Component, Controller, ControllerError
from prunectl.agents.extractors import MlpExtractor
from prunectl.agents.sb3 import networks as views
from prunectl.agents.sb3.blueprint import Blueprint, build, of_model
from prunectl.agents.sb3.faithful import check_faithful
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
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
        cls, algorithm: str, model: BaseAlgorithm, normalisation: Normalisation | None = None
    ) -> Self:
        """A copy of a live algorithm object's policy; the object goes on as it was.

        Raises:
            ControllerError: it does something that its known parts alone do not.
        """
        blueprint, state = of_model(algorithm, model, algorithm)
        controller = cls(blueprint, build(blueprint, state).policy, normalisation)
        check_faithful(controller.act, None if normalisation is None else normalisation.module(), model, algorithm)
        return controller

    @property
    def algorithm(self) -> str:  # type: ignore[override]
        return self.blueprint.algorithm

    @property
    def networks(self) -> nn.Module:  # type: ignore[override]
        return self.policy_networks

    @property
    def observation_space(self) -> spaces.Box:  # type: ignore[override]
        return self.blueprint.observation_space

    @property
    def action_space(self) -> spaces.Box | spaces.Discrete:  # type: ignore[override]
        return self.blueprint.action_space

    @cached_property
    def components(self) -> Mapping[str, Component]:
        return views.as_components(views.component_modules(self.policy_networks))

    @property
    def ties(self) -> Sequence[Sequence[str]]:
        # SB3 builds all critics from one architecture, and unshared encoders from one list of widths.
        kinds = ("critic.", "encoder_")
        alike = [tuple(name for name in self.components if name.startswith(kind)) for kind in kinds]
        return [names for names in alike if len(names) > 1]

    @property
    def mirrors(self) -> Mapping[str, str]:
        names = ("actor", "critic")
        return {f"{name}.": f"{name}_target." for name in names if hasattr(self.policy_networks, f"{name}_target")}

    def dataflow(self) -> nn.Module:
        return views.flow(self.policy_networks)

    def inputs(self, observations: Batch, actions: NDArray[Any]) -> tuple[torch.Tensor, ...]:
        seen = self._seen(observations)
        if views.is_on_policy(self.policy_networks):
            return (seen,)
        scaled = self.policy_networks.scale_action(np.asarray(actions, dtype=np.float32))
        return seen, torch.as_tensor(scaled, dtype=torch.float32)

    def act(self, observations: Batch) -> NDArray[Any]:
        values = self._tensor(observations)
        with torch.inference_mode():
            for forward in self._path:
                values = forward(values)
            return values.numpy()

    def deployed_path(self) -> nn.Sequential:
        modules = {name: component.module for name, component in self.components.items()}
        encoder = modules.get("encoder", modules.get("encoder_actor", nn.Identity()))
        encoder = encoder.net if isinstance(encoder, MlpExtractor) else encoder
        actor = modules["actor"]
        assert isinstance(actor, views.Actor)
        before = nn.Identity() if self.normalisation is None else self.normalisation.module()
        after: nn.Module = nn.Identity()
        if isinstance(self.action_space, spaces.Discrete):
            after = Argmax()
        elif self.policy_networks.squash_output:
            after = Rescale(self.action_space)
        return flat(before, encoder, actor.trunk, actor.mean, actor.squash, after)

    def with_networks(self, networks: nn.Module) -> Self:
        assert isinstance(networks, BasePolicy)
        return replace(self, policy_networks=networks)

    def save(self, path: Path, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        statistics = self.normalisation, self.rewards
        return save_zip(path, self.blueprint, self.policy_networks, *statistics, self.surroundings, provenance)

    @cached_property
    def _path(self) -> tuple[Callable[[torch.Tensor], torch.Tensor], ...]:
        """What `deployed_path` computes, without the modules around it, whose calls would cost `act` a sixth."""
        return tuple(_decided if isinstance(layer, Argmax) else layer.forward for layer in self.deployed_path())

    def _seen(self, observations: Batch) -> torch.Tensor:
        values = self._tensor(observations)
        return values if self.normalisation is None else self.normalisation.module()(values)

    def _tensor(self, observations: Batch) -> torch.Tensor:
        """Statistics are applied in the observations' own precision, networks see float32."""
        precision = np.float32 if self.normalisation is None else None
        return torch.as_tensor(np.asarray(observations, dtype=precision).reshape(len(observations), -1))


def _decided(logits: torch.Tensor) -> torch.Tensor:
    """The highest logit of each row; of NaN `argmax` would make an action like any other."""
    if not torch.isfinite(logits).all():
        raise ControllerError("the controller's logits are not numbers")
    return logits.argmax(1)

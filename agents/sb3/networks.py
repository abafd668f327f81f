"""Stable-Baselines3 policies seen as components: small modules over the policy's own layers, traceable by torch.fx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.ars.policies import ARSPolicy
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel, BasePolicy
from torch import nn

from prunectl.agents.boundary_layers import Clip
from prunectl.agents.controller import Component, attribute_name
from prunectl.agents.sb3.memory import memories
from prunectl.agents.sb3.preprocessing import OfParts, only_flattens

#: Policies of one actor and one value over the same kind of layers.
ON_POLICY = (ActorCriticPolicy, MaskableActorCriticPolicy)


class Actor(nn.Module):
    """Features -> deterministic action before rescaling: squashed into [-1, 1], clipped to its bounds, or logits.

    ``spread`` is what parametrises the exploration: a head on the latent (SAC, TQC, CrossQ), the gSDE matrix with a row
    per latent unit, a bare vector (PPO without gSDE), or nothing (TD3, DDPG, discrete actions).
    """

    def __init__(
        self,
        trunk: nn.Module,
        mean: nn.Module,
        squash: nn.Module,
        spread: nn.Linear | nn.Parameter | None,
    ) -> None:
        super().__init__()
        self.trunk, self.mean, self.squash = trunk, mean, squash
        self.spread: Any = spread
        self.state_dependent = isinstance(spread, nn.Linear)
        self.gsde = isinstance(spread, nn.Parameter) and spread.dim() == 2

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        latent = self.trunk(features)
        # The exploration heads shape no action, but they lose the inputs that the latent loses: tracing must see them.
        if self.state_dependent:
            self.spread(latent)
        elif self.gsde:
            torch.matmul(latent, self.spread)
        action: torch.Tensor = self.squash(self.mean(latent))
        return action


class _Flow(nn.Module):
    """The components under their own names, and who reads the observation through which encoder."""

    def __init__(self, components: Mapping[str, nn.Module], encoder_of: Mapping[str, str]) -> None:
        super().__init__()
        for name, module in components.items():
            self.add_module(attribute_name(name), module)
        self.encoder_of = dict(encoder_of)
        self.critics = [name for name in components if name.startswith("critic.")]

    def seen(self, observation: torch.Tensor, *readers: str) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        """What each encoder makes of the observation, once, and what each reader sees of that."""
        features = {name: self.get_submodule(name)(observation) for name in dict.fromkeys(self.encoder_of.values())}
        return features, [features[self.encoder_of[r]] if r in self.encoder_of else observation for r in readers]


class OffPolicyFlow(_Flow):
    """``(observation, action) -> {actor: action, critic.i: values}``; the critics judge the action passed in."""

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs, (for_actor, for_critic) = self.seen(observation, "actor", "critic")
        outputs["actor"] = self.get_submodule("actor")(for_actor)
        question = torch.cat([for_critic, action], dim=1)
        for name in self.critics:
            outputs[name] = self.get_submodule(attribute_name(name))(question)
        return outputs


class ObservationFlow(_Flow):
    """``(observation,) -> {actor: action or logits, value: value}``, or ``{q: values}``, or the actor's alone."""

    def __init__(self, components: Mapping[str, nn.Module], encoder_of: Mapping[str, str]) -> None:
        super().__init__(components, encoder_of)
        self.readers = [name for name in components if name in ("actor", "value", "q")]

    def forward(self, observation: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs, seen = self.seen(observation, *self.readers)
        for name, features in zip(self.readers, seen, strict=True):
            outputs[name] = self.get_submodule(name)(features)
        return outputs


class RecurrentFlow(_Flow):
    """``(observation, hidden, cell) -> {memory: states, actor: ..., value: ...}``, one step with the states before it.

    The value reads the same memory, or none.
    """

    def __init__(
        self, components: Mapping[str, nn.Module], encoder_of: Mapping[str, str], value_remembers: bool
    ) -> None:
        super().__init__(components, encoder_of)
        self.value_remembers = value_remembers

    def forward(self, observation: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs, (for_actor, for_value) = self.seen(observation, "actor", "value")
        latent, outputs["memory"] = _remembered(self.get_submodule("memory"), for_actor, hidden, cell)
        outputs["actor"] = self.get_submodule("actor")(latent)
        outputs["value"] = self.get_submodule("value")(latent if self.value_remembers else for_value)
        return outputs


class TwoMemoriesFlow(_Flow):
    """The same where the value has a memory of its own, whose states come last."""

    def forward(
        self,
        observation: torch.Tensor,
        hidden: torch.Tensor,
        cell: torch.Tensor,
        value_hidden: torch.Tensor,
        value_cell: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        outputs, (for_actor, for_value) = self.seen(observation, "actor", "value")
        latent, outputs["memory_actor"] = _remembered(self.get_submodule("memory_actor"), for_actor, hidden, cell)
        value_latent, outputs["memory_value"] = _remembered(
            self.get_submodule("memory_value"), for_value, value_hidden, value_cell
        )
        outputs["actor"] = self.get_submodule("actor")(latent)
        outputs["value"] = self.get_submodule("value")(value_latent)
        return outputs


def _remembered(
    memory: nn.Module, features: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the heads read, the last layer's hidden state; and all states side by side, as the next step begins."""
    hidden, cell = memory(features, hidden, cell)
    return hidden[:, -1], torch.cat([hidden, cell], dim=2)


def judges_actions(policy: BasePolicy) -> bool:
    """Whether the policy has critics that are asked about an action besides the observation."""
    return isinstance(getattr(policy, "critic", None), BaseModel)


def q_network(policy: Any) -> Any:
    """The online network of DQN's or QR-DQN's policy; None of another's."""
    return getattr(policy, "q_net", None) or getattr(policy, "quantile_net", None)


def encoders(policy: Any) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The features extractors that do something, by component name, and who reads which (``actor|critic|value|q``)."""
    readers: dict[str, nn.Module]
    if isinstance(policy, ON_POLICY):
        readers = {"actor": policy.pi_features_extractor, "value": policy.vf_features_extractor}
    elif (network := q_network(policy)) is not None:
        readers = {"q": network.features_extractor}
    elif isinstance(policy, ARSPolicy):
        readers = {"actor": policy.features_extractor}
    else:
        readers = {"actor": policy.actor.features_extractor, "critic": policy.critic.features_extractor}
    readers = {name: module for name, module in readers.items() if not only_flattens(module)}
    one = len({id(module) for module in readers.values()}) == 1  # for all that read
    if isinstance(policy.observation_space, spaces.Dict):
        readers = {name: OfParts(module, policy.observation_space) for name, module in readers.items()}
    if one:
        return {"encoder": next(iter(readers.values()))}, dict.fromkeys(readers, "encoder")
    # Module attributes may not hold a dot, and neither may an encoder's name then.
    return {f"encoder_{name}": module for name, module in readers.items()}, {n: f"encoder_{n}" for n in readers}


def component_modules(policy: Any) -> dict[str, nn.Module]:
    """The policy's components in their fixed order, each holding exactly its own parameters."""
    modules, _ = encoders(policy)
    modules |= memories(policy)
    space: Any = policy.action_space
    if (network := q_network(policy)) is not None:
        modules["q"] = network.q_net if hasattr(network, "q_net") else network.quantile_net
        return modules
    if isinstance(policy, ARSPolicy):
        clipped = isinstance(space, spaces.Box) and not policy.squash_output
        after = Clip(space) if clipped else nn.Identity()
        modules["actor"] = Actor(policy.action_net, nn.Identity(), after, None)
        return modules
    if isinstance(policy, ON_POLICY):
        trunk, head = policy.mlp_extractor.policy_net, policy.action_net
        if not isinstance(space, spaces.Box):
            modules["actor"] = Actor(trunk, head, nn.Identity(), None)
        else:
            squashed = policy.use_sde and policy.squash_output
            modules["actor"] = Actor(trunk, head, nn.Tanh() if squashed else Clip(space), policy.log_std)
        before = [critic] if isinstance(critic := getattr(policy, "critic", None), nn.Linear) else []
        modules["value"] = nn.Sequential(*before, policy.mlp_extractor.value_net, policy.value_net)
        return modules
    actor = policy.actor
    if hasattr(actor, "latent_pi"):
        modules["actor"] = Actor(actor.latent_pi, actor.mu, nn.Tanh(), actor.log_std)
    else:  # TD3 and DDPG: one network, squashed inside
        modules["actor"] = Actor(nn.Identity(), actor.mu, nn.Identity(), None)
    for index, critic in enumerate(critics(policy)):
        modules[f"critic.{index}"] = critic
    return modules


def critics(policy: Any) -> Sequence[nn.Module]:
    """The Q-networks of an off-policy policy, in order."""
    found: list[nn.Module] = []
    while hasattr(policy.critic, f"qf{len(found)}"):
        found.append(getattr(policy.critic, f"qf{len(found)}"))
    return found


def as_components(modules: Mapping[str, nn.Module]) -> dict[str, Component]:
    """Name them; `act` runs the actor, or q, and the encoder and the memory that it reads."""
    deployed = ("actor", "q", "encoder", "encoder_actor", "memory", "memory_actor")
    return {name: Component(name, module, deployed=name in deployed) for name, module in modules.items()}


def flow(policy: BasePolicy) -> nn.Module:
    """The policy's dataflow over its own layers."""
    _, encoder_of = encoders(policy)
    components = component_modules(policy)
    if "memory" in components:
        return RecurrentFlow(components, encoder_of, bool(policy.shared_lstm)).eval()
    observing = TwoMemoriesFlow if "memory_actor" in components else ObservationFlow
    kind: Any = OffPolicyFlow if judges_actions(policy) else observing
    module: nn.Module = kind(components, encoder_of).eval()
    return module

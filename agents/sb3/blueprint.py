"""What a Stable-Baselines3 algorithm is made from, weights apart; and making it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunectl.agents.choices import Actions
from prunectl.agents.controller import ControllerError
from prunectl.agents.sb3.architecture import policy_arguments
from prunectl.agents.sb3.extractor import known_extractor
from prunectl.agents.sb3.families import ALGORITHMS, NotRebuiltError
from prunectl.agents.sb3.randomness import random_state_kept
from prunectl.agents.supported import check_spaces
from prunectl.registry import one_line

#: Policy arguments that `policy_arguments` reads off the weights.
WIDTHS = ("net_arch", "n_critics", "n_quantiles", "lstm_hidden_size", "n_lstm_layers", "with_bias")

#: Arguments of features extractors that it reads off the weights too.
EXTRACTOR_WIDTHS = ("widths", "channels", "kernels", "features_dim", "cnn_output_dim")


@dataclass(frozen=True)
class Blueprint:
    """Everything but the weights.

    ``settings`` are constructor arguments of the algorithm (gamma, batch size, ...); ``policy_kwargs`` those of its
    policy that say nothing of widths (activation, gSDE, extractor class, ...); ``variables`` tensors that the algorithm
    keeps outside the policy (``log_ent_coef``). ``policy`` is the kind that it has, by the word before its alias's
    ``Policy``: Mlp, Cnn or MultiInput.
    """

    algorithm: str
    observation_space: spaces.Space[Any]
    action_space: Actions
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy_kwargs: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Tensor] = field(default_factory=dict)
    policy: str = "Mlp"

    @property
    def scales_images(self) -> bool:
        """Whether the policy divides the bytes of images by 255."""
        return bool(self.policy_kwargs.get("normalize_images", True))


def constructor_settings(algorithm: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``values``, the plain ones that the algorithm's constructor takes (schedules and classes keep its default)."""
    known = set(inspect.signature(ALGORITHMS[algorithm].__init__).parameters)
    unsaved = {"self", "policy", "env", "policy_kwargs", "device", "verbose", "tensorboard_log", "_init_setup_model"}
    plain = (bool, int, float, str, np.floating, np.integer)
    plainly = {key: value for key, value in values.items() if key in known - unsaved and isinstance(value, plain)}
    kept: dict[str, Any] = {
        key: value.item() if isinstance(value, np.generic) else value for key, value in plainly.items()
    }
    frequency = values.get("train_freq")
    if algorithm in ("dqn", "qrdqn") and isinstance(frequency, tuple):  # rl-zoo's learn 128 times every 256 steps
        kept["train_freq"] = (frequency[0], getattr(frequency[1], "value", frequency[1]))
    return kept


def of_model(algorithm: str, model: BaseAlgorithm, where: str) -> tuple[Blueprint, Mapping[str, Tensor]]:
    """The blueprint of a live algorithm object, and its weights as `build` takes them; messages begin with ``where``.

    Raises:
        ControllerError: its spaces or its features extractor are not among those that are known.
    """
    check_spaces(model.observation_space, model.action_space, where)
    known = known_extractor(model.policy, where)
    fixed = {key: value for key, value in {**model.policy_kwargs, **known.arguments}.items() if key not in WIDTHS}
    given = dict(fixed.get("features_extractor_kwargs") or {})
    if extractor := {key: value for key, value in given.items() if key not in EXTRACTOR_WIDTHS}:
        fixed["features_extractor_kwargs"] = extractor
    else:
        fixed.pop("features_extractor_kwargs", None)
    if algorithm == "ars":
        fixed["squash_output"] = model.policy.squash_output
    log_ent_coef = getattr(model, "log_ent_coef", None)
    variables = {} if log_ent_coef is None else {"log_ent_coef": log_ent_coef.detach().clone()}
    assert isinstance(model.action_space, Actions)
    settings = constructor_settings(algorithm, vars(model))
    policy = policy_kind(model)
    blueprint = Blueprint(algorithm, model.observation_space, model.action_space, settings, fixed, variables, policy)
    return blueprint, known.renamed(model.policy.state_dict())


def policy_kind(model: BaseAlgorithm) -> str:
    """The kind of policy that a live object has (`Blueprint.policy`)."""
    for kind in ("MultiInput", "Cnn"):
        aliased = [alias for name, alias in model.policy_aliases.items() if name.startswith(kind)]
        if any(issubclass(type(model.policy), alias) for alias in aliased):
            return kind
    return "Mlp"


def build(blueprint: Blueprint, state: Mapping[str, Tensor], environments: int = 1) -> BaseAlgorithm:
    """The algorithm object: widths as ``state`` has them, these weights, fresh optimisers, no environment, no replay.

    ``environments`` is how many it will run side by side.

    Raises:
        ControllerError: the blueprint and the weights do not fit.
    """
    kwargs = policy_settings(blueprint.algorithm, blueprint.policy_kwargs, state, blueprint.action_space)
    policy_class = _policy_class(blueprint.algorithm, blueprint.policy)
    model: Any = ALGORITHMS[blueprint.algorithm](policy_class, env=None, _init_setup_model=False, device="cpu")  # type: ignore[call-arg]
    vars(model).update(blueprint.settings)
    model.observation_space, model.action_space = blueprint.observation_space, blueprint.action_space
    model.n_envs = environments
    model.policy_kwargs = kwargs
    # Setting up would seed every generator of the process, which is not ours to do.
    seed, model.seed = model.seed, None
    if getattr(model, "target_entropy", None) == "auto":  # TQC and CrossQ would ask the environment, which is not here
        model.target_entropy = -float(np.prod(blueprint.action_space.shape or ()))
    buffer_size = getattr(model, "buffer_size", None)
    if buffer_size is not None:
        model.buffer_size = 1  # setting up would allocate the replay buffer, which nobody uses before `learn`
        # It would not be made with arguments (`replay_buffer_kwargs`) that the zip holds as a pickle alone.
        model.optimize_memory_usage = False
    try:
        with random_state_kept(), _Bounded(2 * sum(tensor.numel() for tensor in state.values()) + 10_000):
            model._setup_model()
        model.policy.load_state_dict(dict(state))
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise NotRebuiltError(f"the weights and the stated architecture do not fit: {one_line(error)}") from error
    model.seed = seed
    if buffer_size is not None:
        model.buffer_size, model.replay_buffer = buffer_size, None
    if "log_ent_coef" in blueprint.variables and getattr(model, "log_ent_coef", None) is not None:
        with torch.no_grad():
            model.log_ent_coef.copy_(blueprint.variables["log_ent_coef"])
    align(model)
    model.policy.set_training_mode(False)
    _forget_noise(model.policy)
    return model  # type: ignore[no-any-return]


def policy_settings(
    algorithm: str, fixed: Mapping[str, Any], state: Mapping[str, Tensor], actions: spaces.Space[Any]
) -> dict[str, Any]:
    """Keyword arguments of the policy: the widths that the weights tell, and what is fixed besides."""
    return {**fixed, **_merged(fixed, policy_arguments(state, algorithm, actions))}


def align(model: BaseAlgorithm) -> None:
    """ARS learns from a vector of its own beside the policy, which setting up begins at zero."""
    if isinstance(model, sb3_contrib.ARS):
        model.weights = nn.utils.parameters_to_vector(model.policy.parameters()).detach()


class _Bounded(TorchFunctionMode):
    """Ends the making of networks that outgrow the weights which are to fill them, before memory is taken for them.

    A file can name widths that do not meet, of 100,000 units each: the layer between them would take 40 GB.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.empty, torch.zeros, torch.ones):
            sizes = args[0] if args and isinstance(args[0], Sequence) else args
            self.left -= math.prod(size for size in sizes if isinstance(size, int))
            if self.left < 0:
                raise ValueError("the stated layers are larger than the weights")
        return func(*args, **(kwargs or {}))


def _forget_noise(policy: BasePolicy) -> None:
    """Cut the sampled gSDE noise from the graph that made it: tensors with a history cannot be copied."""
    for module in policy.modules():
        distribution = vars(module).get("action_dist")
        for name, value in vars(distribution).items() if distribution is not None else ():
            if isinstance(value, Tensor):
                setattr(distribution, name, value.detach())
            elif isinstance(value, torch.distributions.Distribution):
                setattr(distribution, name, None)


def _policy_class(algorithm: str, kind: str) -> type[BasePolicy]:
    aliases = ALGORITHMS[algorithm].policy_aliases
    found = aliases.get(f"{kind}Policy") or aliases.get(f"{kind}LstmPolicy")
    if found is None:
        raise ControllerError(f"{algorithm} has no {kind}Policy in Stable-Baselines3")
    return found


def _merged(fixed: Mapping[str, Any], widths: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the weights tell, with what else the extractor was given."""
    given, told = fixed.get("features_extractor_kwargs") or {}, widths.get("features_extractor_kwargs", {})
    extractor = {**given, **told}
    if "cnns" in told:
        extractor["cnns"] = {key: {**given.get("cnns", {}).get(key, {}), **cnn} for key, cnn in told["cnns"].items()}
    return {**widths, "features_extractor_kwargs": extractor} if extractor else dict(widths)

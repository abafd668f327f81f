"""A world model and its planner as a folder: a network each as ONNX, settings, a script that plans, and its example."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from prunectl.agents.boundary_layers import flat
from prunectl.agents.controller import Batch, ControllerError, HeldPolicy, Policy
from prunectl.agents.deployment import planner_script as plan
from prunectl.agents.deployment.exported import Exported
from prunectl.agents.deployment.metadata import Interface, read
from prunectl.agents.deployment.onnx_form import onnx_bytes
from prunectl.agents.deployment.onnx_run import read_model
from prunectl.agents.deployment.program import program
from prunectl.agents.deployment.steps import Floats
from prunectl.agents.files import read_bounded
from prunectl.agents.tdmpc.checkpoint import check_planning
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.layers import width
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc2.distributions import Bins
from prunectl.agents.tdmpc2.networks import NUMBERS
from prunectl.registry import one_line

#: What a planner's folder is known by.
SETTINGS = "planning.json"
LARGEST_SETTINGS = 2**20


def planner_files(
    controller: TDMPCController, metadata: Mapping[str, Any], example: Mapping[str, NDArray[Any]]
) -> dict[str, bytes]:
    """The folder's files by name; the example is what `decisions` gives."""
    model = controller.networks.online
    latent = width(model.encoder)
    joint = latent + model.actions
    networks = {
        "encoder": (model.encoder, example["observations"].shape[1]),
        "dynamics": (model.dynamics, joint),
        "reward": (model.reward, joint),
        "policy": (model.actor, latent),
        **{f"value_{index}": (critic, joint) for index, critic in enumerate(model.critics)},
    }
    bins = {name: network[-1] for name, (network, _) in networks.items() if isinstance(network[-1], Bins)}
    files = {
        f"{name}.onnx": onnx_bytes(
            program(flat(network[:-1] if name in bins else network), inputs), {}, "input", "output"
        )
        for name, (network, inputs) in networks.items()
    }
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **example)
    said = {**metadata, "planning": asdict(controller.planning)}
    if controller.planner.model.drawn:
        said["critics"] = len(model.critics)
    if bins:
        said["bins"] = {name: [layer.lowest, layer.highest] for name, layer in bins.items()}
    return {
        **files,
        SETTINGS: json.dumps(said, indent=1).encode(),
        "plan.py": Path(plan.__file__).read_bytes(),
        "example.npz": packed.getvalue(),
    }


def decisions(controller: TDMPCController, observations: Batch) -> dict[str, NDArray[Any]]:
    """What the controller's planner decides, each row afresh with random numbers of its own, and those numbers."""
    generators = [torch.Generator().manual_seed(row) for row in range(len(observations))]
    noise = controller.planner.draw(generators)
    start = torch.zeros(controller.planning.horizon, len(observations), controller.planner.actions)
    seen = torch.as_tensor(observations, dtype=torch.float32)
    found = controller.planner(seen, start, noise)
    drawn = {"critics": noise.critics.transpose(0, 1).numpy()} if controller.planner.model.drawn else {}
    return {
        **drawn,
        "observations": seen.numpy(),
        "samples": noise.samples.permute(2, 0, 1, 3, 4).numpy(),
        "last": noise.last.transpose(0, 1).numpy(),
        "policy": noise.policy.transpose(0, 1).numpy(),
        "choice": torch.special.ndtr(noise.choice).numpy(),
        "decisions": found.action.numpy(),
    }


class PlannerController(Exported):
    """Plans as the folder's script does."""

    def __init__(self, folder: Path, interface: Interface) -> None:
        super().__init__(interface, str(folder))
        self.planner = plan.Planner(folder)

    def decide(self, observations: Floats, beside: Floats) -> tuple[NDArray[Any], Floats]:
        """A fresh plan for each row, all with the same random numbers."""
        return np.stack([self._fresh(observation) for observation in observations]), beside

    def policy(self, seeds: Sequence[int]) -> Policy:
        return HeldPolicy(_Episodes(self.planner, seeds), self.held_steps, len(seeds))

    def _fresh(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        self.planner.reset(0)
        return np.asarray(self.planner.act(observation))


class _Episodes:
    """One planner for a batch of episodes, each with its own generator and warm start."""

    def __init__(self, planner: plan.Planner, seeds: Sequence[int]) -> None:
        self.planner = planner
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self.means = [np.zeros((planner.settings.horizon, planner.actions), np.float32) for _ in seeds]

    def __call__(self, observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        return np.stack([self._act(row, episode) for row, episode in zip(observations, episodes.tolist(), strict=True)])

    def _act(self, observation: Batch, episode: int) -> Any:
        planner = self.planner
        planner.generator, planner.mean, planner.steps = self.generators[episode], self.means[episode], 0
        action = planner.act(observation)
        self.means[episode] = planner.mean
        return action


def load_planner(folder: Path) -> tuple[PlannerController, dict[str, Any]]:
    """The controller in a folder, planned by our own copy of the script, and what the folder says of itself.

    Raises:
        ControllerError: a file is missing, damaged, or not one that `prunectl export` writes.
    """
    interface, data = read(read_bounded(folder / SETTINGS, LARGEST_SETTINGS).decode(errors="replace"), str(folder))
    if isinstance(interface.action_space, spaces.Discrete):
        raise ControllerError(f"{folder}: a planner's actions are real numbers, and it says that they are an index")
    try:
        planning = Planning(**data["planning"])
    except (KeyError, TypeError) as error:
        raise ControllerError(f"{folder}: its planner's settings cannot be read ({one_line(error)})") from error
    check_planning(planning, interface.action_space.shape[0], str(folder))
    if data.get("critics", 2) not in NUMBERS:
        raise ControllerError(
            f"{folder}: {str(data.get('critics'))[:20]} critics: {NUMBERS[0]} to {NUMBERS[-1]} can be"
        )
    for name in plan.networks(data):
        read_model(folder / f"{name}.onnx")
    try:
        controller = PlannerController(folder, interface)
        actions = controller.act(np.zeros((1, interface.observations), np.float32))
    except Exception as error:  # networks that do not fit each other fail wherever they meet
        raise ControllerError(f"{folder}: it cannot plan ({one_line(error)})") from error
    if actions.shape != (1, *interface.action_space.shape):
        raise ControllerError(f"{folder}: its actions have shape {actions.shape[1:]}, and it says otherwise")
    return controller, data

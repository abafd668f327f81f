"""Fixtures that many tests share: small controllers on disk, and the pretrained ones beside the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
from distributed.utils import get_mp_context
from gymnasium import spaces

from prunectl import envs, plugins, registry
from prunectl.agents.controller import ControllerError
from prunectl.agents.deployment.image import require
from prunectl.agents.deployment.targets import TARGETS
from prunectl.agents.extractors import MlpExtractor
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.families import ALGORITHMS
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.networks import build, with_targets
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc2 import networks as tdmpc2
from prunectl.experiments.drawing.style import LOOK
from prunectl.experiments.sweeping.workers import set_up_dask

ROOT = Path(__file__).parent.parent
#: matplotlib's number of the fonts in users' PDFs.
FONTS = LOOK["pdf.fonttype"]

#: ``(algorithm, task, name="tiny", widths=(16, 16), encoder=(), seed=0, **settings) -> path`` of a saved controller.
SaveTiny = Callable[..., Path]


def missing(target: str) -> str:
    """Why no image for a target can be made and run here; empty where it can."""
    try:
        require(TARGETS[target])
    except ControllerError as error:
        return str(error)
    return ""


needs_arm, needs_risc_v = (
    pytest.mark.skipif(bool(missing(target)), reason=missing(target)) for target in ("cortex-m4", "esp32-c3")
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _workers_are_forked() -> None:
    """Local workers of this process come from one that has imported what they need, once; users' are started afresh,
    which takes seconds each time, and so are those of the tests that start `prunectl` itself."""
    set_up_dask()
    dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    get_mp_context().set_forkserver_preload(["distributed", "stable_baselines3", "prunectl.experiments.sweeping.cell"])


@pytest.fixture(scope="session", autouse=True)
def _fonts_are_outlines() -> None:
    """A figure's PDF takes a third of a second less; `test_style` asks for the fonts that users' have."""
    LOOK["pdf.fonttype"] = 3


@pytest.fixture(autouse=True)
def _plugins_are_forgotten() -> Iterator[None]:
    """What a test names stays in that test."""
    # All tables are there once `plugins` is imported.
    before = {kind: (dict(table._entries), dict(table._plugins)) for kind, table in plugins.REGISTRIES.items()}
    registry.discover.cache_clear()
    yield
    for kind, table in plugins.REGISTRIES.items():
        table._entries, table._plugins = before[kind]


@pytest.fixture(scope="session")
def zoo() -> Path:
    """The pretrained controllers that this project did not train."""
    folder = ROOT.parent / "shared" / "zoo"
    if not folder.is_dir():
        pytest.skip("the pretrained controllers are not beside the project (../shared/zoo)")
    return folder


@pytest.fixture
def save_tiny(tmp_path: Path) -> SaveTiny:
    """Save an untrained controller of a few units and give its path."""

    def save(algorithm: str, task: str, name: str = "tiny", **architecture: Any) -> Path:
        path = tmp_path / f"{name}.zip"
        untrained(algorithm, task, **architecture).save(path, {"task": task, "training_seed": 7})
        return path

    return save


@pytest.fixture(scope="session")
def balancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved PPO controller of 12-12 units that balances CartPole-v1 for all 500 steps."""
    controller = untrained("ppo", "CartPole-v1", widths=(12, 12), seed=3)
    actor = controller.components["actor"].module
    first, second, logits = (module for module in actor.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        # Each unit sees position, speed, angle and turning speed in nearly the proportion that balances; every second
        # one weighs little, so that a third of the units can go.
        gains = torch.tensor([0.05, 0.15, 1.0, 0.5])
        strength = torch.where(torch.arange(12) % 2 == 0, 1.0, 0.1)
        first.weight.copy_(strength[:, None] * gains + 0.01 * torch.randn(12, 4))
        second.weight.copy_(0.3 * strength[:, None] * torch.ones(12) + 0.01 * torch.randn(12, 12))
        logits.weight.copy_(torch.stack([-strength, strength]))
        for layer in (first, second, logits):
            layer.bias.zero_()
    path = tmp_path_factory.mktemp("controllers") / "balancer.zip"
    controller.save(path, {"task": "CartPole-v1", "training_seed": 3})
    return path


def untrained(
    algorithm: str,
    task: str,
    widths: tuple[int, ...] = (16, 16),
    encoder: tuple[int, ...] = (),
    seed: int = 0,
    **settings: Any,
) -> SB3Controller:
    """A controller with random weights, made through Stable-Baselines3's own constructor."""
    policy_kwargs: dict[str, Any] = {"net_arch": list(widths)}
    if encoder:
        policy_kwargs |= {
            "features_extractor_class": MlpExtractor,
            "features_extractor_kwargs": {"widths": list(encoder)},
        }
        if algorithm not in ("dqn", "qrdqn"):  # whose one network has none to share
            policy_kwargs["share_features_extractor"] = True
    policy_kwargs |= settings.pop("policy_kwargs", {})
    family: Any = ALGORITHMS[algorithm]
    policy = "MlpPolicy" if "MlpPolicy" in family.policy_aliases else "MlpLstmPolicy"
    model = family(policy, envs.make(task), seed=seed, policy_kwargs=policy_kwargs, device="cpu", **settings)
    return SB3Controller.of(algorithm, model)


def untrained_planner(seed: int = 0) -> TDMPCController:
    """A TD-MPC controller for Pendulum with random weights: latent 6, and components of several widths."""
    torch.manual_seed(seed)
    networks = build(3, 1, latent=6, encoder=8, hidden=12)
    online = networks.online
    online.reward = build(3, 1, latent=6, encoder=8, hidden=9).online.reward
    for network in (online.reward, online.critic_0, online.critic_1):
        last = network[-1]
        assert isinstance(last, torch.nn.Linear)
        torch.nn.init.normal_(last.weight)
    return TDMPCController(
        networks=with_targets(online),
        planning=Planning(num_samples=16, num_elites=4, iterations=2),
        action_repeat=2,
        reward_scale=0.1,
        observation_space=spaces.Box(-np.inf, np.inf, (3,)),
        action_space=spaces.Box(-2.0, 2.0, (1,)),
    )


def untrained_planner2(seed: int = 0, simplices: int = 2, hidden: int = 12) -> TDMPCController:
    """A TD-MPC2 controller for Pendulum with random weights; its rewards and values differ."""
    torch.manual_seed(seed)
    networks = tdmpc2.build(3, 1, latent=8 * simplices, encoder=8, hidden=hidden)
    for network in networks.online.children():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.normal_(layer.weight, std=0.5)
    return TDMPCController(
        networks=with_targets(networks.online),
        planning=Planning(num_samples=16, num_elites=4, iterations=2, mixture_coef=0.13, momentum=0.0),
        action_repeat=2,
        reward_scale=0.1,
        observation_space=spaces.Box(-np.inf, np.inf, (3,)),
        action_space=spaces.Box(-2.0, 2.0, (1,)),
    )

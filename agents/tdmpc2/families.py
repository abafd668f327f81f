"""TD-MPC and its relatives by name: how each is built, planned and learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prunectl.agents.tdmpc import networks
from prunectl.agents.tdmpc.learner import Learner, Learning
from prunectl.agents.tdmpc.model import TDMPCNetworks
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc2 import networks as networks2
from prunectl.agents.tdmpc2.authors import planned
from prunectl.agents.tdmpc2.learner import Learner2, Learning2


@dataclass(frozen=True)
class Family:
    """What is particular to one of them.

    Attributes:
        build: observations, actions and the widths of latent, encoder and hidden layers to fresh networks.
        learner: networks, planning, learning and a seed to what learns.
        planning, learning: settings by default.
    """

    build: Callable[[int, int, int, int, int], TDMPCNetworks]
    learner: Callable[[TDMPCNetworks, Planning, Any, int], Learner]
    planning: Planning
    learning: Learning


FAMILIES: Mapping[str, Family] = {
    "tdmpc": Family(networks.build, Learner, Planning(), Learning()),
    "tdmpc2": Family(networks2.build, Learner2, planned({}, 1), Learning2()),
}

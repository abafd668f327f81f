"""Environments that never return, in a sweep on this machine's workers; and who may talk to these."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from prunectl.experiments.api.sweeps import sweep
from prunectl.experiments.sweeping import deadline
from prunectl.experiments.sweeping.workers import local_workers

#: Hangs at its hundredth step of an episode, which only a controller that balances comes to: in Python, where it can be
#: broken off, or inside of a single call.
HANGING = """
import time
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
from prunectl.experiments.sweeping import deadline

deadline.PAUSE, deadline.ATTEMPTS = 0.5, 2


class Hanging(CartPoleEnv):
    def __init__(self, inside=False, **settings):
        super().__init__(**settings)
        self.inside, self.count = inside, 0

    def reset(self, **options):
        self.count = 0
        return super().reset(**options)

    def step(self, action):
        self.count += 1
        if self.count == 100:
            while True:
                time.sleep(10**6 if self.inside else 0.01)
        return super().step(action)


gym.register("Hanging-v0", Hanging, max_episode_steps=500)
gym.register("HangingInside-v0", Hanging, max_episode_steps=500, kwargs={"inside": True})
"""


@pytest.mark.slow
def test_cells_whose_environment_hangs_fail_and_the_sweep_goes_on(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hanging.py").write_text(HANGING)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("PAUSE", "ATTEMPTS"):
        monkeypatch.setattr(deadline, name, getattr(deadline, name))  # the module sets them in this process too
    config = {
        "controllers": [
            {"controller": str(balancer), "name": task, "task": task}
            for task in ("hanging:Hanging-v0", "hanging:HangingInside-v0", "CartPole-v1")
        ],
        "methods": {"grouping": "component", "importance": "magnitude", "recovery": "none"},
        "sparsities": [0.5],
        "episodes": 2,
        "timeout": 15,
    }
    started = time.monotonic()
    table = sweep(config, tmp_path / "out", workers=2, allow_plugins=True).set_index("controller")
    assert time.monotonic() - started < 300
    assert table.loc["CartPole-v1", "status"].tolist() == ["done", "done"]
    for name, why in (("hanging:Hanging-v0", "took longer than the 15 s"), ("hanging:HangingInside-v0", "stuck")):
        dense = table.loc[name].iloc[0]
        assert (dense["sparsity_asked"], dense["status"]) == (0, "failed")
        assert why in dense["error"]


def listening(pid: int) -> set[str]:
    """The addresses that a process and all its children listen on, as the kernel has them: in hexadecimal."""
    inodes: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes[f"socket:[{fields[9]}]"] = fields[1].split(":")[0]
    opened = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    found = {inodes[one] for one in opened & inodes.keys()}
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return found.union(*map(listening, children))


@pytest.mark.slow
def test_the_workers_of_this_machine_and_their_dashboard_listen_on_loopback_alone() -> None:
    with local_workers(2) as client:
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        assert listening(os.getpid()) == {"0100007F"}

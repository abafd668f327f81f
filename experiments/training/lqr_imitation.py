"""A neural controller whose truth is known.

    python -m prunectl.experiments.training.lqr_imitation TASK --seed N -o FOLDER

The actor of a Stable-Baselines3 PPO policy (64-64, tanh) is fitted to the linear-quadratic regulator of a linear task
(`envs.linear`), its value network to the regulator's cost-to-go. What comes out is an ordinary checkpoint: inside the
region where it was fitted, its closed loop should be that of A - B K.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from stable_baselines3 import PPO
from torch import nn

from prunectl import envs
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.envs.linear import SYSTEMS
from prunectl.experiments.provenance import versions

BATCH = 512
RATE = 3e-3
#: States are drawn uniformly from the box of the episodes' ends times a size log-uniform from this one to 1: the closer
#: to the goal, the smaller an error must be.
SMALLEST = 1e-2
#: Actions are clipped to [-1, 1]; what the actor says beyond this is nobody's business.
BEYOND = 1.5
CURVE = 100
#: An episode cannot lose more than its steps.
MOST = 200.0


def imitate(task: str, steps: int, seed: int) -> tuple[SB3Controller, pd.DataFrame]:
    """The controller, and its mean squared errors of action and value on its batches every `CURVE` steps."""
    system = SYSTEMS[task]
    gain, cost = (torch.as_tensor(matrix, dtype=torch.float32) for matrix in system.lqr())
    torch.manual_seed(seed)
    model = PPO("MlpPolicy", envs.make(task), seed=seed, device="cpu")
    policy = model.policy
    optimiser = torch.optim.Adam(policy.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    generator = np.random.default_rng([seed, 0x109])
    limit = np.asarray(system.limit)
    rows = []
    for step in range(1, steps + 1):
        sizes = np.exp(generator.uniform(math.log(SMALLEST), 0.0, (BATCH, 1)))
        drawn = sizes * generator.uniform(-limit, limit, (BATCH, len(limit)))
        size, states = (torch.as_tensor(array, dtype=torch.float32) for array in (sizes, drawn))
        law = (-states @ gain.T).clamp(-BEYOND, BEYOND)
        to_go = -((states @ cost) * states).sum(1, keepdim=True).clamp(max=MOST)
        pi, vf = policy.mlp_extractor(states)
        wrong = (policy.action_net(pi) - law) / size
        off = policy.value_net(vf) - to_go
        loss = wrong.square().mean() + nn.functional.smooth_l1_loss(off, torch.zeros_like(off))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % CURVE == 0:
            errors = {"action": (wrong * size).square().mean().item(), "value": off.square().mean().item()}
            rows.append({"step": step, **errors})
    return SB3Controller.of("ppo", model), pd.DataFrame(rows)


def main() -> None:
    """Fit, and write ``controller.zip``, ``curve.csv`` and ``training.json`` as `prunectl train` does."""
    parser = argparse.ArgumentParser(prog="python -m prunectl.experiments.training.lqr_imitation")
    parser.add_argument("task", choices=SYSTEMS)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True)  # refuses a folder that is there
    started = time.perf_counter()
    controller, curve = imitate(given.task, given.steps, given.seed)
    controller.save(given.out / "controller.zip", {"task": given.task, "training_seed": given.seed})
    curve.to_csv(given.out / "curve.csv", index=False)
    record = {
        "algorithm": "ppo",
        "task": given.task,
        "seed": given.seed,
        "steps": given.steps,
        "command": f"{parser.prog} {given.task} --steps {given.steps} --seed {given.seed} -o {given.out}",
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
    }
    (given.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

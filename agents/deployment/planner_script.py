"""Plans with a world model that `prunectl export --planner` wrote; NumPy and ONNX Runtime are all that it needs.

Model predictive path integral control in latent space, as TD-MPC and TD-MPC2 do it (Hansen et al. 2022, 2024). In your
loop:

    planner = Planner("the folder")
    planner.reset(seed=0)                       # once an episode
    action = planner.act(observation)           # every environment step

`python plan.py` checks itself on the decisions in example.npz beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

#: Standard deviation that every iteration starts from or is capped at, and where TD-MPC cuts its policy's noise off.
MAX_STD, NOISE_CLIP = 2.0, 0.3
#: TD-MPC2: between what its policy's logarithm of the deviation lies, and, where a folder does not say, the symmetric
#: logarithms of its bins.
LOG_STD, BINS = (-10.0, 2.0), (-10.0, 10.0)


def networks(said: dict[str, Any]) -> list[str]:
    """The names of a folder's networks, from what it says of itself."""
    return ["encoder", "dynamics", "reward", "policy", *(f"value_{index}" for index in range(said.get("critics", 2)))]


class Planner:
    """The networks of one folder, and the state of one episode.

    Shapes: horizon H, iterations J, samples N, policy sequences P, elites k, actions A.
    """

    def __init__(self, folder: str | Path) -> None:
        said = json.loads(Path(folder, "planning.json").read_text())
        self.settings = settings = SimpleNamespace(**said["planning"])
        self.held_steps = said["held_steps"]
        self.low, self.high = (np.array(said["actions"][side], np.float32) for side in ("low", "high"))
        self.actions = len(self.low)
        self.policy_samples = int(settings.mixture_coef * settings.num_samples)
        self.discounts = np.float32(settings.discount) ** np.arange(settings.horizon + 1, dtype=np.float32)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        found = (_function(Path(folder, f"{name}.onnx"), options) for name in networks(said))
        self.encoder, self.dynamics, self.reward, self.policy, *self.values = found
        self.distributional = said["algorithm"] == "tdmpc2"
        bins = [tuple(said.get("bins", {}).get(name, BINS)) for name in networks(said)]
        self.reward_bins, self.value_bins = bins[2], bins[4:]
        self.reset(0)

    def reset(self, seed: int) -> None:
        """A new episode."""
        self.generator = np.random.default_rng(seed)
        self.mean: Any = np.zeros((self.settings.horizon, self.actions), np.float32)
        self.steps = 0

    def act(self, observation: Any) -> Any:
        """The action in the task's units, ``(A,)``; a decision is held for ``held_steps`` steps."""
        if self.steps % self.held_steps == 0:
            decision, self.mean = self.decide(observation, self.mean, self.draw())
            self.held = self.low + np.float32(0.5) * (decision + 1) * (self.high - self.low)
        self.steps += 1
        return self.held

    def draw(self) -> dict[str, Any]:
        """The random numbers of one decision: standard normal ones, and ``choice`` from [0, 1)."""
        j, h, a = self.settings.iterations, self.settings.horizon, self.actions
        sizes = {
            "samples": (j, h, self.settings.num_samples, a),
            "last": (j, self.settings.num_samples, a),
            "policy": (h + 1, self.policy_samples, a),
        }
        if self.distributional:
            sizes["critics"] = (j + 1, len(self.values))
        noise = {name: self.generator.standard_normal(size, np.float32) for name, size in sizes.items()}
        return {**noise, "choice": self.generator.random()}

    def decide(self, observation: Any, mean: Any, noise: dict[str, Any]) -> tuple[Any, Any]:
        """A decision ``(A,)`` in [-1, 1], and where the next one's search starts, ``(H, A)``.

        Each iteration samples N sequences around the mean, values them in the model together with the policy's own,
        and moves to the mean of the k best, weighted by exp(temperature (value - best value)).
        """
        latent = self.encoder(np.float32(observation).reshape(1, -1))
        critics = noise.get("critics", [None] * (self.settings.iterations + 1))
        prior, prior_value = self._follow_policy(latent, noise["policy"], critics[0])
        std = np.full_like(mean, MAX_STD)
        for samples, last, drawn in zip(noise["samples"], noise["last"], critics[1:], strict=True):
            sampled = np.clip(mean[:, None] + std[:, None] * samples, -1, 1)
            value = self._evaluate(latent, sampled, last, drawn)
            sequences, values = np.concatenate([sampled, prior], 1), np.concatenate([value, prior_value])
            best = np.argsort(-values, kind="stable")[: self.settings.num_elites]
            weights = np.exp(np.float32(self.settings.temperature) * (values[best] - values[best[0]]))
            weights /= weights.sum()
            elites = sequences[:, best]
            new_mean = np.einsum("k,hka->ha", weights, elites)
            spread = np.sqrt(np.einsum("k,hka->ha", weights, (elites - new_mean[:, None]) ** 2))
            mean = np.float32(self.settings.momentum) * mean + np.float32(1 - self.settings.momentum) * new_mean
            std = np.clip(spread, np.float32(self.settings.min_std), np.float32(MAX_STD))
        chosen = min(int(np.sum(np.cumsum(weights) < noise["choice"])), len(best) - 1)
        return elites[0, chosen], np.concatenate([mean[1:], np.zeros_like(mean[:1])])

    def _follow_policy(self, latent: Any, noise: Any, drawn: Any) -> tuple[Any, Any]:
        """The policy's own sequences ``(H, P, A)`` and their values ``(P,)``."""
        latent = np.repeat(latent, noise.shape[1], 0)
        value, taken = np.zeros(len(latent), np.float32), []
        for step in range(self.settings.horizon):
            action = self._policy(latent, noise[step])
            joint = np.concatenate([latent, action], 1)
            value += self.discounts[step] * self._number(self.reward(joint), self.reward_bins)
            latent = self.dynamics(joint)
            taken.append(action)
        return np.stack(taken), value + self.discounts[-1] * self._value(latent, noise[-1], drawn)

    def _evaluate(self, latent: Any, actions: Any, noise: Any, drawn: Any) -> Any:
        """Value of sequences ``(H, N, A)``: discounted rewards, then Q of what the policy would do."""
        latent, value = np.repeat(latent, actions.shape[1], 0), np.zeros(actions.shape[1], np.float32)
        for step in range(self.settings.horizon):
            joint = np.concatenate([latent, actions[step]], 1)
            value += self.discounts[step] * self._number(self.reward(joint), self.reward_bins)
            latent = self.dynamics(joint)
        return value + self.discounts[-1] * self._value(latent, noise, drawn)

    def _value(self, latent: Any, noise: Any, drawn: Any) -> Any:
        """The smaller Q; of distributional ones the mean of two, those of the two highest numbers ``drawn``."""
        joint = np.concatenate([latent, self._policy(latent, noise)], 1)
        if not self.distributional:
            return np.minimum(*(value(joint) for value in self.values))[:, 0]
        chosen = np.argsort(-drawn)[:2]
        first, second = (self._number(self.values[index](joint), self.value_bins[index]) for index in chosen)
        return (first + second) / 2

    def _number(self, output: Any, bins: tuple[float, float]) -> Any:
        """What a network says, ``(n, 1)``, or the number that its logits of bins ``(n, bins)`` stand for: ``(n,)``."""
        if not self.distributional:
            return output[:, 0]
        shares = np.exp(output - output.max(1, keepdims=True))
        mean = shares @ np.linspace(*bins, output.shape[1], dtype=np.float32) / shares.sum(1)
        return np.sign(mean) * np.expm1(np.abs(mean))

    def _policy(self, latent: Any, noise: Any) -> Any:
        if self.distributional:
            mean, raw = np.split(self.policy(latent), 2, axis=1)
            low, high = LOG_STD
            return np.tanh(mean + np.exp(low + (high - low) / 2 * (np.tanh(raw) + 1)) * noise)
        spread = np.clip(np.float32(self.settings.min_std) * noise, -NOISE_CLIP, NOISE_CLIP)
        return np.clip(self.policy(latent) + spread, -1, 1)


def _function(path: Path, options: Any) -> Any:
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})[0]


def differences(planner: Planner, example: Any) -> Any:
    """How far each decision lies from the expected one. Where rounding decides between two elites, it may be far."""
    found = []
    for row, observation in enumerate(example["observations"]):
        names = ("samples", "last", "policy", "choice", *(["critics"] if planner.distributional else []))
        noise = {name: example[name][row] for name in names}
        found.append(planner.decide(observation, np.zeros_like(planner.mean), noise)[0])
    return np.abs(np.stack(found) - example["decisions"]).max(1)


if __name__ == "__main__":
    here = Path(__file__).parent
    apart = differences(Planner(here), np.load(here / "example.npz"))
    print(f"{np.sum(apart <= 1e-4)} of {len(apart)} decisions within 1e-4 of the expected ones")
    sys.exit(bool(np.mean(apart <= 1e-4) < 0.5))

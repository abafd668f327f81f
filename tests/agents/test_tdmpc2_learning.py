"""How TD-MPC2 learns: its targets and losses by hand, what each optimiser moves, and a training with its resumption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.checkpoint import load_checkpoint
from prunectl.agents.tdmpc.model import Parts, TDMPCNetworks
from prunectl.agents.tdmpc.replay import Replay, Sequences
from prunectl.agents.tdmpc2.authors import planned
from prunectl.agents.tdmpc2.distributions import Bins
from prunectl.agents.tdmpc2.learner import Learner2, Learning2
from prunectl.agents.tdmpc2.networks import DistributionalModel, build
from prunectl.experiments.training.sb3 import Training
from prunectl.experiments.training.tdmpc import train

#: Bins of 21 lie 1 apart in symlog, from -10 to 10.
BINS = 21


def constant(values: Tensor, inputs: int) -> nn.Sequential:
    """A network that always gives these values."""
    layer = nn.Linear(inputs, len(values))
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(values)
    return nn.Sequential(layer)


def sure(bin_: int) -> Tensor:
    """Logits of one bin alone."""
    return torch.full((BINS,), -50.0).index_fill(0, torch.tensor([bin_]), 50.0)


def judge(bin_: int) -> nn.Sequential:
    """Of a latent and an action of one number each: sure of a bin."""
    return constant(sure(bin_), 2).append(Bins())


def linear(weights: list[float]) -> nn.Sequential:
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight = nn.Parameter(torch.tensor([weights]))
    return nn.Sequential(layer)


def by_hand(bins: tuple[int, int] = (11, 12)) -> TDMPCNetworks:
    """h(s) = s, d(z, a) = z + a, R = 0 for sure, two critics and their slow copies sure of their bins, pi = tanh 0."""
    critics = {f"critic_{index}": judge(10 + index) for index in range(2)}
    online = DistributionalModel(
        encoder=linear([1.0]),
        dynamics=linear([1.0, 1.0]),
        reward=judge(10),
        actor=constant(torch.tensor([0.0, -9.0]), 1),
        **critics,
    )
    target = Parts(**{f"critic_{index}": judge(bin_) for index, bin_ in enumerate(bins)})
    return TDMPCNetworks(online, target.requires_grad_(False))


def batch(valid: float = 1.0) -> Sequences:
    """One sequence of two decisions: s = 1, a = 0.5, r = 1, s = 0.4, a = -1, r = 0, s = 0.2, which terminates."""
    return Sequences(
        observations=torch.tensor([1.0, 0.4, 0.2]).view(3, 1, 1),
        actions=torch.tensor([0.5, -1.0]).view(2, 1, 1),
        rewards=torch.tensor([[1.0], [0.0]]),
        terminated=torch.tensor([[0.0], [1.0]]),
        valid=torch.tensor([[1.0], [valid]]),
        indices=torch.tensor([0]),
        weights=torch.ones(1),
    )


def hand_learner(**changes: float) -> Learner2:
    settings = replace(Learning2(consistency_coef=2.0, reward_coef=0.5, value_coef=0.25), **changes)  # type: ignore[arg-type]
    return Learner2(by_hand(), replace(planned({}, 1), discount=0.9), settings, seed=0)


def test_targets_take_the_smaller_slow_value() -> None:
    # Bins 11 and 12 stand for e - 1 and e^2 - 1; the second decision terminated: its reward alone.
    found = hand_learner().targets(batch(), torch.zeros(2, 1, 1))
    torch.testing.assert_close(found, torch.tensor([[1.0 + 0.9 * (np.e - 1.0)], [0.0]], dtype=torch.float32))


def test_model_losses_by_hand() -> None:
    targets = torch.tensor([[np.e - 1.0], [0.0]], dtype=torch.float32)  # bins 11 and 10
    losses = hand_learner().model_losses(batch(), targets)
    # Latents: 1, 1.5, 0.5; the encoder says 0.4 and 0.2.
    assert losses.consistency.item() == pytest.approx(1.1**2 + 0.5 * 0.3**2)
    # Two bins differ by 100 in their logits. r = 1 has the symlog log 2: that share lies in bin 11, not 10.
    assert losses.reward.item() == pytest.approx(100.0 * np.log(2.0), rel=1e-4)
    # Critic 0 is sure of bin 10, wrong at first; critic 1 of bin 11, wrong at last, half as dear: a mean of both.
    assert losses.value.item() == pytest.approx((100.0 + 0.5 * 100.0) / 2, rel=1e-4)
    total = 2.0 * losses.consistency + 0.5 * losses.reward + 0.25 * losses.value
    torch.testing.assert_close(losses.total, total)
    cut = hand_learner().model_losses(batch(valid=0.0), targets)
    assert cut.consistency.item() == pytest.approx(1.1**2)
    assert cut.value.item() == pytest.approx(50.0, rel=1e-4)


def test_policy_loss_by_hand() -> None:
    learner = hand_learner(entropy_coef=0.0)
    latents, nothing = torch.tensor([1.0, 1.5, 0.5]).view(3, 1, 1), torch.zeros(3, 1, 1)
    # Both critics are asked, always: 0 and e - 1. One latent a step has no spread: the scale stays 1.
    loss = learner.policy_loss(latents, torch.ones(2, 1), nothing)
    assert loss.item() == pytest.approx(-(np.e - 1.0) / 2 * (1.0 + 0.5 + 0.25) / 3, rel=1e-5)
    assert learner.scale.item() == 1.0
    cut = learner.policy_loss(latents, torch.tensor([[1.0], [0.0]]), nothing)
    assert cut.item() == pytest.approx(-(np.e - 1.0) / 2 * 1.5 / 3, rel=1e-5)
    # At tanh 0 with log deviation near -10 the density is e^10 / sqrt(2 pi): entropy costs what its log says.
    deviation = float(-10.0 + 6.0 * (np.tanh(-9.0) + 1.0))
    dear = hand_learner(entropy_coef=0.1).policy_loss(latents[:2], torch.ones(1, 1), nothing[:2])
    gained = (np.e - 1.0) / 2 - 0.1 * (-deviation - 0.5 * np.log(2 * np.pi))
    assert dear.item() == pytest.approx(-gained * 1.5 / 2, rel=1e-4)


def small_learner() -> tuple[Learner2, Replay]:
    torch.manual_seed(0)
    replay, generator = Replay(200, 3, 1), np.random.default_rng(0)
    for step in range(100):
        seen, action = generator.normal(size=3), generator.uniform(-1.0, 1.0, 1)
        replay.add(seen, action, float(seen[0]), 0.5 * seen + action, False, step)
    settings = Learning2(batch_size=32, lr=3e-3)
    return Learner2(build(3, 1, 8, 8, 12), planned({}, 1), settings, seed=0), replay


def test_learning_lowers_the_losses_and_slow_critics_follow() -> None:
    learner, replay = small_learner()
    generator = np.random.default_rng(0)
    before = [tensor.clone() for tensor in learner.networks.target.state_dict().values()]
    history = [learner.update(replay.sample(32, 3, generator, 0.0, 0.0))[0] for _ in range(30)]
    early, late = (np.mean([losses["reward"] for losses in part]) for part in (history[:5], history[-5:]))
    assert late < 0.8 * early
    after = learner.networks.target.state_dict().values()
    assert any((one != other).any() for one, other in zip(before, after, strict=True))


def test_the_policy_learns_by_its_own_loss_alone() -> None:
    learner, _ = small_learner()
    model, policy = ({id(p) for group in o.param_groups for p in group["params"]} for o in learner.optimisers())
    online = learner.networks.online
    assert policy == {id(parameter) for parameter in online.actor.parameters()}
    assert model == {id(parameter) for parameter in online.parameters()} - policy
    rates = {group["lr"] for group in learner.optimisers()[0].param_groups}
    assert rates == {3e-3, 0.3 * 3e-3}


SMALL = {
    "batch_size": 16, "latent_dim": 8, "enc_dim": 8, "mlp_dim": 12, "num_samples": 16, "num_elites": 4,
    "iterations": 2, "action_repeat": 10, "seed_decisions": 20,
}  # fmt: skip


def run(out: Path, **changes: Any) -> Path:
    return train(Training("tdmpc2", "Pendulum-v1", 600, 3, SMALL | changes), out, "", evaluations=2)


@pytest.mark.slow
def test_trains_and_goes_on_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = run(tmp_path / "straight")
    update, updates = Learner2.update, []

    def stop(learner: Learner2, given: Sequences) -> Any:
        updates.append(given)
        if len(updates) > 40:
            raise KeyboardInterrupt
        return update(learner, given)

    with monkeypatch.context() as patch:
        patch.setattr(Learner2, "update", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    ours, theirs = (load_checkpoint(path).networks.state_dict() for path in (run(tmp_path / "stopped"), straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert load_checkpoint(straight).algorithm == "tdmpc2"


def test_settings_that_it_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ControllerError, match="tdmpc2 has no hyperparameter learning_rate; it has action_repeat,"):
        run(tmp_path / "odd", learning_rate=1.0)
    with pytest.raises(ControllerError, match="latent_dim 20"):
        run(tmp_path / "narrow", latent_dim=20)

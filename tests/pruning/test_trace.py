"""What the graph finds, against groups and counts worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import untrained
from kinds import Fake
from torch import nn

from prunectl.pruning import PruningError, apply, reconstruct, trace
from prunectl.pruning.graph import Segment
from prunectl.pruning.plan import describe


def test_an_actor_critic_falls_into_its_layers() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(8, 6)))
    assert list(graph.groups) == [f"{name}/{i}" for name in ("actor", "critic.0", "critic.1") for i in (0, 1)]
    assert graph.dense == {
        "actor/0": 8, "actor/1": 6, "critic.0/0": 8, "critic.0/1": 6, "critic.1/0": 8, "critic.1/1": 6,
    }  # fmt: skip
    assert graph.flows == ()
    # actor: 3 -> 8 -> 6 -> mean 1 and log_std 1; critic: 3 + 1 -> 8 -> 6 -> 1
    assert graph.parameters(graph.dense, "actor") == (3 * 8 + 8) + (8 * 6 + 6) + 2 * (6 + 1)
    assert graph.parameters(graph.dense, "critic.0") == (4 * 8 + 8) + (8 * 6 + 6) + (6 + 1)
    # A unit of the first layer takes its 3 weights in, its bias, and 6 weights out.
    assert graph.params_per_unit("actor/0") == 3 + 1 + 6
    # One of the second takes 8 in, a bias, and a weight to each head.
    assert graph.params_per_unit("actor/1") == 8 + 1 + 2
    assert graph.deployed_parameters(graph.dense) == graph.parameters(graph.dense, "actor")
    assert graph.deployed_macs(graph.dense) == 3 * 8 + 8 * 6 + 6 * 2
    assert graph.ties == (("critic.0/0", "critic.1/0"), ("critic.0/1", "critic.1/1"))


def test_the_gsde_matrix_loses_a_row_with_a_latent_unit() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(8, 6), use_sde=True))
    assert graph.tensors["actor.log_std"].axes == ((Segment("actor/1", 6),), (Segment(None, 1),))
    assert graph.params_per_unit("actor/1") == 8 + 1 + 1 + 1


def test_a_shared_encoder_couples_its_readers() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(8, 6), encoder=(5, 4)))
    (flow,) = graph.flows
    assert flow == "encoder->actor,critic.0,critic.1"
    group = graph.groups[flow]
    assert group.kind == "inter"
    assert group.components == ("encoder", "actor", "critic.0", "critic.1")
    # One latent unit: 5 weights and a bias in, 8 weights out to each of three readers.
    assert graph.params_per_unit(flow) == 5 + 1 + 3 * 8
    assert graph.groups["encoder/0"].components == ("encoder",)
    # The critics see the latent beside the action, which stays.
    assert graph.tensors["critic.qf0.0.weight"].axes[1] == (Segment(flow, 4), Segment(None, 1))


def test_an_encoder_of_the_actors_own_is_no_coupling_of_critics() -> None:
    controller = untrained(
        "ppo", "Pendulum-v1", widths=(8,), encoder=(5, 4), policy_kwargs={"share_features_extractor": False}
    )
    assert trace(controller).flows == ("encoder_actor->actor", "encoder_value->value")


def test_normalisation_belongs_to_the_units_it_normalises() -> None:
    graph = trace(untrained("crossq", "Pendulum-v1", policy_kwargs={"net_arch": {"pi": [8], "qf": [6]}}))
    axes = {name: tensor.axes for name, tensor in graph.tensors.items()}
    assert axes["actor.latent_pi.0.scale"] == ((Segment(None, 3),),)  # of the observation
    assert axes["actor.latent_pi.3.scale"] == ((Segment("actor/0", 8),),)
    assert axes["actor.latent_pi.3.ra_mean"] == ((Segment("actor/0", 8),),)


class WorldModel(nn.Module):
    """TD-MPC's shape: one latent written by encoder and dynamics, read by dynamics, reward and policy."""

    def __init__(self, latent: int = 5) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 7), nn.ELU(), nn.Linear(7, latent))
        self.dynamics = nn.Sequential(nn.Linear(latent + 2, 6), nn.ELU(), nn.Linear(6, latent))
        self.reward = nn.Sequential(nn.Linear(latent + 2, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1))
        self.actor = nn.Sequential(nn.Linear(latent, 4), nn.ELU(), nn.Linear(4, 2))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        latent = self.encoder(observation)
        following = self.dynamics(torch.cat([latent, action], dim=-1))
        # A second step, as planning makes: what the dynamics wrote it now reads.
        last = self.dynamics(torch.cat([following, action], dim=-1))
        return {
            "encoder": latent,
            "dynamics": last,
            "reward": self.reward(torch.cat([following, action], dim=-1)),
            "actor": self.actor(latent),
        }


def test_a_latent_ties_the_whole_world_model_into_one_group() -> None:
    graph = trace(Fake(WorldModel()))
    (flow,) = graph.flows
    group = graph.groups[flow]
    assert set(group.components) == {"encoder", "dynamics", "reward", "actor"}
    assert group.producers == ("encoder.2", "dynamics.2")
    assert set(group.consumers) == {"dynamics.0", "reward.0", "actor.0"}
    # in: 7 + 1 from the encoder, 6 + 1 from the dynamics; out: 6 + 4 + 4
    assert graph.params_per_unit(flow) == 8 + 7 + 14
    intra = [g for g in graph.groups.values() if g.kind == "intra"]
    assert {g.components for g in intra} == {("encoder",), ("dynamics",), ("reward",), ("actor",)}


class Reshaping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Linear(3, 4)

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actor": self.actor(observation).flip(1)}


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Linear(3, 2)

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actor": self.actor(observation if observation.sum() > 0 else -observation)}


@pytest.mark.parametrize(
    ("networks", "message"), [(Reshaping(), "'flip'.*not known"), (Deciding(), "cannot be traced")]
)
def test_what_cannot_be_followed_is_refused(networks: nn.Module, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        trace(Fake(networks))


class Toy(nn.Module):
    """A hidden layer of four units, and something done to it on the way to an action of two."""

    def __init__(self, between: Callable[[Any, torch.Tensor], torch.Tensor], **parts: Any) -> None:
        super().__init__()
        self.between = between
        self.actor = nn.Module()
        self.actor.first, self.actor.last = nn.Linear(3, 4), nn.Linear(parts.pop("reads", 4), 2, bias=False)
        for name, part in parts.items():
            setattr(self.actor, name, part)

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actor": self.actor.last(self.between(self.actor, torch.relu(self.actor.first(observation))))}


class Buffered(nn.Module):
    """A gain that nothing registers, and one that is registered as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.arange(4.0))


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (Toy(lambda actor, h: torch.cat([h, h], dim=0)), "cat.*does not join values"),
        (Toy(lambda actor, h: torch.cat([h, h]), reads=8), "cat.*does not join values"),
        (Toy(lambda actor, h: torch.add(h, other=torch.ones(4))), "no component holds"),
        (Toy(lambda actor, h: h * torch.tensor([1.0, 2.0, 3.0, 4.0])), "no component holds"),
        (Toy(lambda actor, h: h, reads=5), "reads 5 numbers and is given 4"),
    ],
)
def test_no_cut_is_made_of_what_is_not_understood(networks: nn.Module, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        trace(Fake(networks))


def cut_in_half(networks: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The networks, and what is left of them where every second unit goes."""
    controller = Fake(networks)
    graph = trace(controller)
    kept = {name: tuple(range(0, group.units, 2)) for name, group in graph.groups.items()}
    small = apply(describe(graph, kept, 0.5), controller, graph)
    assert small.parameters() == graph.parameters({name: len(units) for name, units in kept.items()})
    return networks, small.networks


@pytest.mark.parametrize("kind", ["gain", "buffer", "prelu", "prelu-by-unit", "keyword"])
def test_what_has_an_entry_a_unit_loses_it_with_the_unit(kind: str) -> None:
    networks: nn.Module = {
        "gain": lambda: Toy(lambda actor, h: h * actor.gain, gain=nn.Parameter(torch.arange(1.0, 5.0))),
        "buffer": lambda: Toy(lambda actor, h: h + actor.part.offset, part=Buffered()),
        "prelu": lambda: Toy(lambda actor, h: actor.slope(h), slope=nn.PReLU()),
        "prelu-by-unit": lambda: Toy(lambda actor, h: actor.slope(h), slope=nn.PReLU(4)),
        "keyword": lambda: Toy(lambda actor, h: torch.add(h, other=actor.gain), gain=nn.Parameter(torch.arange(4.0))),
    }[kind]()
    with torch.no_grad():
        networks.get_submodule("actor.last").weight[:, 1::2] = 0.0  # type: ignore[union-attr,operator]
    dense, small = cut_in_half(networks)
    seen = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(7, 2)
    # The units that went had no weight out, so nothing is to change.
    torch.testing.assert_close(small(*seen)["actor"], dense(*seen)["actor"])


class Residual(nn.Module):
    """The observation is added to what is made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.ModuleDict({"same": nn.Linear(3, 3), "last": nn.Linear(3, 2)})

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"actor": self.actor["last"](observation + self.actor["same"](observation))}


def test_a_residual_on_the_observation_leaves_the_observation_whole() -> None:
    assert trace(Fake(Residual())).groups == {}


class Judging(nn.Module):
    """The critic judges what the actor would do."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Tanh())
        self.critic = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, observation: torch.Tensor, action: torch.Tensor) -> dict[str, torch.Tensor]:
        act = self.actor(observation)
        return {"actor": act, "critic": self.critic(torch.cat([observation, act], dim=1))}


def test_an_action_keeps_its_width_where_a_critic_reads_it() -> None:
    graph = trace(Fake(Judging()))
    assert list(graph.groups) == ["actor/0", "critic/0"]
    assert graph.flows == ()


class Turned(nn.Module):
    """Turns the order of the units round."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.flip(-1)


def test_units_that_a_layer_mixes_are_not_pruned() -> None:
    assert trace(Fake(Toy(lambda actor, h: actor.turn(h), turn=Turned()))).groups == {}


def test_a_layer_without_a_bias_is_refitted_without_one() -> None:
    networks = Toy(lambda actor, h: h)
    controller = Fake(networks)
    graph = trace(controller)
    plan = describe(graph, {"actor/0": (0, 2, 3)}, 0.25)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 3, generator=generator), torch.zeros(200, 2)
    refitted = reconstruct(apply(plan, controller, graph), controller, graph, plan, inputs)
    assert refitted.networks.get_submodule("actor.last").bias is None
    hidden = torch.relu(networks.get_submodule("actor.first")(inputs[0]))[:, [0, 2, 3]].detach()
    wanted = networks(*inputs)["actor"].detach()
    best = torch.linalg.lstsq(hidden, wanted).solution.T  # least squares through the origin
    weight = refitted.networks.get_submodule("actor.last").weight
    assert isinstance(weight, torch.Tensor)
    torch.testing.assert_close(weight.detach(), best, atol=2e-3, rtol=2e-3)


def test_printing_says_who_is_coupled_to_whom() -> None:
    text = str(trace(untrained("sac", "Pendulum-v1", widths=(8, 6), encoder=(5, 4))))
    assert "couples encoder, actor, critic.0, critic.1" in text
    assert "as wide as critic.1/0" in text
    lines = text.split("\n")
    assert lines[0].startswith("4 components, 8 groups, ")
    assert [line.split("  ")[-1] for line in lines[1:5]] == ["deployed"] * 2 + ["training only"] * 2
    assert lines[5] == "groups (units x parameters a unit):"

"""Fewer bins: what says a number as a distribution keeps those between which its numbers lie."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from prunectl.agents.controller import attribute_name
from prunectl.agents.tdmpc.layers import width
from prunectl.agents.tdmpc.model import TDMPCNetworks
from prunectl.agents.tdmpc2.distributions import Bins, symlog

#: The share of the variance of its numbers that a network may lose with the bins that go; a refit makes it good.
LOST = 0.05


@torch.no_grad()
def narrowed(networks: TDMPCNetworks, joint: Tensor, components: Collection[str]) -> TDMPCNetworks:
    """A copy whose reward keeps the bins that its numbers need, and whose critics keep those that any of them needs.

    These are the ones between which all numbers lie that they give, and as many more on the side where it helps most
    until what is left of the distributions gives these numbers, but for `LOST` of their variance. Networks without
    bins, and those that need all of theirs, are given back as they are.

    Args:
        networks: they stay as they are.
        joint: latents and actions ``(n, L + A)`` that they are asked about.
        components: those that may lose bins; of the critics all or none.
    """
    online = networks.online
    critics = [name for name in online.components if name.startswith("critic.")]
    memo: dict[int, nn.Module] = {}
    for names in (["reward"], critics):
        if not set(names) <= set(components):
            continue
        attributes = [attribute_name(name) for name in names]
        alike = [getattr(online, attribute) for attribute in attributes]
        bins, count = alike[0][-1], width(alike[0])
        if not isinstance(bins, Bins) or len({(repr(network[-1]), width(network)) for network in alike}) > 1:
            continue
        first, last = _needed(bins, [network[:-1](joint) for network in alike])
        if last - first + 1 == count:
            continue
        for part in (online, networks.target):
            own = [network for name, network in part.named_children() if name in attributes]
            memo |= {id(network): _cut(network, bins, first, last) for network in own}
    return copy.deepcopy(networks, memo) if memo else networks


def _needed(bins: Bins, logits: Sequence[Tensor]) -> tuple[int, int]:
    """The first and the last bin to keep, of distributions ``(n, bins)``; two at least."""
    count = logits[0].shape[1]
    wanted = [bins(own) for own in logits]
    places = symlog(torch.cat(wanted)).sub(bins.lowest).div(bins.step(count))
    if not torch.isfinite(places).all():
        return 0, count - 1

    def lost(first: int, last: int) -> float:
        left = bins.between(first, last, count)
        found = [left(own[:, first : last + 1]) for own in logits]
        errors = [(one - other).square().mean() for one, other in zip(found, wanted, strict=True)]
        return max(float(error / other.var().clamp_min(1e-12)) for error, other in zip(errors, wanted, strict=True))

    first = min(max(math.floor(places.min()), 0), count - 2)
    last = max(min(math.ceil(places.max()), count - 1), first + 1)
    while (first, last) != (0, count - 1) and not lost(first, last) <= LOST:
        wider = [(max(first - 1, 0), last), (first, min(last + 1, count - 1))]
        first, last = min((ends for ends in wider if ends != (first, last)), key=lambda ends: lost(*ends))
    return first, last


def _cut(network: nn.Module, bins: Bins, first: int, last: int) -> nn.Sequential:
    """The network with the bins from the first to the last alone."""
    *before, linear, _ = copy.deepcopy(network).children()
    assert isinstance(linear, nn.Linear)
    kept = nn.Linear(linear.in_features, last - first + 1, device="meta")
    rows = {name: tensor[first : last + 1].clone() for name, tensor in linear.state_dict().items()}
    kept.load_state_dict(rows, assign=True)
    kept.requires_grad_(linear.weight.requires_grad)
    return nn.Sequential(*before, kept, bins.between(first, last, linear.out_features))

"""The optimiser of students: PyTorch's numbers, step by step."""

from __future__ import annotations

import torch
from torch import nn

from prunectl.pruning.recovery.descent import Adam


def test_steps_are_those_of_pytorchs_optimiser_and_what_has_no_gradient_stays() -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(7)), nn.Parameter(torch.randn(2))]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    own, reference = Adam(ours), torch.optim.Adam(theirs, fused=True)
    unused = ours[2].detach().clone()
    for step in range(5):
        gradients = [torch.randn_like(parameter) for parameter in ours]
        taken = [gradients[0], gradients[1] if step % 2 else None, None]
        own.step(taken, rate=0.1 / (1 + step))
        reference.param_groups[0]["lr"] = 0.1 / (1 + step)
        for parameter, gradient in zip(theirs, taken, strict=True):
            parameter.grad = gradient
        reference.step()
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)
    assert torch.equal(ours[2], unused)

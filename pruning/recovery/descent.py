"""Adam on networks so small that what surrounds a step would take longer than the step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: How fast the moments forget, and what keeps a step bounded (Kingma & Ba 2015, alg. 1, as PyTorch has them).
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Adam (Kingma & Ba 2015) by PyTorch's fused kernel, step by step the numbers of `torch.optim.Adam`.

    The optimiser class finds its parameters anew at each step, for hooks, profilers and devices, and counts the steps
    of each in a tensor of its own, which takes four times as long as the step. Here they are known.

    Args:
        parameters: changed in place by `step`.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.means, self.squares = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        self.steps = [0] * len(self.parameters)

    def step(self, gradients: Sequence[Tensor | None], rate: float) -> None:
        """One step of this size. A parameter without a gradient stays, and its moments do."""
        moved = [place for place, gradient in enumerate(gradients) if gradient is not None]
        for place in moved:
            self.steps[place] += 1
        counts = {count: torch.tensor(float(count)) for count in {self.steps[place] for place in moved}}
        parameters, means, squares = (
            [of[place] for place in moved] for of in (self.parameters, self.means, self.squares)
        )
        with torch.no_grad():
            torch._fused_adam_(
                parameters,
                [gradient for gradient in gradients if gradient is not None],
                means,
                squares,
                [],
                [counts[self.steps[place]] for place in moved],
                lr=rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

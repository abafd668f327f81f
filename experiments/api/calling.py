"""How a public function is called: on one thread while it runs and no longer, with its progress shown if asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

#: ``True`` for a bar on standard error, or a function that is told the share done, in [0, 1].
Progress = bool | Callable[[float], None]

#: What the user should know besides the result goes here, a line each; Python prints it on standard error by default.
log = logging.getLogger("prunectl")


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Limit PyTorch and NumPy to one thread for the call alone, and let gradients be had whatever the caller set.

    The networks are small: on several threads the same distillation took 231 s instead of 15.
    """

    @wraps(function)
    def limited(*arguments: P.args, **named: P.kwargs) -> R:
        import torch
        from threadpoolctl import threadpool_limits

        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1), torch.inference_mode(False), torch.enable_grad():
                return function(*arguments, **named)
        finally:
            torch.set_num_threads(before)

    return limited


@contextmanager
def shown(progress: Progress, what: str) -> Iterator[Callable[[float], None]]:
    """What a long piece of work calls with the share done: nothing, the user's function, or a bar that it moves."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=1.0, visible=False)
        yield lambda share: bars.update(task, completed=share, visible=True)

"""Running what plug-ins wrote: their errors in one line that names them, and nothing changed behind our back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from prunectl.agents.controller import Controller
from prunectl.errors import Error
from prunectl.pruning.errors import PruningError
from prunectl.registry import one_line


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever is raised inside into one line that begins with ``what``, a plug-in and where it is used.

    Raises:
        PruningError: something was.
    """
    try:
        yield
    except Error as error:
        raise PruningError(f"{what}: {error}") from error
    except Exception as error:
        raise PruningError(f"{what}: it raised {one_line(error)}") from error


@contextmanager
def untouched(controller: Controller, what: str) -> Iterator[None]:
    """See to it that the dense controller is at the end what it was: other cells of a sweep go on from it.

    Raises:
        PruningError: a weight was changed; it is set back.
    """
    before = {name: tensor.clone() for name, tensor in controller.networks.state_dict().items()}
    try:
        yield
    finally:
        after = controller.networks.state_dict()
        changed = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
        with torch.no_grad():
            for name in changed:
                after[name].copy_(before[name])
    if changed:
        raise PruningError(f"{what}: it changed the dense controller's {changed[0]}: work on a copy")

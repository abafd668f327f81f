"""Which options of a task change what is observed, to say how one gets what a controller saw."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import combinations

from prunectl.envs.make import make


def options_that_give(task: str, numbers: int) -> Mapping[str, bool] | None:
    """The fewest switches of a task with which it gives so many numbers in place of those it is registered with.

    Tried are the boolean arguments that say what is observed, as Gymnasium's MuJoCo tasks have them. None where none
    does it.
    """
    env = make(task)
    known = inspect.signature(type(env.unwrapped).__init__).parameters.values()
    # How it is registered counts before what its constructor takes by itself.
    said = {} if env.spec is None else env.spec.kwargs
    env.close()
    switches = {
        parameter.name: not said.get(parameter.name, parameter.default)
        for parameter in known
        if isinstance(parameter.default, bool)
        and (parameter.name.endswith("_observation") or parameter.name == "use_contact_forces")
    }
    for count in range(1, len(switches) + 1):
        for names in combinations(switches, count):
            chosen = {name: switches[name] for name in names}
            env = make(task, chosen)
            shape = env.observation_space.shape
            env.close()
            if shape == (numbers,):
                return chosen
    return None

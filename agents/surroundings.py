"""What stands between a task and a controller: settings of the environment and wrappers around it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

#: Appends the share of the episode that is left to the observation.
TIME_FEATURE = "sb3_contrib.common.wrappers.TimeFeatureWrapper"
#: Shows a goal's observation and what is desired as one vector, as Stable-Baselines3's HER did before it took Dicts.
GOAL_WRAPPER = "stable_baselines3.common.vec_env.ObsDictWrapper"
#: Shows the last observations at once, the newest last.
STACK = "stable_baselines3.common.vec_env.VecFrameStack"
#: The longest text, list or table of settings that is taken from a file.
LONGEST = 200


@dataclass(frozen=True)
class Surroundings:
    """What a controller was trained in and has to run in, besides the task's id.

    ``settings`` are keyword arguments of the environment; ``wrappers`` names, dotted as in a run's configuration, with
    keyword arguments, the innermost first. All of it is plain data: whether a wrapper of that name is known is for
    `envs.make` to say.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def time_feature(self) -> bool:
        """Whether the observation ends with the share of the episode that is left."""
        return any(name == TIME_FEATURE for name, _ in self.wrappers)

    @property
    def changes_returns(self) -> bool:
        """Whether the same actions may return something else there than on the plain task; wrappers that only show
        more, or otherwise, do not."""
        return bool(self.settings) or any(name not in (TIME_FEATURE, GOAL_WRAPPER, STACK) for name, _ in self.wrappers)

    def with_time_feature(self) -> Self:
        """The same with the time left at the end of the observation, if it is not there already."""
        return self if self.time_feature else type(self)(self.settings, (*self.wrappers, (TIME_FEATURE, {})))

    def as_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into the same."""
        return {"settings": dict(self.settings), "wrappers": [[name, dict(given)] for name, given in self.wrappers]}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """What `as_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            settings, wrappers = data["settings"], tuple((name, given) for name, given in data["wrappers"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("no settings and wrappers") from error
        names = all(isinstance(name, str) and len(name) <= LONGEST for name, _ in wrappers)
        if len(wrappers) > LONGEST or not names or not all(map(plain_settings, (settings, *(g for _, g in wrappers)))):
            raise ValueError("settings or wrappers that are no plain data")
        return cls(settings, wrappers)


#: Nothing: the task as it is registered.
PLAIN = Surroundings()


def plain_settings(given: Any) -> bool:
    """Whether these are keyword arguments that a stranger's file may set: names with finite numbers, booleans, words
    (no path: that would open a file), nothing, or short lists of these."""
    if not isinstance(given, Mapping) or len(given) > LONGEST:
        return False
    return all(isinstance(key, str) and key.isidentifier() and len(key) <= LONGEST for key in given) and all(
        all(map(_plain, value)) if isinstance(value, list) and len(value) <= LONGEST else _plain(value)
        for value in given.values()
    )


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable() and len(value) <= LONGEST and not set(value) & set("/\\:~")
    if isinstance(value, int | float):  # booleans among them
        return math.isfinite(value) and abs(value) < 2**53
    return value is None

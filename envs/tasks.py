"""The control tasks: frozen specs of what they are, how long they last, what success means and what random gets."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import logging
import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, registry

from prunectl.envs import earlier, packages
from prunectl.envs.packages import DMC
from prunectl.errors import Error
from prunectl.registry import import_named, one_line

#: Steps after which an episode of a task without a time limit is broken off; dm_control's own limit, which it keeps to
#: itself, is another.
UNLIMITED = 10_000
DMC_LIMIT = 1000


class TaskError(Error):
    """A task that does not exist or cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Task:
    """One control task.

    ``horizon`` is in environment steps. ``success`` is what a solved episode looks like, in words; ``success_return``
    the return it takes, where there is such a number. ``random_return`` and ``random_std`` are the mean and standard
    deviation over 100 episodes of uniformly random actions, measured by ``prunectl evaluate random --task ID
    --episodes 100``; None where they have not been measured.
    """

    id: str
    horizon: int
    success: str
    success_return: float | None = None
    random_return: float | None = None
    random_std: float | None = None


TASKS: dict[str, Task] = {
    task.id: task
    for task in (
        Task("CartPole-v1", 500, "the pole stays up for all 500 steps", 475.0, 24.96, 15.38),
        Task("Acrobot-v1", 500, "the tip swings above the line within 100 steps", -100.0, -500.0, 0.0),
        Task("Pendulum-v1", 200, "swings up within two seconds and stays upright", -200.0, -1197.18, 290.43),
        Task("MountainCarContinuous-v0", 999, "reaches the flag with little force", 90.0, -33.31, 0.87),
        Task("LunarLander-v3", 1000, "lands on the pad", 200.0, -191.0, 106.92),
        Task("LunarLanderContinuous-v3", 1000, "lands on the pad", 200.0, -206.67, 115.45),
        Task("BipedalWalker-v3", 1600, "walks to the end of the terrain", 300.0, -100.01, 15.81),
        Task("InvertedPendulum-v5", 1000, "the pole stays up for all 1000 steps", 950.0, 5.63, 4.17),
        Task("InvertedDoublePendulum-v5", 1000, "both poles stay up for all 1000 steps", 9100.0, 50.1, 20.72),
        Task("Reacher-v5", 50, "the finger-tip stays at the target", -3.75, -42.88, 4.0),
        Task("Pusher-v5", 100, "the object is pushed to the goal", 0.0, -148.45, 6.91),
        Task("Swimmer-v5", 1000, "swims forwards at full speed", 360.0, 3.16, 11.11),
        Task("Hopper-v5", 1000, "hops forwards to the end without falling", 3000.0, 17.04, 16.34),
        Task("HalfCheetah-v5", 1000, "runs forwards", 4800.0, -281.3, 78.71),
        Task("Walker2d-v5", 1000, "walks forwards to the end without falling", 3000.0, 1.93, 5.94),
        Task("Ant-v5", 1000, "walks forwards to the end without tipping over", 3000.0, -78.17, 118.51),
        Task("prunectl/Ant111-v3", 1000, "walks forwards to the end without tipping over", 3000.0, -77.88, 118.03),
        Task("prunectl/Ant111-v4", 1000, "walks forwards to the end without tipping over", 3000.0, -78.17, 118.51),
        Task("prunectl/Humanoid376-v4", 1000, "walks forwards to the end without falling", 5000.0, 109.93, 30.17),
        Task("prunectl/CartPoleSwingUp-v0", 500, "swings up and stays upright near the middle", 400.0, 29.8, 22.56),
        Task("prunectl/CartPoleSwingUpPixels-v0", 125, "swings up and stays upright", 400.0, 75.28, 45.33),
        Task("prunectl/CartPoleSwingUpNoVelocity-v0", 500, "swings up and stays upright", 400.0, 29.8, 22.56),
        Task("prunectl/PendulumPixels-v0", 100, "swings up and stays upright", -200.0, -1224.43, 266.0),
        Task("prunectl/PendulumNoVelocity-v0", 200, "swings up and stays upright", -200.0, -1197.18, 290.43),
        Task("prunectl/DoubleIntegrator-v0", 200, "comes to rest at 0", 180.0, 86.69, 58.0),
        Task("prunectl/LinearPendulum-v0", 200, "comes to rest upright", 195.0, 27.64, 14.51),
    )
}


def resolve(task_id: str) -> tuple[str, str | None]:
    """The id that stands for ``task_id`` here, itself if it can be made, and what the user should know of it.

    ``module:Id`` imports the module first, which may register environments.

    Raises:
        TaskError: nothing by that name exists in any version; the message offers the nearest names.
    """
    today = stand_ins(task_id)[0]
    return today, remark_on(task_id, today)


def stand_ins(task_id: str) -> tuple[str, ...]:
    """The task itself if it can be made, else its other versions that can, the newest first; then tasks of ours that
    show what it showed.

    Raises:
        TaskError: nothing by that name exists in any version; the message offers the nearest names.
    """
    module, _, name = task_id.rpartition(":")
    if missing := packages.register(name):
        raise TaskError(f"task '{task_id}' needs {missing}")
    if module:
        _import(module, task_id)
    base, version = _split(name)
    versions = sorted((v for b, v in map(_split, registry) if b == base and v is not None), reverse=True)
    # Whether the newest can be made, and one of the user's own, is for `make` to say: it says why not.
    newest = version is None or version == max(versions, default=version)
    if name in registry and (newest or not _is_gymnasium(name) or _is_made(name)):
        return (task_id, *earlier.stands_for(name))
    if versions:
        others = [f"{base}-v{v}" for v in versions if v == versions[0] or _is_made(f"{base}-v{v}")]
        return (*(f"{module}:{other}" if module else other for other in others), *earlier.stands_for(name))
    near = difflib.get_close_matches(name, [*TASKS, *registry], n=3, cutoff=0.4)
    offer = f"; did you mean {', '.join(dict.fromkeys(near))}?" if near else "; `prunectl tasks` lists them"
    raise TaskError(f"unknown task '{task_id}'{offer}")


def _import(module: str, task_id: str) -> None:
    """Import what registers a task."""
    try:
        import_named(module)
    except Exception as error:  # whatever the module's own code raises
        cannot = f"task '{task_id}': module '{module}' cannot be imported ({one_line(error)})"
        if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
            raise TaskError(
                f"{cannot}: run this in the folder where it lies, or put that folder on PYTHONPATH; on every worker too"
            ) from error
        raise TaskError(cannot) from error


def remark_on(asked: str, used: str) -> str | None:
    """What the user should know of a task that is used for the one that was asked for."""
    remarks = []
    if asked != used:
        remarks.append(f"task {asked.rpartition(':')[2]} cannot be made here: using {used}")
    if not registered(used).max_episode_steps and _limit(used) == UNLIMITED:
        remarks.append(f"task {used} has no time limit: an episode is broken off after {UNLIMITED:,} steps")
    return "; ".join(remarks) or None


def source_of(task_id: str) -> str | None:
    """A SHA-256 of the file that a task is written in; None where it is Gymnasium's or ours, whose versions are
    recorded, or has no file."""
    entry = registered(task_id).entry_point
    module = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    if not module or module.partition(".")[0] in ("gymnasium", "prunectl"):
        return None
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # what a user types into a session is written nowhere
        return None
    if found is None or not found.origin or not Path(found.origin).is_file():
        return None
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


@cache
def _is_made(name: str) -> bool:
    """Whether Gymnasium makes this id, tried once: of many old versions it keeps the name alone."""
    quiet_mujoco()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is a newer one
            gym.make(name, disable_env_checker=True).close()
    except Exception:  # whatever says that it moved, or that something is missing
        return False
    return True


@cache
def quiet_mujoco() -> None:
    """Send MuJoCo's warnings to `logging`: on its own it prints them and writes a log file where the user stands."""
    try:
        import mujoco
    except ImportError:
        return  # gym.make says what is missing
    mujoco.set_mju_user_warning(logging.getLogger("mujoco").info)


def lookup(task_id: str) -> Task:
    """The spec of a task: ours where we have one, else made from Gymnasium's registry, references still unmeasured."""
    today, _ = resolve(task_id)
    if today in TASKS:
        return TASKS[today]
    spec = registered(today)
    return Task(today, spec.max_episode_steps or _limit(today), "not stated", spec.reward_threshold)


def _limit(task_id: str) -> int:
    """The horizon of a task that is registered without one."""
    return DMC_LIMIT if task_id.rpartition(":")[2].startswith(DMC) else UNLIMITED


def registered(task_id: str) -> EnvSpec:
    """Gymnasium's own spec of an id that `resolve` gave."""
    return registry[task_id.rpartition(":")[2]]


def _split(name: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)-v(\d+)", name)
    return (match[1], int(match[2])) if match else (name, None)


def _is_gymnasium(name: str) -> bool:
    """Whether the id is one of Gymnasium's own or of its robots, whose old versions are kept only to say that they
    moved."""
    entry = registry[name].entry_point
    where = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return str(where).startswith(("gymnasium.envs", "gymnasium_robotics"))

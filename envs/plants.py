"""Tasks that are to be brought to rest, as dynamical systems: state, goal, and what may be changed about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl.envs.cartpole_swingup import HALF_LENGTH, POLE_MASS, Pole, observe
from prunectl.envs.tasks import TaskError
from prunectl.envs.wrapping import Env
from prunectl.registry import Registry

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plant:
    """A task as a dynamical system with a goal, which is the state 0 everywhere here.

    Attributes:
        task: its id.
        state: what the entries of the state are, with units.
        angles: which of them are angles, wrapped to [-pi, pi).
        step: seconds an environment step.
        near, hold: an episode *stabilises* if it is not cut short and every ``|state_i| <= near_i`` in each of its last
            ``hold`` steps.
        domain: the box ``|state_i| <= domain_i`` that a local analysis may reach.
        axes, spans: the two entries that a grid of initial states varies, from ``-span`` to ``span``, others at 0.
        noise: standard deviations of the observation noise of the robustness test, an entry each, in its units.
        read: the state of an environment.
        write: put an environment into a state.
        observe: the observation that it gives there.
        changes: what may be scaled by a factor between making an environment and its first reset (``mass``: the pole's
            or the whole plant's; ``length``), with the factors that leave the task a task.
    """

    task: str
    state: tuple[str, ...]
    angles: tuple[int, ...]
    step: float
    near: tuple[float, ...]
    hold: int
    domain: tuple[float, ...]
    axes: tuple[int, int]
    spans: tuple[float, float]
    noise: tuple[float, ...]
    read: Callable[[Any], Any]
    write: Callable[[Any, Array], None]
    observe: Callable[[Any], NDArray[Any]]
    changes: Mapping[str, tuple[Callable[[Any, float], None], tuple[float, ...]]] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Callable[[str], Plant], tuple[str]]:
        """To another process it goes by the name of its task: its functions have none."""
        return plant, (self.task,)

    def state_of(self, env: Env) -> Array:
        """The state ``(n,)`` of an environment."""
        return self.wrapped(self.reading(env))

    def reading(self, env: Env) -> Array:
        """The same with angles as they have been turned to, which `wrapped` takes."""
        return np.array(self.read(env.unwrapped), dtype=np.float64)

    def wrapped(self, states: Array) -> Array:
        """States ``(..., n)`` with angles from -pi on to below pi."""
        wrapped, angles = states.copy(), list(self.angles)
        wrapped[..., angles] -= 2 * np.pi * np.floor((states[..., angles] + np.pi) / (2 * np.pi))
        return wrapped

    def put(self, env: Env, state: Array) -> NDArray[Any]:
        """Put an environment that has been reset into a state ``(n,)``; what is observed there."""
        self.write(env.unwrapped, state)
        return self.observe(env.unwrapped)

    def change(self, env: Env, what: str, factor: float) -> None:
        """Scale the plant's mass or length. To be called before the first reset."""
        self.changes[what][0](env.unwrapped, factor)


def plant(task: str) -> Plant:
    """The plant of a task.

    Raises:
        TaskError: it has none.
    """
    if not PLANTS.offers(task):
        raise TaskError(f"{task} has no goal to come to rest at; those that have: {', '.join(PLANTS.names())}")
    return PLANTS[task]


def _scale(attribute: str) -> Callable[[Any, float], None]:
    def scale(env: Any, factor: float) -> None:
        setattr(env, attribute, factor * getattr(env, attribute))

    return scale


def _write_array(env: Any, state: Array) -> None:
    env.state = state.copy()


def _write_floats(env: Any, state: Array) -> None:
    env.state = tuple(state.tolist())


def _write_mujoco(env: Any, state: Array) -> None:
    env.set_state(state[: len(state) // 2], state[len(state) // 2 :])


def _read_mujoco(env: Any) -> Array:
    return np.concatenate([env.data.qpos, env.data.qvel])


def _pole(mass: float = 1.0, length: float = 1.0) -> Callable[[Any, float], None]:
    def change(env: Any, factor: float) -> None:
        env.pole = Pole(POLE_MASS * factor**mass, HALF_LENGTH * factor**length)

    return change


def _mujoco_poles(mass: bool) -> Callable[[Any, float], None]:
    """Scale every pole's mass at its length, or every pole's length at its mass, and compile the model anew.

    MuJoCo derives the inertias from the geometry and the mass.
    """

    def change(env: Any, factor: float) -> None:
        import mujoco

        spec = mujoco.MjSpec.from_file(env.fullpath)
        for geom in [geom for geom in spec.geoms if "pole" in geom.name]:
            index = env.model.geom(geom.name).bodyid[0]
            before = float(env.model.body_mass[index])
            if mass:
                geom.mass = factor * before
            else:
                geom.fromto = factor * np.asarray(geom.fromto)
                geom.mass = before
        if not mass:
            for body in spec.bodies:
                body.pos = factor * np.asarray(body.pos)
            for site in spec.sites:
                site.pos = factor * np.asarray(site.pos)
        env.model = spec.compile()
        env.data = mujoco.MjData(env.model)

    return change


_BOTH = (0.8, 1.2)

_OWN: dict[str, Plant] = {
    each.task: each
    for each in (
        Plant(
            "prunectl/DoubleIntegrator-v0",
            ("position (m)", "velocity (m/s)"),
            (),
            step=0.05,
            near=(0.05, 0.05),
            hold=20,
            domain=(3.0, 3.0),
            axes=(0, 1),
            spans=(3.0, 3.0),
            noise=(0.02, 0.02),
            read=lambda env: env.state,
            write=_write_array,
            observe=lambda env: env.state.astype(np.float32),
            changes={"mass": (_scale("mass"), _BOTH)},
        ),
        Plant(
            "prunectl/LinearPendulum-v0",
            ("angle (rad)", "angular velocity (rad/s)"),
            (0,),
            step=0.02,
            near=(0.02, 0.05),
            hold=50,
            domain=(0.4, 1.2),
            axes=(0, 1),
            spans=(0.4, 1.2),
            noise=(0.005, 0.02),
            read=lambda env: env.state,
            write=_write_array,
            observe=lambda env: env.state.astype(np.float32),
            changes={"mass": (_scale("mass"), _BOTH), "length": (_scale("length"), _BOTH)},
        ),
        Plant(
            "Pendulum-v1",
            ("angle (rad)", "angular velocity (rad/s)"),
            (0,),
            step=0.05,
            near=(0.15, 0.5),
            hold=20,
            domain=(0.4, 2.0),
            axes=(0, 1),
            spans=(np.pi, 8.0),
            noise=(0.02, 0.02, 0.1),
            read=lambda env: env.state,
            write=_write_array,
            observe=lambda env: env._get_obs(),
            changes={"mass": (_scale("m"), _BOTH), "length": (_scale("l"), _BOTH)},
        ),
        Plant(
            "prunectl/CartPoleSwingUp-v0",
            ("position (m)", "velocity (m/s)", "angle (rad)", "angular velocity (rad/s)"),
            (2,),
            step=0.02,
            near=(1.0, 0.5, 0.15, 0.5),
            hold=50,
            domain=(1.5, 2.0, 0.5, 3.0),
            axes=(2, 3),
            spans=(np.pi, 10.0),
            noise=(0.02, 0.02, 0.02, 0.02, 0.1),
            read=lambda env: env.state,
            write=_write_floats,
            observe=lambda env: observe(env.state),
            changes={"mass": (_pole(length=0.0), _BOTH), "length": (_pole(mass=0.0), _BOTH)},
        ),
        Plant(
            "InvertedPendulum-v5",
            ("position (m)", "angle (rad)", "velocity (m/s)", "angular velocity (rad/s)"),
            (1,),
            step=0.04,
            near=(0.3, 0.05, 0.2, 0.2),
            hold=25,
            domain=(0.9, 0.2, 2.0, 2.0),
            axes=(1, 3),
            spans=(0.19, 2.0),
            noise=(0.01, 0.005, 0.02, 0.02),
            read=_read_mujoco,
            write=_write_mujoco,
            observe=lambda env: env._get_obs(),
            changes={"mass": (_mujoco_poles(True), _BOTH), "length": (_mujoco_poles(False), _BOTH)},
        ),
        Plant(
            "InvertedDoublePendulum-v5",
            (
                "position (m)",
                "lower angle (rad)",
                "relative upper angle (rad)",
                "velocity (m/s)",
                "lower angular velocity (rad/s)",
                "upper angular velocity (rad/s)",
            ),
            (1, 2),
            step=0.05,
            near=(0.3, 0.05, 0.05, 0.2, 0.2, 0.2),
            hold=20,
            domain=(0.9, 0.5, 0.5, 2.0, 4.0, 4.0),
            axes=(1, 2),
            spans=(0.6, 0.6),
            noise=(0.01, 0.005, 0.005, 0.005, 0.005, 0.02, 0.02, 0.02, 0.0),
            read=_read_mujoco,
            write=_write_mujoco,
            observe=lambda env: env._get_obs(),
            # Poles a fifth shorter reach 0.96 m when upright, and the task calls anything below 1 m fallen.
            changes={"mass": (_mujoco_poles(True), _BOTH), "length": (_mujoco_poles(False), (1.2,))},
        ),
    )
}

PLANTS = Registry("plant", _OWN, TaskError, names=r"\S+")

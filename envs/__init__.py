"""Control tasks: frozen specs, own environments, and the one way to make them."""

import gymnasium as gym

from prunectl.envs import earlier
from prunectl.envs.hidden import Seen
from prunectl.envs.linear import SYSTEMS
from prunectl.envs.make import flattened, make
from prunectl.envs.options import options_that_give
from prunectl.envs.pictures import picture
from prunectl.envs.tasks import TASKS, Task, TaskError, lookup, remark_on, resolve, source_of, stand_ins
from prunectl.envs.wrapping import Env

__all__ = [
    "TASKS",
    "Env",
    "Task",
    "TaskError",
    "flattened",
    "lookup",
    "make",
    "options_that_give",
    "picture",
    "remark_on",
    "resolve",
    "source_of",
    "stand_ins",
]

gym.register(
    "prunectl/CartPoleSwingUp-v0",
    entry_point="prunectl.envs.cartpole_swingup:CartPoleSwingUp",
    vector_entry_point="prunectl.envs.cartpole_swingup:CartPoleSwingUpVector",
    max_episode_steps=500,
)
for _name, _system in SYSTEMS.items():
    gym.register(_name, entry_point="prunectl.envs.linear:Linear", kwargs={"system": _system}, max_episode_steps=200)
gym.register(
    "prunectl/CartPoleSwingUpPixels-v0",
    entry_point="prunectl.envs.pixels:CartPoleSwingUpPixels",
    max_episode_steps=125,
)
gym.register("prunectl/PendulumPixels-v0", entry_point="prunectl.envs.pixels:PendulumPixels", max_episode_steps=100)
# Positions alone: x, cos theta and sin theta of the cart-pole, cos theta and sin theta of the pendulum.
gym.register(
    "prunectl/CartPoleSwingUpNoVelocity-v0",
    entry_point="prunectl.envs.cartpole_swingup:CartPoleSwingUp",
    max_episode_steps=500,
    additional_wrappers=(Seen.wrapper_spec(places=(0, 2, 3)),),
)
gym.register(
    "prunectl/PendulumNoVelocity-v0",
    entry_point="gymnasium.envs.classic_control:PendulumEnv",
    max_episode_steps=200,
    additional_wrappers=(Seen.wrapper_spec(places=(0, 1)),),
)
earlier.register()

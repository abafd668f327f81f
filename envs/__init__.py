"""Control tasks: frozen specs, own environments, and the one way to make them."""

from envs.make import Env, make
from envs.tasks import TASKS, Task, TaskError, lookup, resolve

__all__ = ["TASKS", "Env", "Task", "TaskError", "lookup", "make", "resolve"]

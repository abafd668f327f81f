"""Controllers: load, name the components, act, save. Nothing outside this package knows how an agent is stored."""

from prunectl.agents.controller import Component, Controller, ControllerError, Policy
from prunectl.agents.load import bundled, load
from prunectl.agents.loaded import Loaded

__all__ = ["Component", "Controller", "ControllerError", "Loaded", "Policy", "bundled", "load"]

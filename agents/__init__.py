"""Controllers: load, name the components, act, save. Nothing outside this package knows how an agent is stored."""

from prunectl.agents.controller import Component, Controller, ControllerError, Policy
from prunectl.agents.load import load
from prunectl.agents.loaded import Loaded
from prunectl.references import bundled

__all__ = ["Component", "Controller", "ControllerError", "Loaded", "Policy", "bundled", "load"]

"""Plain modules, and functions that show how data passes through them, as a `Controller`."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from prunectl.agents.controller import Batch, Component, Controller, ControllerError, attribute_name
from prunectl.agents.networks.calls import Call, Calls, Flow, Value, follow, live, sources
from prunectl.agents.networks.form import space_to_json, write_file
from prunectl.agents.networks.layers import described
from prunectl.agents.networks.path import NoSequence, Whole, path_of
from prunectl.agents.rows import form_as_json
from prunectl.agents.surroundings import PLAIN, Surroundings
from prunectl.registry import one_line

#: A component's name: words, with dots between them.
NAME = r"[A-Za-z]\w{0,39}(\.\w{1,40}){0,3}"


@dataclass(frozen=True, eq=False)
class Networks(Controller):
    """Components under their names, and three lists of calls over them.

    Attributes:
        networks: holds the components under their `attribute_name`, and no tensor besides theirs.
        names: of the components.
        flow: from observations, and perhaps actions, to each component's output: see `dataflow`.
        acting: from observations to actions in the environment's units.
        seeing: from observations to what the networks are shown of them; None where that is all as it is.
        fixed: components whose output keeps its width though others read it.
        ties: components that keep equal widths.
        remarks: what `save` says, a line each.
        given: the space that observations come from whose rows these are; None where it is their own.
    """

    suffix: ClassVar[str] = ".safetensors"  # type: ignore[misc]
    networks: nn.Module
    names: tuple[str, ...]
    flow: Calls
    acting: Calls
    seeing: Calls | None
    observation_space: spaces.Box
    action_space: spaces.Box | spaces.Discrete
    fixed: frozenset[str] = frozenset()
    ties: tuple[tuple[str, ...], ...] = ()
    surroundings: Surroundings | None = PLAIN
    algorithm: str = "networks"
    remarks: tuple[str, ...] = ()
    given: spaces.Space[Any] | None = None

    def __post_init__(self) -> None:
        self.networks.eval()

    @classmethod
    def made_of(
        cls,
        components: Mapping[str, nn.Module],
        dataflow: Callable[..., Any],
        act: Callable[..., Any],
        observation_space: spaces.Box | Sequence[int] | int,
        action_space: spaces.Box | spaces.Discrete | None = None,
        *,
        observe: Callable[[Tensor], Tensor] | None = None,
        fixed_outputs: Sequence[str] | None = None,
        ties: Sequence[Sequence[str]] = (),
    ) -> Self:
        """What `Controller.of` says."""
        networks = _copied(components)
        modules = modules_of(networks, components)
        described(networks, "components")
        flow = follow(dataflow, modules, _inputs_of(dataflow), "dataflow")
        acting = live(follow(act, modules, 1, "act"))
        seeing = None if observe is None else live(follow(observe, {}, 1, "observe", bare=True))
        if not isinstance(acting.result, Value):
            raise ControllerError("act: it gives several things, or none of its components' making; actions are needed")
        observed = observation_space if isinstance(observation_space, spaces.Box) else unbounded(observation_space)
        controller = cls(networks, tuple(components), flow, acting, seeing, observed, spaces.Discrete(1))
        if action_space is None:
            action_space = unbounded(controller.given_actions("act").shape[1:])
        last = sources(acting, controller.component_of)[acting.result.number]
        return replace(
            controller,
            action_space=action_space,
            fixed=last if fixed_outputs is None else frozenset(fixed_outputs),
            ties=tuple(map(tuple, ties)),
        ).checked("the controller")

    @cached_property
    def components(self) -> Mapping[str, Component]:
        acts = {self.component_of(path) for path in self.acting.layers}
        return {n: Component(n, module, n in acts) for n, module in modules_of(self.networks, self.names).items()}

    @property
    def observed(self) -> spaces.Space[Any]:
        return self.observation_space if self.given is None else self.given

    @property
    def mirrors(self) -> Mapping[str, str]:
        return {}  # target networks are copies of their online twins, and are made anew where training goes on

    @property
    def fixed_outputs(self) -> frozenset[str]:
        return super().fixed_outputs | self.fixed

    def dataflow(self) -> nn.Module:
        return Flow.of(self.flow, modules_of(self.networks, self.names))

    def inputs(self, observations: Batch, actions: NDArray[Any]) -> tuple[Tensor, ...]:
        """What the networks are shown of the observations, and where the flow has them actions as the environment takes
        them: numbers ``(n, *shape)``, of choices one-hot ``(n, choices)``."""
        shown = self._shown(observations)
        return (shown,) if self.flow.inputs == 1 else (shown, self._taken(actions))

    def act(self, observations: Batch) -> NDArray[Any]:
        shown = self._shown(observations)
        with torch.inference_mode():
            if self._choosing is None:
                given: Tensor = self.acting.run(self.networks, shown)
                return given.numpy()
            before, choice = self._choosing
            logits = before.run(self.networks, shown)
            if not torch.isfinite(logits).all():  # argmax would make an action of NaN like any other
                raise ControllerError("the controller's logits are not numbers")
            given = logits.argmax(*choice.arguments[1:], **choice.named)
            return given.numpy()

    def deployed_path(self) -> nn.Sequential:
        """Layer by layer where `act` is a sequence of layers on a vector; otherwise all of it as one module, which is
        given rows ``(n, numbers)``."""
        lists = [*([] if self.seeing is None else [self.seeing]), self.acting]
        if len(self.observation_space.shape) == 1:
            try:
                return path_of(lists, self.networks)
            except NoSequence:
                pass
        return nn.Sequential(Whole(self.observation_space.shape, lists, self.networks))

    def with_networks(self, networks: nn.Module) -> Self:
        return replace(self, networks=networks)

    @property
    def selects(self) -> bool:
        return len(self.observation_space.shape) == 1

    def reading(self, inputs: Sequence[int]) -> Self:
        if not self.selects:
            return super().reading(inputs)
        before = Calls(1, (), Value(0)) if self.seeing is None else self.seeing
        return replace(self, seeing=before.picking(inputs))

    def save(self, path: Path, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        """Write one file of safetensors with JSON in its header.

        Raises:
            ControllerError: a layer that the form has no word for; nothing is written.
        """
        said = {
            "algorithm": self.algorithm,
            "components": list(self.names),
            "fixed": sorted(self.fixed),
            "ties": [list(names) for names in self.ties],
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            **({} if self.given is None else {"given": form_as_json(self.given)}),
            **({} if self.surroundings is None else {"surroundings": self.surroundings.as_json()}),
            **provenance,
        }
        lists = {"dataflow": self.flow, "act": self.acting, "observe": self.seeing}
        write_file(path, self.networks, lists, said, str(path))
        return self.remarks

    def checked(self, where: str) -> Self:
        """The same, if its parts fit each other and its spaces, tried on two observations of zeros.

        Raises:
            ControllerError: they do not; ``where`` begins the line.
        """
        for names in (*self.ties, self.fixed):
            if not set(names) <= set(self.names):
                raise ControllerError(f"{where}: there is no component '{min(set(names) - set(self.names))[:60]}'")
        given, space = self.given_actions(f"{where}: act"), self.action_space
        chooses = isinstance(space, spaces.Discrete)
        wanted: tuple[int, ...] = () if isinstance(space, spaces.Discrete) else space.shape
        if tuple(given.shape[1:]) != wanted or chooses == given.is_floating_point():
            needs = "an index each: end it with .argmax(1)" if chooses else f"numbers of shape {(2, *wanted)}"
            raise ControllerError(
                f"{where}: act gives {_dtype(given)} of shape {tuple(given.shape)} for two observations, and the "
                f"action space {space} needs {needs}"
            )
        outputs = tried(lambda: self.dataflow()(*self.inputs(self.zeros, given.numpy())), f"{where}: dataflow")
        if not isinstance(outputs, dict) or set(outputs) != set(self.names):
            found = ", ".join(map(str, outputs)) if isinstance(outputs, dict) else f"a {type(outputs).__name__}"
            raise ControllerError(
                f"{where}: dataflow gives {found[:120]}; a table with the output of each component is needed: "
                f"{', '.join(self.names)[:300]}"
            )
        for name, output in outputs.items():
            if not isinstance(output, Tensor) or output.dim() < 2 or len(output) != 2:
                raise ControllerError(f"{where}: dataflow's '{name}' has no row for each observation")
        return self

    def component_of(self, path: str) -> str:
        """The component that a layer or tensor belongs to."""
        attribute = path.split(".", 1)[0]
        return next(name for name in self.names if attribute_name(name) == attribute)

    @property
    def zeros(self) -> Batch:
        """Two observations of zeros."""
        return np.zeros((2, *self.observation_space.shape), dtype=np.float32)

    def given_actions(self, where: str) -> Tensor:
        """What `act` gives for them, before anything has been said of the action space."""
        given = tried(lambda: self.acting.run(self.networks, self._shown(self.zeros)), where)
        if not isinstance(given, Tensor) or given.dim() < 1 or len(given) != 2:
            raise ControllerError(f"{where}: it gives no tensor with a row for each observation")
        return given

    @cached_property
    def _choosing(self) -> tuple[Calls, Call] | None:
        """Where `act` ends with the choice of the highest of some numbers: what gives these, and the choice."""
        *steps, last = self.acting.steps
        argmax = last.kind != "layer" and last.name == "argmax" and last.arguments[:1] == (Value(len(steps)),)
        if not argmax or self.acting.result != Value(len(steps) + 1):
            return None
        return replace(self.acting, steps=tuple(steps), result=last.arguments[0]), last

    def _shown(self, observations: Batch) -> Tensor:
        rows = np.asarray(observations).reshape(len(observations), *self.observation_space.shape)
        shown = torch.as_tensor(rows.astype(np.float32))
        return shown if self.seeing is None else self.seeing.run(self.networks, shown)

    def _taken(self, actions: NDArray[Any]) -> Tensor:
        if isinstance(self.action_space, spaces.Discrete):
            chosen = torch.as_tensor(np.asarray(actions, dtype=np.int64))
            return nn.functional.one_hot(chosen, int(self.action_space.n)).float()
        return torch.as_tensor(np.asarray(actions, dtype=np.float32).reshape(-1, *self.action_space.shape))


def modules_of(networks: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The components' modules by name."""
    return {name: networks.get_submodule(attribute_name(name)) for name in names}


def unbounded(shape: Sequence[int] | int) -> spaces.Box:
    """Numbers of that shape that may be anything.

    Raises:
        ControllerError: that is no shape.
    """
    sides = (shape,) if isinstance(shape, int) else tuple(shape) if isinstance(shape, Sequence) else (0,)
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise ControllerError(f"observation_space: {shape!s:.60}: a Box or the shape of one observation is needed")
    return spaces.Box(-np.inf, np.inf, sides, np.float32)


def check_names(names: Sequence[str], where: str) -> None:
    """Raise ControllerError unless these may be names of components."""
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            raise ControllerError(f"{where}: '{str(name)[:60]}' is no name of a component: words, with dots between")
    if not names or len({attribute_name(name) for name in names}) < len(names):
        raise ControllerError(f"{where}: components need names of their own: {', '.join(names)[:200]}")


def tried(compute: Callable[[], Any], where: str) -> Any:
    """What something computes without gradients.

    Raises:
        ControllerError: it fails.
    """
    try:
        with torch.no_grad():
            return compute()
    except ControllerError:
        raise
    except Exception as error:  # whatever layers and operations say of numbers that do not fit
        raise ControllerError(f"{where}: it fails ({one_line(error)})") from error


def _copied(components: Mapping[str, nn.Module]) -> nn.Module:
    """The components under one module, copied together, on the CPU."""
    check_names(list(components), "components")
    owner: dict[int, str] = {}
    for name, module in components.items():
        if not isinstance(module, nn.Module):
            raise ControllerError(f"components: '{name}' is a {type(module).__name__}, an nn.Module is needed")
        for tensor in (*module.parameters(), *module.buffers()):
            if owner.setdefault(id(tensor), name) != name:
                raise ControllerError(
                    f"components: '{owner[id(tensor)]}' and '{name}' share weights: name what they share as a "
                    "component, and pass its output on in dataflow"
                )
    networks = nn.Module()
    for name, module in copy.deepcopy(dict(components)).items():
        networks.add_module(attribute_name(name), module)
    return networks.cpu()


def _inputs_of(dataflow: Callable[..., Any]) -> int:
    taken = len(inspect.signature(dataflow).parameters) - 1
    if taken not in (1, 2):
        raise ControllerError(
            f"dataflow: it takes {taken + 1} arguments; (components, observations) or (components, observations, "
            "actions) is needed"
        )
    return taken


def _dtype(tensor: Tensor) -> str:
    return "numbers" if tensor.is_floating_point() else "indices"


Controller.maker = Networks.made_of

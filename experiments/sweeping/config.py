"""What a sweep is asked to compute: a YAML file, checked to the last key before anything runs."""

from __future__ import annotations

import difflib
import math
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import product, starmap
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from prunectl.agents.files import read_bounded
from prunectl.errors import Error
from prunectl.experiments.episodes.seeds import MOST_EPISODE_SEED, MOST_SEED, check_reported
from prunectl.experiments.stability.bounds import CONFIDENCE, FEWEST, TOLERATED
from prunectl.experiments.sweeping.bundled import LARGEST_CONFIG, listed
from prunectl.pruning import Method, Variant, variants
from prunectl.references import HUB
from prunectl.registry import import_plugins, one_line

#: The longest text or number in it: whole numbers of many digits take quadratic time to read.
LONGEST_SCALAR = 3000
#: Cells that one sweep may ask for.
MOST_CELLS = 10_000_000
#: Steps that a controller may be pruned in.
MOST_STEPS = 1_000
#: Starts of a check of stability: their episodes run side by side.
MOST_STARTS = 10_000
#: What the context of validation calls the user's word that modules may be imported.
ALLOW = "allow_plugins"
#: An environment variable in a reference.
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class ConfigError(Error):
    """A sweep that cannot be run as asked; the message says which file, which key and what is allowed."""


Shares = Mapping[str, Annotated[float, Field(ge=0, lt=1)]]
OneOrMore = Annotated[tuple[str, ...], BeforeValidator(listed), Field(min_length=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ControllerEntry(_Frozen):
    """One controller: a reference as the command line takes it, and the task and name where it does not tell them.

    ``${NAME}`` in the reference stands for an environment variable. An ``optional`` one is left out where that is not
    set. With ``resources``, only workers that offer them take its cells (``dask worker --resources GPU=1``).
    """

    controller: str
    task: str | None = None
    name: str | None = None
    optional: bool = False
    resources: Mapping[str, Annotated[float, Field(gt=0)]] = {}

    @model_validator(mode="after")
    def _variables_are_set(self) -> Self:
        if not self.optional:
            substitute(self.controller)
        return self

    @model_validator(mode="after")
    def _says_nothing_abroad(self) -> Self:
        if self.controller.startswith(HUB) and _VARIABLE.search(self.controller):
            raise ValueError(f"{self.controller[:80]}: what an environment variable holds is sent to no other machine")
        return self

    @model_validator(mode="after")
    def _task_is_allowed(self, info: ValidationInfo) -> Self:
        module, colon, _ = (self.task or "").rpartition(":")
        _check_allowed([module] if colon else [], info)
        return self

    @property
    def is_there(self) -> bool:
        """Whether it takes part: all that is not optional, or whose variables are set."""
        return not self.optional or all(name in os.environ for name in _VARIABLE.findall(self.controller))

    @property
    def reference(self) -> str:
        """The reference with its environment variables filled in."""
        return substitute(self.controller)


class MethodEntry(_Frozen):
    """Methods to compare: each of the four is a name or a list of names, and every combination is meant.

    What is not named is what `prune` takes then (`Method.of`). ``module:name`` is a plug-in's.
    """

    grouping: OneOrMore = ("component",)
    importance: OneOrMore | None = None
    allocation: OneOrMore = ("uniform",)
    recovery: OneOrMore | None = None

    @model_validator(mode="after")
    def _names_are_known(self, info: ValidationInfo) -> Self:
        _check_allowed(self.modules, info)
        _ = self.methods
        return self

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules of plug-ins that its names name."""
        named = (*self.grouping, *(self.importance or ()), *self.allocation, *(self.recovery or ()))
        return tuple(dict.fromkeys(name.rpartition(":")[0] for name in named if ":" in name))

    @property
    def methods(self) -> tuple[Method, ...]:
        """The full factorial."""
        names = (self.grouping, self.importance or (None,), self.allocation, self.recovery or (None,))
        return tuple(starmap(Method.of, product(*map(dict.fromkeys, names))))


def _check_allowed(modules: Sequence[str], info: ValidationInfo) -> None:
    """Importing runs code, so what a file says is imported on the user's word alone."""
    if modules and not (info.context or {}).get(ALLOW):
        raise ValueError(
            f"it names code to import, '{modules[0]}': if you trust that, add --allow-plugins, in Python "
            "allow_plugins=True"
        )


def _entry(value: Any) -> Any:
    return {"controller": value} if isinstance(value, str) else value


class SweepConfig(_Frozen):
    """A sweep: every controller by every method by every sparsity by every seed, and each controller dense.

    ``sparsities`` are asked of all components together, each in [0, 1); 0 stands for the dense controller, which is
    always measured. ``seeds`` drive random importance and the calibration episodes. ``episodes`` are evaluated a cell,
    on the environment seeds ``episode_seed``, ``episode_seed + 1``, ... No group of units falls below ``min_width``.
    ``only`` names components and flows to prune one at a time while everything else stays dense, or ``deployed`` for
    all that acts together; sparsities are then asked of that. Empty: the whole controller is pruned. ``budgets`` are
    shares of components and flows to be met beside each sparsity, ``{critic: 0.5, flow: 0}``, each compared with the
    others; ``{}`` is none. ``steps`` are numbers of steps to prune in, along a ``schedule``; libraries' pruners take no
    budgets, and ``unstructured`` no steps: they stand beside as they come. ``recovery_budget`` are the steps that a
    recovery which runs the task may take (distill: batches); None: as many as it takes by itself. ``stability`` are the
    independent starts of each check of the loops' stability, on the tasks that have a goal to come to rest at; None: it
    is not recorded. ``plugins`` are modules to import first, which name methods, plants or loaders
    (`prunectl.plugins`). ``timeout`` are the seconds after which a cell, or a piece of work that cells share, is given
    up and recorded as failed.

    Validated in a context that allows it (`config_of`), it imports the modules that it names.
    """

    plugins: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()  # first: names are looked up once it is imported
    controllers: Annotated[
        tuple[Annotated[ControllerEntry, BeforeValidator(_entry)], ...], BeforeValidator(listed), Field(min_length=1)
    ]
    methods: Annotated[tuple[MethodEntry, ...], BeforeValidator(listed), Field(min_length=1)]
    sparsities: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], BeforeValidator(listed), Field(min_length=1)]
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, le=MOST_SEED)], ...], BeforeValidator(listed), Field(min_length=1)
    ] = (0,)
    episodes: Annotated[int, Field(ge=1, le=MOST_EPISODE_SEED)] = 10
    episode_seed: Annotated[int, Field(ge=0, le=MOST_EPISODE_SEED)] = 0
    min_width: Annotated[int, Field(ge=1)] = 1
    only: Annotated[tuple[str, ...], BeforeValidator(listed)] = ()
    budgets: Annotated[tuple[Shares, ...], BeforeValidator(listed), Field(min_length=1)] = ({},)
    steps: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_STEPS)], ...], BeforeValidator(listed)] = (1,)
    schedule: Literal["geometric", "linear"] = "geometric"
    recovery_budget: Annotated[int, Field(ge=1)] | None = None
    stability: Annotated[int, Field(ge=1, le=MOST_STARTS)] | None = None
    timeout: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _keeps_seeds_apart(self) -> Self:
        try:
            check_reported(self.episodes, self.episode_seed)
        except Error as error:
            raise ValueError(str(error)) from error
        return self

    @field_validator("plugins")
    @classmethod
    def _are_imported(cls, modules: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        _check_allowed(modules, info)
        import_plugins(modules)
        return tuple(dict.fromkeys(modules))

    @field_validator("controllers")
    @classmethod
    def _only_what_is_there(cls, entries: tuple[ControllerEntry, ...]) -> tuple[ControllerEntry, ...]:
        there = tuple(entry for entry in entries if entry.is_there)
        if not there:
            raise ValueError("every controller is optional, and the environment variables of none are set")
        return there

    @field_validator("stability")
    @classmethod
    def _can_show_something(cls, starts: int | None) -> int | None:
        if starts is not None and starts < FEWEST:
            raise ValueError(
                f"of {starts} starts not even none that fails shows fewer than {TOLERATED:.0%} at {CONFIDENCE:.0%} "
                f"confidence: ask for {FEWEST} or more, or leave it out"
            )
        return starts

    @model_validator(mode="after")
    def _can_be_counted(self) -> Self:
        if self.only and any(self.budgets):
            raise ValueError(
                "only: one component or flow is pruned alone, so there is nothing to give others by budgets"
            )
        listed = math.prod(map(len, (self.expanded_methods, self.budgets, self.steps)))
        shares = self.pruned_sparsities, set(self.seeds), set(self.only) or {""}
        cells = len(self.controllers) * (1 + listed * math.prod(map(len, shares)))
        if cells > MOST_CELLS:
            raise ValueError(f"it asks for {cells} cells; a sweep has {MOST_CELLS} at most")
        return self

    @property
    def expanded_methods(self) -> tuple[Method, ...]:
        """All methods in the order of the file, each once."""
        return tuple(dict.fromkeys(method for entry in self.methods for method in entry.methods))

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All methods, each with the budgets and the steps that it can be asked for, each once."""
        return variants(self.expanded_methods, self.budgets, self.steps, self.schedule, self.recovery_budget)

    @property
    def modules(self) -> tuple[str, ...]:
        """All modules of plug-ins that it names, one by one or with a method."""
        return tuple(dict.fromkeys((*self.plugins, *(module for entry in self.methods for module in entry.modules))))

    @property
    def pruned_sparsities(self) -> tuple[float, ...]:
        """The sparsities above 0, rising, each once."""
        return tuple(sorted({sparsity for sparsity in self.sparsities if sparsity > 0}))


def load_config(path: Path, allow_plugins: bool = False) -> SweepConfig:
    """Read a sweep's YAML file.

    Args:
        path: the file.
        allow_plugins: import the modules that it names, on the user's word.

    Raises:
        ConfigError: not YAML, a key twice, an unknown key or name, a value out of range, an environment variable that
            is not set, modules to import that are not allowed or cannot be.
        OSError: the file cannot be read, or is larger than a config is.
    """
    return config_of(read_yaml(path, LARGEST_CONFIG)[1], str(path), allow_plugins)


def read_yaml(path: Path, limit: int) -> tuple[str, Any]:
    """The text of a YAML file of at most ``limit`` bytes, and its plain data, each key once.

    Raises:
        ConfigError: not YAML, a key twice, or a value without end.
        OSError: the file cannot be read, or is larger.
    """
    raw = read_bounded(path, limit)
    try:
        text = raw.decode()
        return text, yaml.load(text, Loader=_Loader)  # _Loader is a SafeLoader
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except Exception as error:  # PyYAML lets through whatever a date or a number raises
        raise ConfigError(f"{path}: not YAML: {one_line(error)}") from error


def config_of(data: Any, where: str, allow_plugins: bool = False) -> SweepConfig:
    """Check a sweep that is plain data already; errors begin with ``where`` it is from.

    Raises:
        ConfigError: an unknown key or name, a value out of range, an environment variable that is not set, or modules
            to import that nobody allowed.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: not a sweep: it needs the keys controllers, methods and sparsities")
    try:
        return SweepConfig.model_validate(dict(data), context={ALLOW: allow_plugins})
    except ValidationError as error:
        # A mistyped key is told before the key that is missing because of it.
        first, *others = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigError(f"{where}: {_explain(first)}{more}") from error


class _Loader(yaml.SafeLoader):
    """Plain data, each key once; PyYAML would take the last of two in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            # `<<` copies a mapping into another; copies of copies grow without bound.
            if key.tag == "tag:yaml.org,2002:merge":
                raise ConfigError(f"line {_line(key)}: `<<` is not read: write the keys out")
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                where = f"in lines {lines[key.value]} and {_line(key)}"
                raise ConfigError(f"the key '{key.value[:60]}' is there twice, {where}: keep one")
            if isinstance(key, yaml.ScalarNode):
                lines[key.value] = _line(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if len(node.value) > LONGEST_SCALAR:
            raise ConfigError(f"line {_line(node)}: a value of {len(node.value)} characters; {LONGEST_SCALAR} are read")
        return super().construct_scalar(node)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def substitute(text: str) -> str:
    """``text`` with every ``${NAME}`` replaced by that environment variable.

    Raises:
        ConfigError: one of them is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise ConfigError(f"the environment variable {name} is not set: run it as {name}=... prunectl sweep ...")
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def _explain(error: ErrorDetails) -> str:
    """One line: which key, what is wrong with it, what is allowed."""
    where = _path(error["loc"])
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        allowed = _keys(error["loc"][:-1])
        near = difflib.get_close_matches(key, allowed, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"{where}: unknown key; allowed are {', '.join(allowed)}{hint}"
    if error["type"] == "missing":
        return f"{where}: this key is missing"
    if error["type"] == "value_error":  # raised by us: its own words say what is allowed
        return f"{where}: {error['ctx']['error']}"
    given = error["input"]
    shown = f", got {reprlib.repr(given)}" if isinstance(given, int | float | str) else ""
    if error["loc"][0] == "sparsities" and error["type"] in ("greater_than_equal", "less_than"):
        return f"{where}: a sparsity lies in [0, 1){shown}"
    return f"{where}: {error['msg'][:1].lower()}{error['msg'][1:]}{shown}"


def _path(location: Sequence[int | str]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


def _keys(location: Sequence[int | str]) -> Iterable[str]:
    inner: dict[int | str, type[_Frozen]] = {"controllers": ControllerEntry, "methods": MethodEntry}
    return list((inner[location[0]] if location else SweepConfig).model_fields)

"""One table a kind of everything that goes by a name, and the plug-ins that add to it."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.machinery
import inspect
import linecache
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from prunectl.errors import Error

T = TypeVar("T")

#: The entry points by which installed packages say which of their modules name something.
GROUP = "prunectl.plugins"
#: A plug-in's name stands between `` + `` in labels and behind ``module:`` on the command line.
NAME = r"[^\s:+,]{1,60}"


class PluginError(Error):
    """A plug-in that cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Plugin:
    """Where something that does not come with prunectl is from.

    ``module`` is what has to be imported for it, ``digest`` a SHA-256 of the file that its function is written in;
    empty where that cannot be read. ``file`` and ``function`` say which function of which file it is.
    """

    kind: str
    name: str
    module: str
    version: str
    digest: str
    file: str = field(compare=False)
    function: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of {self.module}"


#: Every table by its kind.
REGISTRIES: dict[str, Registry[Any]] = {}


class Registry(Mapping[str, T]):
    """What there is of one kind, by name: what comes with prunectl in its own order, then what plug-ins have added.

    As a mapping it holds what is registered now; `find` and `names` also ask the packages that are installed.

    Attributes:
        kind: what the entries are, in a word.
        builtin: the names that come with prunectl.
    """

    def __init__(self, kind: str, entries: Mapping[str, T], error: type[Error], names: str = NAME) -> None:
        """``error`` is what a name that does not exist raises, ``names`` the pattern of what plug-ins may be called."""
        self.kind, self.builtin = kind, tuple(entries)
        self._entries, self._error, self._pattern = dict(entries), error, names
        self._plugins: dict[str, Plugin] = {}
        REGISTRIES[kind] = self

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def bring(self, name: str, entry: T) -> None:
        """Add one that comes with prunectl, from the module that it is written in."""
        self._entries[name] = entry
        self.builtin += (name,)

    def add(self, name: str, entry: T, function: Callable[..., Any], version: str) -> None:
        """Add a plug-in's. The same function of the same module may come again: a notebook's cell, a module reloaded.

        Args:
            name: what it goes by.
            entry: what is found under that name.
            function: what the plug-in wrote.
            version: goes up when the same name begins to mean another computation.

        Raises:
            PluginError: a name that is taken or cannot be one, or something that is no function.
        """
        if not inspect.isfunction(function):
            raise PluginError(f"{self.kind} '{name}': a function is needed, not {type(function).__name__}")
        file = function.__code__.co_filename
        plugin = Plugin(self.kind, name, function.__module__, version, _digest(function), file, function.__qualname__)
        if not re.fullmatch(self._pattern, name):
            raise PluginError(f"{plugin}: a name is up to 60 characters without spaces, colons, commas and plus signs")
        if name in self.builtin:
            raise PluginError(f"{plugin}: that name is one of prunectl's own: choose another")
        before = self._plugins.get(name)
        if before is not None and not _same_place(before, plugin):
            raise PluginError(f"{plugin}: {before.module} has named one so already: rename one of them")
        self._entries[name], self._plugins[name] = entry, plugin

    def plugin(self, name: str) -> Plugin | None:
        """Where a registered name is from; None for what comes with prunectl, and for what nobody has registered."""
        return self._plugins.get(name)

    def offers(self, name: str) -> bool:
        """Whether it is there, or an installed package has it."""
        if name not in self._entries:
            discover()
        return name in self._entries

    def find(self, name: str) -> T:
        """What goes by that name, here or in an installed package.

        Raises:
            Error: of the registry's own type: nothing does; the message offers the nearest name.
        """
        if not self.offers(name):
            broken = "".join(f"; {complaint}" for complaint in discover())
            raise self._error(f"{unknown(self.kind, name, self)}{broken}")
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """All there are, those of installed packages too."""
        discover()
        return tuple(self)

    def named(self, name: str) -> str:
        """The bare name of ``module:name``, once that module has been imported: whoever calls this vouches for it.

        Raises:
            PluginError: the module cannot be imported, or it registers nothing by that name.
        """
        module, colon, bare = name.rpartition(":")
        if colon:
            import_plugins([module])
            if bare not in self._plugins:
                own = [name for name, plugin in self._plugins.items() if _inside(plugin.module, module)]
                offer = f"it names {', '.join(own)}" if own else f"it names no {self.kind}"
                raise PluginError(f"module '{module}' names no {self.kind} '{bare}': {offer}")
        return bare


def unknown(kind: str, name: str, there: Iterable[str]) -> str:
    """What to say of a name that nothing goes by; it offers the nearest one that something does."""
    names = list(there)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    offer = f"did you mean '{near[0]}'? " if near else ""
    return f"unknown {kind} '{name:.60}': {offer}there are {', '.join(names)}"


def import_plugins(modules: Iterable[str]) -> None:
    """Import modules, which register what they name. They are code that runs: whoever calls this vouches for them.

    Raises:
        PluginError: one cannot be found or imported.
    """
    for module in modules:
        try:
            import_named(module)
        except Error:
            raise
        except (Exception, SystemExit) as error:  # whatever the module's own code raises
            missing = isinstance(error, ModuleNotFoundError) and error.name and _inside(module, error.name)
            if missing:
                raise _no_module(module) from error
            raise PluginError(f"module '{module}' cannot be imported ({one_line(error)})") from error


def check_module(module: str) -> None:
    """Raise PluginError where it is plain that `import_plugins` would not find a module; nothing is imported."""
    top = module.partition(".")[0]
    if top not in sys.modules and importlib.machinery.PathFinder.find_spec(top, [*sys.path, os.getcwd()]) is None:
        raise _no_module(module)


def _no_module(module: str) -> PluginError:
    return PluginError(
        f"there is no module '{module}': run prunectl in its folder, name the folder in PYTHONPATH, or install it as a "
        "package"
    )


def import_named(module: str) -> None:
    """Import a module that the user names, which may lie in the working folder."""
    search_working_folder()
    importlib.import_module(module)


def search_working_folder() -> None:
    """Let modules be found where the user stands, from when they vouch for what lies there. Before, nothing is imported
    from it: what asks for a package may be a stranger's file, which has brought one along."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)


@cache
def discover() -> tuple[str, ...]:
    """Import what installed packages offer, once; the complaints about those that cannot be.

    Raises:
        PluginError: two of them give one name.
    """
    complaints = []
    for entry in sorted(entry_points(group=GROUP)):
        try:
            entry.load()
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            complaints.append(f"the installed plug-in '{entry.name}' ({entry.value}) is broken ({one_line(error)})")
    return tuple(complaints)


def one_line(error: BaseException) -> str:
    """An exception in one line: our own speak for themselves, others name their type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, Error) else f"{type(error).__name__}: {text[:200]}".removesuffix(": ")


def _digest(function: Callable[..., Any]) -> str:
    """Of the whole file: what the function calls there decides what it does, too."""
    file = inspect.unwrap(function).__code__.co_filename
    linecache.checkcache(file)  # it may have been read before it was edited
    source = "".join(linecache.getlines(file, inspect.unwrap(function).__globals__))
    return hashlib.sha256(source.encode()).hexdigest() if source else ""


def _same_place(one: Plugin, other: Plugin) -> bool:
    return one.function == other.function and (one.module == other.module or one.file == other.file)


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")

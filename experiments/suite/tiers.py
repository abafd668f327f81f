"""The tiers of the suite: sweeps that are fixed but for their methods."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from prunectl.experiments.sweeping.bundled import bundled_configs
from prunectl.experiments.sweeping.config import ALLOW, ConfigError, MethodEntry, SweepConfig, load_config
from prunectl.pruning import Method
from prunectl.pruning.method import TABLES
from prunectl.registry import import_plugins, unknown

#: Goes up when a tier's controllers, tasks, sparsities, seeds, episodes or budgets change: what was measured on one
#: version is not held against another.
SUITE = "suite-1"

#: A method by the kinds of names that are its own; the defaults of sweeps stand for the others.
Names = Mapping[str, str]


@dataclass(frozen=True)
class Tier:
    """A sweep of the suite, and what it takes."""

    name: str
    about: str

    @property
    def config(self) -> Path:
        """Its sweep, with the methods that are published."""
        return bundled_configs()[f"suite/{self.name}"]


TIERS: Mapping[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier("quick", "one controller of each family, one pruning seed, 10 episodes: minutes"),
        Tier("standard", "three trainings of each of six kinds, three pruning seeds, 50 episodes: a night"),
        Tier("full", "the same, two more world models and every agent of RL Baselines3 Zoo's in $ZOO that falls late"),
    )
}


def tier_of(name: str) -> Tier:
    """The tier of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in TIERS:
        raise ConfigError(unknown("tier", name, TIERS))
    return TIERS[name]


def method_names(said: str) -> Names:
    """What ``--method`` says: names separated by commas, each alone or as ``KIND=NAME``; ``module:name`` is a
    plug-in's, and imports the module, on the user's word.

    Raises:
        ConfigError: a name that no table has, or two do, a kind that is none, or one that is named twice.
        PluginError: a module that cannot be imported.
    """
    names: dict[str, str] = {}
    for part in (part.strip() for part in said.split(",")):
        kind, equals, name = part.rpartition("=")
        kind = kind.strip() if equals else _kind_of(name)
        if kind not in TABLES:
            raise ConfigError(f"--method {said}: '{kind}' is none of {', '.join(TABLES)}")
        if kind in names:
            raise ConfigError(f"--method {said}: two of one kind, {kind} {names[kind]} and {name}")
        names[kind] = name.strip()
    return names


def _kind_of(name: str) -> str:
    module, colon, bare = name.rpartition(":")
    if colon:
        import_plugins([module])
    kinds = [kind for kind, table in TABLES.items() if table.offers(bare)]
    if not kinds:
        every = [known for table in TABLES.values() for known in table]
        near = difflib.get_close_matches(bare, every, n=1)
        offer = f"did you mean '{near[0]}'?" if near else "there are " + ", ".join(every)
        raise ConfigError(f"--method: no grouping, importance, allocation or recovery is called '{bare}': {offer}")
    if len(kinds) > 1:
        raise ConfigError(f"--method: '{bare}' is {' and '.join(kinds)}: write {kinds[0]}={name}")
    return kinds[0]


def settings_of(tier: Tier, methods: Sequence[Names], allow_plugins: bool = False) -> SweepConfig:
    """The tier's sweep with these methods in the place of those that are published; with none, as it stands.

    Args:
        tier: of the suite.
        methods: by kind; what is not named has the default of sweeps.
        allow_plugins: import the modules that the methods name, on the user's word.

    Raises:
        ConfigError: modules to import that nobody allowed.
        PruningError: names that make no method.
    """
    settings = load_config(tier.config)
    if not methods:
        return settings
    entries = []
    for names in methods:
        modules = [name.rpartition(":")[0] for name in names.values() if ":" in name]
        if modules and not allow_plugins:
            raise ConfigError(
                f"the methods name code to import, '{modules[0]}': if you trust that, add --allow-plugins, in Python "
                "allow_plugins=True"
            )
        Method.of(**names)  # tells in its own words what is wrong
        entries.append(MethodEntry.model_validate(dict(names), context={ALLOW: allow_plugins}))
    return settings.model_copy(update={"methods": tuple(entries)})


def checked_names(data: object, where: str) -> Names:
    """A method's names as a file has them.

    Raises:
        ConfigError: something else.
    """
    kinds = {field.name for field in fields(Method)}
    if not isinstance(data, Mapping) or not set(data) <= kinds or not all(isinstance(n, str) for n in data.values()):
        raise ConfigError(f"{where}: a method is a mapping of {', '.join(sorted(kinds))} to names, not {data!s:.60}")
    return dict(data)

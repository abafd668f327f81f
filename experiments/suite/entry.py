"""An entry of the suite: a sweep's folder that says which tier and which methods it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prunectl.agents.files import replacing
from prunectl.experiments.suite.tiers import SUITE, Names, Tier, checked_names, tier_of
from prunectl.experiments.sweeping.bundled import LARGEST_CONFIG
from prunectl.experiments.sweeping.config import ConfigError, read_yaml

#: Beside the store.
FILE = "entry.yaml"
#: The longest command and citation that a table has room for.
LONGEST = 2_000


@dataclass(frozen=True)
class Entry:
    """What an entry says of itself.

    ``methods`` are by kind, as `method_names` gives them; none: those that the tier publishes. ``command`` computes it,
    ``citation`` says whose the methods are, for people.
    """

    tier: Tier
    methods: tuple[Names, ...]
    command: str
    citation: str = ""


def write_entry(folder: Path, entry: Entry) -> None:
    """Leave it beside the store; the citation of one that is there already stays.

    Raises:
        ConfigError: the folder is another entry's, or it says what no reader takes.
        OSError: it cannot be written.
    """
    path = folder / FILE
    _check_lines(path, entry.command, entry.citation)
    if path.is_file():
        there = read_entry(folder)
        if (there.tier, there.methods) != (entry.tier, entry.methods):
            raise ConfigError(f"{path}: the folder is the entry of other methods: choose another one with --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    said: Mapping[str, Any] = {
        "suite": SUITE,
        "tier": entry.tier.name,
        "methods": [dict(names) for names in entry.methods],
        "command": entry.command,
        "citation": entry.citation,
    }
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(said, sort_keys=False, width=110), encoding="utf-8")


def read_entry(folder: Path) -> Entry:
    """What an entry's folder says of itself.

    Raises:
        ConfigError: it is no entry, or one of another version of the suite.
        OSError: it cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"{path}: there is none, so this is no entry of the suite: `prunectl suite run` makes one")
    _, data = read_yaml(path, LARGEST_CONFIG)
    if not isinstance(data, Mapping) or not isinstance(data.get("methods"), list):
        raise ConfigError(f"{path}: it does not say what an entry does: suite, tier, methods, command, citation")
    if data.get("suite") != SUITE:
        raise ConfigError(f"{path}: an entry of {data.get('suite')!s:.40}; this is {SUITE}: run it anew")
    command, citation = (str(data.get(name) or "") for name in ("command", "citation"))
    _check_lines(path, command, citation)
    methods = tuple(checked_names(names, str(path)) for names in data["methods"])
    return Entry(tier_of(str(data.get("tier"))), methods, command, citation)


def _check_lines(path: Path, command: str, citation: str) -> None:
    if not all(text.isprintable() and len(text) <= LONGEST for text in (command, citation)):
        raise ConfigError(f"{path}: command and citation are a line of at most {LONGEST:,} characters each")

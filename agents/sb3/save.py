"""A controller of any widths as an ordinary Stable-Baselines3 zip."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from prunectl.agents.files import replacing
from prunectl.agents.sb3.architecture import pad_twins, policy_arguments
from prunectl.agents.sb3.blueprint import Blueprint, build
from prunectl.agents.sb3.extractor import OURS, stock_form
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.agents.surroundings import Surroundings

#: The file inside the zip that Stable-Baselines3 passes over and `agents.load` reads.
SIDECAR = "prunectl.json"


def save_zip(
    path: Path,
    blueprint: Blueprint,
    networks: nn.Module,
    normalisation: Normalisation | None,
    rewards: RewardScale | None,
    surroundings: Surroundings | None,
    provenance: Mapping[str, Any],
) -> tuple[str, ...]:
    """Write the zip, with fresh optimisers and no replay buffer; plain ``ALGO.load(path)`` reads it.

    SB3 builds all critics from one architecture. Where a method left twins of different widths, the narrower one gets
    dead units (zero weights in and out), which change no output.

    Returns:
        Remarks for the user, one a line: padding, statistics, and extractor classes that need prunectl to load.
    """
    padded, dead = pad_twins(networks.state_dict())
    widths = policy_arguments(padded, blueprint.algorithm, blueprint.action_space).get("features_extractor_kwargs", {})
    fixed, state = stock_form(blueprint.policy_kwargs, widths, padded)
    model = build(replace(blueprint, policy_kwargs=fixed), state)
    sidecar = {
        "algorithm": blueprint.algorithm,
        "normalisation": None if normalisation is None else normalisation.as_json(),
        "rewards": None if rewards is None else asdict(rewards),
        **({} if surroundings is None else {"surroundings": surroundings.as_json()}),
        **provenance,
    }
    with replacing(path) as temporary:
        with temporary.open("wb") as stream:
            model.save(stream)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(SIDECAR, json.dumps(sidecar, indent=1))
    remarks = []
    if dead:
        remarks.append(f"the twin critics differ in width: {dead} dead units make the zip load in plain SB3")
    if normalisation is not None:
        remarks.append(f"observation statistics are in the zip's {SIDECAR}; plain SB3 wants normalised observations")
    kind = fixed.get("features_extractor_class")
    if kind in OURS:
        remarks.append(f"it uses prunectl's {kind.__name__}: loading it in plain SB3 needs prunectl installed")
    return tuple(remarks)

"""Where exactly reading stops: what lies on a bound is read, what lies one beyond it is refused."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SaveTiny

from prunectl.agents import ControllerError
from prunectl.agents.files import read_bounded
from prunectl.agents.pickles import PickleError, read_pickle
from prunectl.agents.sb3 import blueprint as blueprints
from prunectl.agents.sb3.archive import blueprint, read_archive
from prunectl.agents.sb3.blueprint import _Bounded, build
from prunectl.agents.surroundings import LONGEST, plain_settings
from prunectl.agents.tdmpc.checkpoint import LARGEST_DRAW, check_planning
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.trusted import is_trusted


def test_the_longest_rollout_has_2_to_the_28_numbers(save_tiny: SaveTiny) -> None:
    archive = read_archive(save_tiny("ppo", "CartPole-v1"))  # of four numbers an observation

    def said(steps: int) -> int:
        return int(blueprint(replace(archive, data={**archive.data, "n_steps": steps}), "here")[0].settings["n_steps"])

    assert said(2**26) == 2**26
    assert said(1) == 1
    for steps in (2**26 + 1, 0):
        with pytest.raises(ControllerError, match=f"its rollouts are said to have {steps} steps"):
            said(steps)


def test_networks_may_be_as_large_as_the_bound_in_all() -> None:
    with _Bounded(12 + 6):
        torch.empty((3, 4))
        torch.zeros(2, 3)
    with _Bounded(12 + 5):
        torch.empty((3, 4))
        with pytest.raises(ValueError, match="larger than the weights"):
            torch.ones(2, 3)
    with pytest.raises(ValueError, match="larger than the weights"), _Bounded(11):
        torch.empty(3, 4)


def test_the_bound_is_twice_the_weights_and_a_little(save_tiny: SaveTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = []

    class Noted(_Bounded):
        def __init__(self, most: int) -> None:
            bounds.append(most)
            super().__init__(most)

    archive = read_archive(save_tiny("ppo", "CartPole-v1", widths=(8,)))
    monkeypatch.setattr(blueprints, "_Bounded", Noted)
    build(*blueprint(archive, "here"))
    # Actor 4-8-2 and value 4-8-1 with their biases: 58 + 49.
    assert bounds == [2 * 107 + 10_000]


@pytest.mark.parametrize(
    ("operations", "read"),
    [
        (b"ccollections\nOrderedDict\n)R.", OrderedDict()),
        (b"ccollections\nOrderedDict\n]R.", None),  # arguments that are no tuple: Python's own would not call either
        (b"ccollections\nOrderedDict\n}R.", None),
        (b"})R.", None),  # nothing that can be called
        (b"})\x81.", None),
        (b"ccollections\nOrderedDict\n)\x81.", OrderedDict()),
    ],
)
def test_a_pickle_calls_admitted_names_with_tuples_alone(operations: bytes, read: object) -> None:
    def call() -> object:
        return read_pickle(io.BytesIO(b"\x80\x02" + operations), lambda module, name: OrderedDict)

    if read is not None:
        assert call() == read
        return
    with pytest.raises(PickleError, match="it calls what is no name"):
        call()


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"mode": "hard", "gain": 0.5, "shape": [1, 2], "none": None, "on": True}, True),
        ({"name": "x" * LONGEST}, True),
        ({"name": "x" * (LONGEST + 1)}, False),
        ({"list": [0] * LONGEST}, True),
        ({"list": [0] * (LONGEST + 1)}, False),
        ({"number": 2**53 - 1}, True),
        ({"number": 2**53}, False),
        *(({"path": f"a{mark}b"}, False) for mark in "/\\:~\n"),
    ],
)
def test_settings_are_words_and_numbers_of_bounded_length(given: dict[str, object], plain: bool) -> None:
    assert plain_settings(given) is plain


def test_a_planner_draws_ten_million_numbers_at_most() -> None:
    # One step, one iteration, one number an action: as many as there are samples.
    settings = {"horizon": 1, "iterations": 1, "num_elites": 1, "mixture_coef": 0.0}
    check_planning(Planning(num_samples=LARGEST_DRAW, **settings), 1, "here")  # type: ignore[arg-type]
    with pytest.raises(ControllerError, match="here: a decision would draw 10000001 numbers"):
        check_planning(Planning(num_samples=LARGEST_DRAW + 1, **settings), 1, "here")  # type: ignore[arg-type]
    few = {"horizon": 1, "iterations": 1, "num_elites": 1, "num_samples": 4}
    check_planning(Planning(mixture_coef=1.0, **few), 1, "here")  # type: ignore[arg-type]
    with pytest.raises(ControllerError, match="here: a decision would draw 4 numbers"):
        check_planning(Planning(mixture_coef=1.25, **few), 1, "here")  # type: ignore[arg-type]
    for nothing in ({"horizon": 0}, {"iterations": 0}, {"num_elites": 0}):
        with pytest.raises(ControllerError, match="must be"):
            Planning(**(few | nothing))  # type: ignore[arg-type]


def test_what_is_no_table_of_trusted_tasks_trusts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "prunectl" / "trusted-tasks.json"
    path.parent.mkdir()
    folder = str(tmp_path.resolve())
    for said, trusted in (({folder: ["a:B-v0"]}, True), ({folder: "a:B-v0"}, False), ([folder, "a:B-v0"], False)):
        path.write_text(json.dumps(said))
        assert is_trusted(tmp_path, "a:B-v0") is trusted


@pytest.mark.parametrize(("limit", "size"), [(2 * 2**20, "2 MiB"), (2**20, "1 MiB"), (2**20 - 1, "1023 KiB")])
def test_a_file_of_as_many_bytes_as_may_be_is_read(tmp_path: Path, limit: int, size: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * limit)
    assert len(read_bounded(path, limit)) == limit
    with path.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(OSError, match=f"over {size}, no such file is so large"):
        read_bounded(path, limit)

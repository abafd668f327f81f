"""Files that anybody may have written: nothing runs or is written, memory and time are bounded, one line is said."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import untrained, untrained_planner2
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunectl import agents, envs
from prunectl.agents import ControllerError
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.onnx_form import onnx_bytes
from prunectl.agents.deployment.program import program
from prunectl.agents.pickles import PickleError, hold, read_pickle
from prunectl.agents.sb3.statistics import read_statistics
from prunectl.agents.tdmpc import networks
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tensors import read_tensors
from tests import hostile
from tests.agents.test_tdmpc2 import authors_state, written
from tests.hostile import said

EXAMPLES = 40
Spoil = Callable[[bytes], bytes]

#: How many examples each of the fuzzers below takes: few in every run, many in `make test-all`.
DEPTHS = [EXAMPLES, pytest.param(25 * EXAMPLES, marks=pytest.mark.slow)]


def fuzz(depth: int, test: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Run ``test`` on examples, the same ones each time."""
    quiet = settings(
        max_examples=depth, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    quiet(given(*strategies)(test))()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good files of every kind, of a few units; each loads."""
    folder = tmp_path_factory.mktemp("samples")
    found = {}
    for algorithm, task in (("sac", "Pendulum-v1"), ("ppo", "CartPole-v1")):
        found[algorithm] = folder / f"{algorithm}.zip"
        untrained(algorithm, task, widths=(4, 4)).save(found[algorithm], {"task": task, "training_seed": 7})
    tiny = networks.build(3, 1, latent=4, encoder=4, hidden=4)
    box = spaces.Box(-np.ones(3, np.float32), np.ones(3, np.float32))
    planning = Planning(horizon=2, iterations=2, num_samples=8, num_elites=4)
    controller = TDMPCController(tiny, planning, 2, 1.0, box, spaces.Box(-2.0, 2.0, (1,)))
    found["tdmpc"] = folder / "tdmpc.pt"
    controller.save(found["tdmpc"], {"task": "Pendulum-v1"})
    found["tdmpc2"] = folder / "tdmpc2.pt"
    untrained_planner2().save(found["tdmpc2"], {"task": "Pendulum-v1"})
    found["run"] = _run_folder(folder)
    found["normalised"] = folder / "normalised.zip"
    agents.load(found["run"]).controller.save(found["normalised"], {})
    for path in found.values():
        hostile.use(agents.load(path).controller)  # imports what is imported late, before anybody watches
    found["onnx"] = folder / "exported.onnx"
    network = program(controller.deployed_path(), 3)
    found["onnx"].write_bytes(onnx_bytes(network, Interface.of(controller).as_json({"task": "Pendulum-v1"})))
    agents.load(found["onnx"]).controller.act(np.zeros((1, 3)))
    return found


def _run_folder(folder: Path) -> Path:
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    run = folder / "ppo" / "CartPole-v1_1"
    (run / "CartPole-v1").mkdir(parents=True)
    untrained("ppo", "CartPole-v1", widths=(4, 4)).save(run / "CartPole-v1.zip", {})
    pairs = "!!python/object/apply:collections.OrderedDict\n- - - env\n    - CartPole-v1\n  - - normalize\n    - true\n"
    for name in ("args.yml", "config.yml"):
        (run / "CartPole-v1" / name).write_text(pairs)
    VecNormalize(DummyVecEnv([lambda: envs.make("CartPole-v1")])).save(str(run / "CartPole-v1" / "vecnormalize.pkl"))
    return run


# Whatever happens to the bytes


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["sac", "tdmpc", "onnx"])
def test_spoilt_bytes(samples: dict[str, Path], tmp_path: Path, kind: str, depth: int) -> None:
    good, path = samples[kind].read_bytes(), tmp_path / samples[kind].name

    def spoilt(spoil: Spoil) -> None:
        path.write_bytes(spoil(good))
        said(path)

    fuzz(depth, spoilt, hostile.byte_edits)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("entry", ["policy.pth", "data", "pytorch_variables.pth", "prunectl.json"])
def test_spoilt_entries_of_a_good_zip(samples: dict[str, Path], tmp_path: Path, entry: str, depth: int) -> None:
    good, path = samples["sac"].read_bytes(), tmp_path / "sac.zip"

    def spoilt(spoil: Spoil) -> None:
        path.write_bytes(hostile.with_entry(good, entry, spoil))
        said(path)

    fuzz(depth, spoilt, hostile.byte_edits)


@pytest.mark.parametrize("depth", DEPTHS)
def test_spoilt_structure_of_good_tensors(samples: dict[str, Path], tmp_path: Path, depth: int) -> None:
    good, path = samples["sac"].read_bytes(), tmp_path / "sac.zip"

    def spoilt(spoil: Spoil) -> None:
        path.write_bytes(hostile.with_entry(good, "policy.pth", lambda raw: hostile.with_structure(raw, spoil)))
        said(path)

    fuzz(depth, spoilt, hostile.byte_edits)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", ["args.yml", "config.yml", "vecnormalize.pkl"])
def test_spoilt_files_of_a_run(samples: dict[str, Path], name: str, depth: int) -> None:
    path = samples["run"] / "CartPole-v1" / name
    good = path.read_bytes()

    def spoilt(spoil: Spoil) -> None:
        path.write_bytes(spoil(good))
        said(samples["run"])

    try:
        fuzz(depth, spoilt, hostile.byte_edits)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("kind", "entry"), [("sac", "data"), ("ppo", "data"), ("normalised", "prunectl.json")])
def test_odd_values_in_the_json_of_a_zip(
    samples: dict[str, Path], tmp_path: Path, kind: str, entry: str, depth: int
) -> None:
    good, path = samples[kind].read_bytes(), tmp_path / f"{kind}.zip"

    def spoilt(spoil: Callable[[Any], Any]) -> None:
        path.write_bytes(hostile.with_entry(good, entry, lambda raw: json.dumps(spoil(json.loads(raw))).encode()))
        said(path)

    fuzz(depth, spoilt, hostile.json_edits)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("kind", ["tdmpc", "tdmpc2"])
def test_odd_values_in_the_settings_of_tdmpc(samples: dict[str, Path], tmp_path: Path, kind: str, depth: int) -> None:
    content, path = torch.load(samples[kind], weights_only=True), tmp_path / "tdmpc.pt"

    def spoilt(spoil: Callable[[Any], Any]) -> None:
        torch.save({**content, "config": json.dumps(spoil(json.loads(content["config"])))}, path)
        said(path)

    fuzz(depth, spoilt, hostile.json_edits)


@pytest.mark.parametrize("depth", DEPTHS)
def test_odd_values_in_what_an_export_says_of_itself(samples: dict[str, Path], tmp_path: Path, depth: int) -> None:
    model, path = onnx.load_model(samples["onnx"]), tmp_path / "exported.onnx"
    good = json.loads(model.metadata_props[0].value)

    def spoilt(spoil: Callable[[Any], Any]) -> None:
        model.metadata_props[0].value = json.dumps(spoil(good))
        path.write_bytes(model.SerializeToString())
        said(path)

    fuzz(depth, spoilt, hostile.json_edits)


def test_constants_that_would_make_more_numbers_than_they_have(samples: dict[str, Path], tmp_path: Path) -> None:
    model, path = onnx.load_model(samples["onnx"]), tmp_path / "wide.onnx"
    wide = onnx.numpy_helper.from_array(np.zeros((4000, 1, 1), np.float32), "wide")
    model.graph.initializer.append(wide)
    model.graph.node.append(onnx.helper.make_node("Add", [model.graph.output[0].name, "wide"], ["more"]))
    model.graph.output[0].name = "more"
    onnx.save_model(model, path)
    with pytest.raises(ControllerError, match="'wide' has 3 dimensions"):
        agents.load(path)


@pytest.mark.parametrize("depth", DEPTHS)
def test_odd_values_beside_an_authors_state_dict(authors: Path, depth: int) -> None:
    good = json.loads((authors / "config.json").read_text())

    def spoilt(spoil: Callable[[Any], Any]) -> None:
        (authors / "config.json").write_text(json.dumps(spoil(good)))
        said(authors)

    fuzz(depth, spoilt, hostile.json_edits)


@pytest.mark.slow
def test_odd_values_beside_an_authors_state_dict_of_tdmpc2(tmp_path: Path) -> None:
    written(tmp_path, authors_state(untrained_planner2(), older=False), episode_length=500, simnorm_dim=8)
    good = json.loads((tmp_path / "config.json").read_text())

    def spoilt(spoil: Callable[[Any], Any]) -> None:
        (tmp_path / "config.json").write_text(json.dumps(spoil(good)))
        said(tmp_path / "agent.pt")

    fuzz(400, spoilt, hostile.json_edits)


@pytest.fixture
def authors(samples: dict[str, Path], tmp_path: Path) -> Path:
    """The TD-MPC sample as its authors' code would save it."""
    from prunectl.agents.tdmpc.checkpoint import _AUTHORS

    state = torch.load(samples["tdmpc"], weights_only=True)["networks"]
    model = {}
    for ours, (theirs, _) in _AUTHORS.items():
        prefix = f"online.{ours}."
        model |= {name.replace(prefix, f"{theirs}."): value for name, value in state.items() if name.startswith(prefix)}
    torch.save({"model": model}, tmp_path / "agent.pt")
    config = {"task": "Pendulum-v1", "action_repeat": 2, "action_scale": 2.0, "num_samples": 8, "num_elites": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    hostile.use(agents.load(tmp_path).controller)
    return tmp_path


# Pickles


@pytest.mark.parametrize("depth", DEPTHS)
def test_pickles_put_together_from_opcodes(samples: dict[str, Path], tmp_path: Path, depth: int) -> None:
    zip_, statistics = tmp_path / "sac.zip", tmp_path / "vecnormalize.pkl"
    good = samples["sac"].read_bytes()

    def assembled(pickled: bytes) -> None:
        statistics.write_bytes(pickled)
        with hostile.watched(), pytest.raises(ControllerError):
            read_statistics(statistics)
        zip_.write_bytes(
            hostile.with_entry(good, "policy.pth", lambda raw: hostile.with_structure(raw, lambda _: pickled))
        )
        assert said(zip_) is not None

    fuzz(depth, assembled, hostile.pickles)


def test_every_way_to_call_everything_calls_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vecnormalize.pkl"
    for pickled in hostile.calls():
        path.write_bytes(pickled)
        with hostile.watched():
            with pytest.raises(ControllerError):
                read_statistics(path)
            for raw in (pickled, hostile.zipped({"archive/data.pkl": pickled})):
                with pytest.raises(ControllerError):
                    read_tensors(raw)
    assert not Path("/tmp/prunectl-ran").exists()


def test_keys_that_take_for_ever_to_hash_are_refused() -> None:
    nested = b")" + b"q\x00h\x00h\x00\x86" * 60  # ((..., ...), (..., ...)): 2^60 leaves in 300 bytes
    with hostile.watched(), pytest.raises(PickleError, match="no text"):
        read_pickle(io.BytesIO(b"\x80\x02}" + nested + b"Ns."), lambda module, name: hold)


#: A list, and tuples in tuples of 2^60 leaves, remembered as the first.
NESTED = b"](" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"e"


@pytest.mark.parametrize(
    "ending",
    [
        b"ccollections\nOrderedDict\n]h\x00N\x86a\x85R.",
        b"h\x00\x8c\x01a\x93.",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuh\x00tQ.",
    ],
    ids=["hashed", "as a name", "as a length"],
)
def test_nothing_asks_for_the_text_or_the_hash_of_what_has_no_end(ending: bytes) -> None:
    raw = hostile.zipped({"archive/data.pkl": b"\x80\x04" + NESTED + ending})
    with hostile.watched(), pytest.raises(ControllerError):
        read_tensors(raw)


def test_keys_of_the_older_form_are_text() -> None:
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {})]
    raw = b"".join(parts) + b"\x80\x02" + NESTED + b"]h\x00a." + bytes(8)
    with hostile.watched(), pytest.raises(ControllerError, match="no text"):
        read_tensors(raw)


def test_a_table_is_not_copied_as_often_as_a_file_likes() -> None:
    table = b"}q\x00(" + b"".join(b"X\x04\x00\x00\x00%04dN" % number for number in range(5_000)) + b"u"
    copies = b"]q\x01(" + b"ccollections\nOrderedDict\nh\x00\x85R" * 2_000 + b"e."
    with hostile.watched(), pytest.raises(ControllerError):
        read_tensors(hostile.zipped({"archive/data.pkl": b"\x80\x02" + table + copies}))


def test_a_pickle_of_too_many_operations() -> None:
    with hostile.watched(), pytest.raises(PickleError, match="over 200000 operations"):
        read_pickle(io.BytesIO(b"\x80\x02" + b"]" * 300_000 + b"."), lambda module, name: hold)


def test_plain_data_is_read_as_it_was() -> None:
    import pickle

    data = {"a": [1, -2, 2**70, 0.5, "text", b"bytes", None, True, (1, 2, 3, 4), ()], "b": {"c": [[], {}]}}
    for protocol in (2, 3, 4, 5):
        stream = io.BytesIO(pickle.dumps(data, protocol=protocol) + b"rest") if protocol > 2 else None
        if stream is not None:
            assert read_pickle(stream, lambda module, name: hold) == data
            assert stream.read() == b"rest"


# Tensors


@pytest.mark.parametrize("new", [True, False])
def test_tensors_are_read_as_pytorch_reads_them(new: bool) -> None:
    wide = torch.arange(12.0).reshape(3, 4)
    data = {
        "a": wide,
        "transposed": wide.T,
        "part": wide[1:, 2],
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(2, dtype=torch.float16),
        "whole": torch.tensor([2**60]),
        "truth": torch.tensor([True, False]),
        "text": "kept",
    }
    stream = io.BytesIO()
    torch.save(data, stream, _use_new_zipfile_serialization=new)
    read = read_tensors(stream.getvalue())
    assert read.keys() == data.keys()
    for name, value in data.items():
        assert read[name] == value if name == "text" else torch.equal(read[name], value)
        assert name == "text" or read[name].dtype == value.dtype


def _lying(count: int, size: int, stride: int = 1, new: bool = True) -> bytes:
    """A tensor of 4 numbers that claims a storage of ``count`` and a shape ``(size,)``."""
    stream = io.BytesIO()
    torch.save({"a": torch.arange(4.0)}, stream, _use_new_zipfile_serialization=new)

    def lie(raw: bytes) -> bytes:
        long = [b"\x8a\x08" + struct.pack("<q", number) for number in (count, size, stride)]
        after = b"t" if new else b"N"  # the number of elements ends the storage's tuple, or stands before a None
        raw = raw.replace(b"K\x04" + after, long[0] + after)
        return raw.replace(b"K\x04\x85", long[1] + b"\x85").replace(b"K\x01\x85", long[2] + b"\x85")

    return hostile.with_structure(stream.getvalue(), lie) if new else lie(stream.getvalue())


@pytest.mark.parametrize(
    ("count", "size", "stride"),
    [(10**9, 10**9, 1), (4, 10**9, 0), (4, 10**12, 0), (-1, 4, 1), (2**62, 4, 1), (4, -4, 1)],
)
@pytest.mark.parametrize("new", [True, False])
def test_sizes_are_not_believed(count: int, size: int, stride: int, new: bool) -> None:
    with hostile.watched(), pytest.raises(ControllerError, match=r"storage|shape|numbers"):
        read_tensors(_lying(count, size, stride, new))


def test_records_that_unpack_to_more() -> None:
    bomb = hostile.zipped(
        {**hostile.entries_of(_lying(2**20, 2**20)), "archive/data/0": bytes(2**26)}, zipfile.ZIP_DEFLATED
    )
    assert len(bomb) < 2**17
    with hostile.watched(), pytest.raises(ControllerError, match="unpack"):
        read_tensors(bomb)


# Zips


def _patched(raw: bytes, name: str, at: int, packed: bytes) -> bytes:
    """Bytes of the central directory's record of an entry, ``at`` its offset, replaced."""
    start = raw.rindex(b"PK\x01\x02", 0, raw.rindex(name.encode()))
    return raw[: start + at] + packed + raw[start + at + len(packed) :]


def _zips(good: bytes) -> dict[str, bytes]:
    entries = hostile.entries_of(good)
    whole = hostile.zipped(entries)
    end = whole.rindex(b"PK\x05\x06")
    bomb = {**entries, "data": b'{"a": "' + b"0" * 2**26 + b'"}'}
    empty_lists = {**entries, "data": b"[" + b"[]," * 2**23 + b"[]]"}
    return {
        "a bomb": hostile.zipped(bomb, zipfile.ZIP_DEFLATED),
        "a bomb of lists": hostile.zipped(empty_lists, zipfile.ZIP_DEFLATED),
        "a size that lies": _patched(hostile.zipped(bomb, zipfile.ZIP_DEFLATED), "data", 24, struct.pack("<I", 100)),
        "a size beyond": _patched(whole, "policy.pth", 20, struct.pack("<II", 2**32 - 2, 2**32 - 2)),
        "an encrypted entry": _patched(whole, "policy.pth", 8, struct.pack("<H", 1)),
        "an unknown compression": _patched(whole, "policy.pth", 10, struct.pack("<H", 99)),
        "an offset beyond": _patched(whole, "policy.pth", 42, struct.pack("<I", 2**31)),
        "an offset of another": _patched(whole, "policy.pth", 42, struct.pack("<I", 0)),
        "a directory beyond": whole[: end + 12] + struct.pack("<II", 2**31, 2**31) + whole[end + 20 :],
        "a directory before": whole[: end + 12] + struct.pack("<II", 10, 2**32 - 1) + whole[end + 20 :],
        "many entries": hostile.zipped(entries | {f"{number:x}": b"" for number in range(30_000)}),
        "bytes before": b"PK" * 1000 + whole,
    }


def test_zips_that_lie(samples: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "sac.zip"
    for what, raw in _zips(samples["sac"].read_bytes()).items():
        path.write_bytes(raw)
        line = said(path)
        assert (line is None) == (what == "bytes before"), (what, line)


def test_names_in_a_zip_are_no_paths(samples: dict[str, Path], tmp_path: Path) -> None:
    inner = tmp_path / "deep" / "deeper"
    inner.mkdir(parents=True)
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(inner / "sac.zip", "w") as archive:
        for name, content in hostile.entries_of(samples["sac"].read_bytes()).items():
            archive.writestr(name, content)
        for name in ("../outside", f"{tmp_path}/absolute", "a/../../outside", link):
            archive.writestr(name, "/etc/passwd")
    before = sorted(tmp_path.rglob("*"))
    assert said(inner / "sac.zip") is None
    assert sorted(tmp_path.rglob("*")) == before


# Sizes that a file asks for


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("_shape", "(1000000000,)", "at most 1048576 numbers"),
        ("_shape", "(100000, 100000)", "at most 1048576 numbers"),
        ("dtype", "V1000000000", "numbers are supported"),
        ("dtype", "object", "numbers are supported"),
    ],
)
def test_spaces_out_of_all_bounds(samples: dict[str, Path], tmp_path: Path, key: str, value: str, says: str) -> None:
    path = tmp_path / "sac.zip"

    def change(raw: bytes) -> bytes:
        data = json.loads(raw)
        data["observation_space"][key] = value
        return json.dumps(data).encode()

    path.write_bytes(hostile.with_entry(samples["sac"].read_bytes(), "data", change))
    assert says in str(said(path))


def test_layers_that_would_outgrow_their_weights(samples: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "sac.zip"

    def change(raw: bytes) -> bytes:
        state = torch.load(io.BytesIO(raw), weights_only=True)
        for layer in (0, 2):  # two of 100,000 units: SB3 would put 40 GB between them
            state[f"actor.latent_pi.{layer}.weight"] = torch.zeros(100_000, 1)
        stream = io.BytesIO()
        torch.save(state, stream)
        return stream.getvalue()

    path.write_bytes(hostile.with_entry(samples["sac"].read_bytes(), "policy.pth", change))
    assert "larger than the weights" in str(said(path))


def test_a_rollout_out_of_all_bounds(samples: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "ppo.zip"
    change = json.dumps(json.loads(hostile.entries_of(samples["ppo"].read_bytes())["data"]) | {"n_steps": 10**10})
    path.write_bytes(hostile.with_entry(samples["ppo"].read_bytes(), "data", lambda _: change.encode()))
    assert "10000000000 steps" in str(said(path))


@pytest.mark.parametrize(
    "change",
    [
        {"planning": {"num_samples": 10**9}},
        {"planning": {"horizon": 10**9}},
        {"planning": {"temperature": float("nan")}},
        {"planning": {"mixture_coef": 1e6}},
        {"action_repeat": 0},
        {"action_repeat": "2"},
        {"action_space": {"low": [float("nan")], "high": [1.0]}},
        {"observation_space": {"low": [0.0] * 4, "high": [1.0] * 4}},
        {"action_space": {"low": [2.0], "high": [2.0]}},
        {"action_space": {"low": [2.0], "high": [-2.0]}},
        {"action_space": {"low": [-3e38], "high": [3e38]}},
        {"format": "9" * 3000},
        {"planning": {"num_samples": 10**6, "num_elites": 4, "horizon": 10, "iterations": 2}},
        {"task": 5},
        {"task": "a\x1b[2Jb"},
        {"plan": "none"},
    ],
)
def test_settings_of_tdmpc_that_no_decision_can_be_made_with(
    samples: dict[str, Path], tmp_path: Path, change: dict[str, Any]
) -> None:
    content = torch.load(samples["tdmpc"], weights_only=True)
    config = json.loads(content["config"])
    for key, value in change.items():
        config[key] = config[key] | value if key == "planning" else value
    torch.save({**content, "config": json.dumps(config)}, tmp_path / "tdmpc.pt")
    assert said(tmp_path / "tdmpc.pt") is not None


# YAML of a run


def _laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        _laughs(40) + "\nnormalize: *a39\nenv: *a39",
        "a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 40)),
        "[" * 5_000,
        "{" * 5_000,
        "env: " + "1:" * 2_000 + "1",
        "env: " + "9" * 30_000,
        "env: 2001-99-99",
        "env: !!python/object/apply:os.system [touch /tmp/prunectl-ran]",
        "env: !!python/name:os.system",
        "env: &a [*a]",
        "env: 'a\\nb'\n? [x]\n: 1",
        'env: "\\e[2J"',
        "x" * 2**17,
    ],
)
def test_yaml_of_a_run(samples: dict[str, Path], text: str) -> None:
    folder = samples["run"] / "CartPole-v1"
    good = (folder / "args.yml").read_bytes()
    try:
        for name in ("args.yml", "config.yml"):
            (folder / name).write_text(text)
        said(samples["run"])
        # Without statistics the text of `normalize` is looked at too.
        (folder / "vecnormalize.pkl").rename(folder / "aside")
        said(samples["run"])
    finally:
        for name in ("args.yml", "config.yml"):
            (folder / name).write_bytes(good)
        (folder / "aside").rename(folder / "vecnormalize.pkl")
    assert not Path("/tmp/prunectl-ran").exists()


# Things that are no files


@pytest.mark.parametrize("name", ["a.zip", "a.pt"])
def test_what_never_ends_is_not_read(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert "no regular file" in str(said(tmp_path / name))
    (tmp_path / "zero").mkdir()
    (tmp_path / "zero" / name).symlink_to("/dev/zero")
    assert "no regular file" in str(said(tmp_path / "zero" / name))
    assert "no regular file" in str(said(tmp_path / "zero"))


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.zip").symlink_to(tmp_path / "b.zip")
    (tmp_path / "b.zip").symlink_to(tmp_path / "a.zip")
    for reference in (tmp_path, tmp_path / "a.zip"):
        assert said(reference) is not None


def test_a_folder_of_very_many_checkpoints(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.zip").touch()
    assert "1995 more" in str(said(tmp_path))


def test_pipes_beside_a_checkpoint(samples: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "sac.zip").write_bytes(samples["sac"].read_bytes())
    for name in ("args.yml", "config.yml", "vecnormalize.pkl"):
        os.mkfifo(tmp_path / name)
    assert said(tmp_path / "sac.zip") is None

"""Sweeps that are killed, interrupted, or run out of disk: nothing is lost, nothing is there by half."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import yaml
from gymnasium import spaces

from prunectl import agents
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.report.write import draw_report
from prunectl.experiments.sweeping.store import FILE, Store
from tests.conftest import SaveTiny
from tests.experiments.clusters import COMMAND
from tests.experiments.sweeping.test_sweep import without_times

SMALL = {
    "methods": [{"grouping": ["global", "component"], "importance": ["magnitude", "surgeon"], "recovery": "none"}],
    "sparsities": [0.2, 0.4, 0.6],
    "episodes": 4,
}
CELLS = 1 + 2 * 2 * 3


def sweep_command(folder: Path, controller: Path | str, **changes: object) -> list[str]:
    """The command of a small sweep whose results go to ``folder``."""
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump({"controllers": [str(controller)], **SMALL, **changes}))
    return [*COMMAND, "sweep", str(path), "--workers", "1", "--out", str(folder)]


def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **settings)  # type: ignore[call-overload,no-any-return]


@pytest.mark.slow
def test_twenty_kills_at_random_moments_leave_the_table_of_a_sweep_never_killed(balancer: Path, tmp_path: Path) -> None:
    """At any moment: while loading, while workers start, between a cell's rows, while exporting."""
    whole = tmp_path / "whole"
    started = time.monotonic()
    assert run(sweep_command(whole, balancer)).returncode == 0
    length = time.monotonic() - started
    expected = without_times(pd.read_parquet(whole / "results.parquet"))
    generator = random.Random(0)
    killed = tmp_path / "killed"
    landed = 0
    for _ in range(20):
        driver = subprocess.Popen(
            sweep_command(killed, balancer),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(generator.uniform(0, length))
        # The whole session or the driver alone, whose workers then end by themselves.
        kill = os.killpg if generator.random() < 0.5 else os.kill
        if driver.poll() is None:
            landed += 1
            kill(driver.pid, signal.SIGKILL)
        driver.wait()
        if (killed / FILE).is_file():
            with Store.reading(killed) as store:
                table = store.results()
            assert table["key"].is_unique
            assert (table["status"] == "done").all()
            assert table["mean_return"].notna().all()
        for name, read in (("results.parquet", pd.read_parquet), ("results.csv", pd.read_csv)):
            if (killed / name).is_file():
                assert len(read(killed / name)) == CELLS
        if landed and len(expected) == CELLS and (killed / "results.parquet").is_file():
            for path in killed.iterdir():  # done: the next kill meets a sweep that begins anew
                path.unlink()
    assert landed >= 10
    assert run(sweep_command(killed, balancer)).returncode == 0
    resumed = without_times(pd.read_parquet(killed / "results.parquet"))
    pd.testing.assert_frame_equal(resumed, expected, check_exact=True)
    assert [path.name for path in killed.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(balancer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = sweep_command(out, balancer, episodes=20)
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not done(out):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert "Traceback" not in said
    assert f"of {CELLS} cells are done; the same command goes on from here" in said
    assert len(pd.read_csv(out / "results.csv")) == done(out) < CELLS
    wait_for_nobody(driver.pid)


def wait_for_nobody(group: int) -> None:
    """Until no process of the group is left."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes are left")


def done(folder: Path) -> int:
    if not (folder / FILE).is_file():
        return 0
    with Store.reading(folder) as store:
        return len(store.done())


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, or a skip, where this process may not mount one."""
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk needs to be root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_sweep_goes_on_when_there_is_room(balancer: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=512k") as small:
        filler = small / "filler"
        filler.write_bytes(b"x" * 330_000)
        command = sweep_command(small / "out", balancer)
        full = run(command)
        assert full.returncode == 2, full.stderr
        assert full.stderr.strip().splitlines()[-1].startswith("prunectl: ")
        assert "Traceback" not in full.stderr
        before = done(small / "out")
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
        again = run(command)
        assert again.returncode == 0, again.stderr
        assert f"{CELLS} cells, {before} done already" in again.stderr
        with Store.reading(small / "out") as store:
            assert len(store.done()) == CELLS
            assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_a_read_only_folder_is_one_line(balancer: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "size=8m") as folder:
        command = sweep_command(folder / "out", balancer)
        assert run(command).returncode == 0
        before = {path: path.read_bytes() for path in (folder / "out").iterdir()}
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for tried in (command, [*COMMAND, "report", str(folder / "out")]):
            refused = run(tried)
            assert refused.returncode == 2, refused.stderr
            (line,) = refused.stderr.strip().splitlines()[-1:]
            assert line.startswith(f"prunectl: {folder}")
            assert "Traceback" not in refused.stderr
        with Store.reading(folder / "out") as store:  # a report of it may go elsewhere
            assert len(store.done()) == CELLS
            files, _ = draw_report(store, tmp_path)
        assert tmp_path / "report.html" in files
        assert {path: path.read_bytes() for path in (folder / "out").iterdir()} == before


@pytest.mark.slow
def test_two_sweeps_on_one_folder_the_second_is_refused(balancer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = subprocess.Popen(sweep_command(out, balancer, episodes=20), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (out / FILE).is_file():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second = run(sweep_command(out, balancer))
        assert second.returncode == 2
        assert second.stderr.strip() == (
            f"prunectl: {out}: another sweep is writing here (process {first.pid}): wait or stop it"
        )
    finally:
        assert first.wait(timeout=120) == 0
    assert done(out) == CELLS


class Undefined(gym.Env[np.ndarray, int]):
    """A task whose reward stops being a number after a while."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,))
    action_space = spaces.Discrete(2)

    def reset(self, **settings: object) -> tuple[np.ndarray, dict[str, object]]:  # type: ignore[override]
        self.steps = 0
        return np.zeros(4, dtype=np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, object]]:
        self.steps += 1
        return np.zeros(4, dtype=np.float32), float("nan") if self.steps > 5 else 1.0, False, False, {}


def test_a_return_that_is_not_a_number_is_an_error_and_not_a_zero(save_tiny: SaveTiny) -> None:
    gym.register("Undefined-v0", Undefined, max_episode_steps=10)
    try:
        controller = agents.load(save_tiny("ppo", "CartPole-v1")).controller
        with pytest.raises(ValueError, match=r"the rewards of Undefined-v0 are not numbers.*seed 3"):
            evaluate(controller, "Undefined-v0", [3])
    finally:
        del gym.registry["Undefined-v0"]

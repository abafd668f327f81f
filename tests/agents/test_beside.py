"""What lies beside a checkpoint: its statistics, its run's settings, other checkpoints of the run."""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib.common.wrappers import TimeFeatureWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import prunectl
from prunectl import agents, envs
from prunectl.agents import ControllerError, Loaded
from prunectl.agents.deployment.metadata import Interface, read
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.surroundings import TIME_FEATURE
from prunectl.errors import Error
from prunectl.experiments.episodes.evaluator import environments, evaluate
from tests.conftest import untrained

PAIRS = "!!python/object/apply:collections.OrderedDict\n"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip that Stable-Baselines3 wrote itself, of CartPole."""
    path = tmp_path_factory.mktemp("stock") / "stock.zip"
    PPO("MlpPolicy", envs.make("CartPole-v1"), n_steps=8, policy_kwargs={"net_arch": [4]}, seed=0, device="cpu").save(
        path
    )
    return path


def place(stock: Path, folder: Path, *zips: str, statistics: Mapping[str, float] | None = None) -> None:
    """Copies of the zip under these names, and files of statistics with these means."""
    for name in zips:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stock, folder / name)
    for name, mean in (statistics or {}).items():
        save_statistics(folder / name, "CartPole-v1", mean)


def save_statistics(path: Path, task: str, mean: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wrapped = VecNormalize(DummyVecEnv([lambda: envs.make(task)]))
    wrapped.obs_rms.mean = np.full(wrapped.observation_space.shape, mean)  # type: ignore[union-attr, arg-type]
    wrapped.save(str(path))


def configure(folder: Path, args: str = "", config: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "args.yml").write_text(PAIRS + "- - - env\n    - CartPole-v1\n" + args)
    if config:
        (folder / "config.yml").write_text(PAIRS + config)


def mean_of(loaded: Loaded) -> float | None:
    assert isinstance(loaded.controller, SB3Controller)
    found = loaded.controller.normalisation
    return None if found is None else float(found.mean[0])


# Statistics


@pytest.mark.parametrize(
    "name", ["vec_normalize.pkl", "vecnormalize.pkl", "agent_vecnormalize.pkl", "vecnormalize_agent.pkl", "VecNorm.pkl"]
)
def test_statistics_beside_a_zip_are_used_and_it_is_said(stock: Path, tmp_path: Path, name: str) -> None:
    place(stock, tmp_path, "agent.zip", statistics={name: 3.0})
    loaded = agents.load(tmp_path / "agent.zip")
    assert mean_of(loaded) == 3.0
    assert any(str(tmp_path / name) in remark and "normalised" in remark for remark in loaded.remarks)
    plain = agents.load(stock)
    assert (mean_of(plain), plain.remarks) == (None, ())
    assert loaded.digest != plain.digest


def test_checkpoints_of_a_callback_have_the_statistics_of_their_own_step(stock: Path, tmp_path: Path) -> None:
    zips = [f"rl_model_{steps}_steps.zip" for steps in (100, 1000, 300)]
    place(stock, tmp_path, *zips, statistics={f"rl_model_vecnormalize_{n}_steps.pkl": n / 100 for n in (100, 1000)})
    assert [mean_of(agents.load(tmp_path / name)) for name in zips[:2]] == [1.0, 10.0]
    for name in (zips[2], "best_model.zip"):
        shutil.copy(stock, tmp_path / name)
        with pytest.raises(ControllerError, match=r"rl_model_vecnormalize_1000?_steps\.pkl.*--normalisation FILE"):
            agents.load(tmp_path / name)


def test_several_candidates_are_an_error_that_names_them(stock: Path, tmp_path: Path) -> None:
    place(stock, tmp_path, "agent.zip", statistics={"vec_normalize.pkl": 1.0, "vecnormalize.pkl": 2.0})
    with pytest.raises(ControllerError, match=r"vec_normalize\.pkl, vecnormalize\.pkl: say which"):
        agents.load(tmp_path / "agent.zip")
    assert mean_of(agents.load(tmp_path / "agent.zip", normalisation=tmp_path / "vecnormalize.pkl")) == 2.0


def test_statistics_of_another_agent_are_not_taken(stock: Path, tmp_path: Path) -> None:
    place(stock, tmp_path, "a.zip", "b.zip", statistics={"b_vecnormalize.pkl": 1.0})
    save_statistics(tmp_path / "vecnormalize.pkl", "Pendulum-v1", 5.0)  # of three numbers, not of four
    assert [mean_of(agents.load(tmp_path / name)) for name in ("a.zip", "b.zip")] == [None, 1.0]


@pytest.mark.parametrize("name", ["best_model.zip", "rl_model_4000_steps.zip", "CartPole-v1.zip"])
def test_a_runs_other_checkpoints_have_its_task_and_statistics(stock: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "CartPole-v1_1"
    place(stock, run, "CartPole-v1.zip", name, statistics={"CartPole-v1/vecnormalize.pkl": 2.0})
    configure(run / "CartPole-v1", config="- - - normalize\n    - true\n")
    loaded = agents.load(run / name)
    assert (mean_of(loaded), loaded.task) == (2.0, "CartPole-v1")
    (run / "CartPole-v1" / "vecnormalize.pkl").unlink()
    with pytest.raises(ControllerError, match="observations were normalised"):
        agents.load(run / name)


def test_a_folder_beside_that_is_another_runs_says_nothing(stock: Path, tmp_path: Path) -> None:
    place(
        stock,
        tmp_path,
        "mine.zip",
        "other.zip",
        statistics={"other/vecnormalize.pkl": 1.0, "third/vecnormalize.pkl": 2},
    )
    configure(tmp_path / "other")
    configure(tmp_path / "third")
    shutil.copy(stock, tmp_path / "third" / "third.zip")
    loaded = agents.load(tmp_path / "mine.zip")
    assert (mean_of(loaded), loaded.task, loaded.remarks) == (None, None, ())


def test_a_folder_means_its_final_checkpoint(stock: Path, tmp_path: Path) -> None:
    place(stock, tmp_path, "best_model.zip", "rl_model_10_steps.zip", "rl_model_20_steps.zip")
    with pytest.raises(ControllerError, match="expected one checkpoint"):
        agents.load(tmp_path)
    untrained("ppo", "CartPole-v1", widths=(7, 7)).save(tmp_path / "final.zip", {})
    loaded = agents.load(tmp_path)
    assert "7-7" in str(loaded.controller)
    assert any("final.zip" in remark and "best_model.zip, rl_model_10_steps.zip" in remark for remark in loaded.remarks)


def test_the_hub_without_a_configuration(stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    place(stock, tmp_path, "ppo.zip", statistics={"vec_normalize.pkl": 4.0})
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda repository: ["ppo.zip", "vec_normalize.pkl"])
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name: str(tmp_path / name))
    assert mean_of(agents.load("hf://me/ppo")) == 4.0


def test_what_a_zip_of_ours_holds_is_not_looked_for(tmp_path: Path) -> None:
    untrained("ppo", "CartPole-v1").save(tmp_path / "small.zip", {})
    save_statistics(tmp_path / "vecnormalize.pkl", "CartPole-v1", 1.0)
    assert mean_of(agents.load(tmp_path / "small.zip")) is None
    told = agents.load(tmp_path / "small.zip", normalisation=tmp_path / "vecnormalize.pkl")
    told.controller.save(tmp_path / "again.zip", {})
    save_statistics(tmp_path / "vecnormalize.pkl", "CartPole-v1", 2.0)
    assert mean_of(agents.load(tmp_path / "again.zip")) == 1.0


def test_statistics_are_given_to_zips_alone(tmp_path: Path) -> None:
    with pytest.raises(ControllerError, match="zips alone"):
        agents.load("tdmpc-pendulum", normalisation=tmp_path / "vecnormalize.pkl")


# The time that is left


def swimmer(path: Path, settings: Mapping[str, Any] | None = None) -> Path:
    """A stock zip of Swimmer whose observation has one number more than the task's."""
    env = envs.make("Swimmer-v5", settings, [] if settings else [(TIME_FEATURE, {})])
    path.parent.mkdir(parents=True, exist_ok=True)
    PPO("MlpPolicy", env, n_steps=8, policy_kwargs={"net_arch": [4]}, seed=0, device="cpu").save(path)
    return path


def observed(loaded: Loaded) -> float:
    """The last number of the first observation: 1.0 is the whole time left."""
    with environments("Swimmer-v5", 1, loaded.controller) as (env,):
        return float(env.reset(seed=0)[0][-1])


def test_the_time_left_is_never_guessed(tmp_path: Path) -> None:
    path = swimmer(tmp_path / "run" / "Swimmer-v5.zip")
    with pytest.raises(ControllerError, match=r"observes 9 numbers, Swimmer-v5 gives 8.*--time-feature"):
        evaluate(agents.load(path).controller, "Swimmer-v5", (0,))
    assert observed(agents.load(path, time_feature=True)) == 1.0
    configure(tmp_path / "run" / "Swimmer-v5", config=f"- - - env_wrapper\n    - {TIME_FEATURE}\n")
    loaded = agents.load(path)
    assert observed(loaded) == 1.0
    assert any("share of the episode that is left" in remark for remark in loaded.remarks)


@pytest.mark.parametrize("wrapper", ["utils.wrappers.TimeFeatureWrapper", "rl_zoo3.wrappers.TimeFeatureWrapper"])
def test_its_older_names(tmp_path: Path, wrapper: str) -> None:
    path = swimmer(tmp_path / "Swimmer-v5.zip")
    configure(tmp_path / "Swimmer-v5", config=f"- - - env_wrapper\n    - - {wrapper}:\n          max_steps: 50\n")
    assert observed(agents.load(path)) == 1.0


def test_a_pruned_zip_carries_the_time_left(tmp_path: Path) -> None:
    loaded = agents.load(swimmer(tmp_path / "dense.zip"), time_feature=True)
    loaded.controller.save(tmp_path / "small.zip", {"task": "Swimmer-v5", "plan": {}})
    assert observed(agents.load(tmp_path / "small.zip")) == 1.0


def test_a_pruned_zip_from_before_it_was_written_down(tmp_path: Path) -> None:
    loaded = agents.load(swimmer(tmp_path / "dense.zip"), time_feature=True)
    loaded.controller.save(tmp_path / "small.zip", {"task": "Swimmer-v5", "plan": {}})
    with zipfile.ZipFile(tmp_path / "small.zip") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    said = json.loads(entries["prunectl.json"])
    for plan, old in ((True, "pruned.zip"), (False, "trained.zip")):
        kept = {key: value for key, value in said.items() if key != "surroundings" and (plan or key != "plan")}
        with zipfile.ZipFile(tmp_path / old, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, json.dumps(kept) if name == "prunectl.json" else content)
    assert observed(agents.load(tmp_path / "pruned.zip")) == 1.0
    with pytest.raises(ControllerError, match="--time-feature"):
        observed(agents.load(tmp_path / "trained.zip"))


def test_the_zoos_swimmer_names_its_wrapper(zoo: Path) -> None:
    assert observed(agents.load(zoo / "ppo" / "Swimmer-v3_1")) == 1.0


def test_an_environment_that_is_given_whole_is_taken_as_it_is(tmp_path: Path) -> None:
    loaded = agents.load(swimmer(tmp_path / "dense.zip"), time_feature=True)
    by_id = prunectl.evaluate(loaded, "Swimmer-v5", episodes=1)
    whole = prunectl.evaluate(loaded, TimeFeatureWrapper(gym.make("Swimmer-v5")), episodes=1)
    np.testing.assert_array_equal(whole.returns, by_id.returns)


def test_an_export_carries_the_time_left(tmp_path: Path) -> None:
    controller = agents.load(swimmer(tmp_path / "dense.zip"), time_feature=True).controller
    interface, _ = read(json.dumps(Interface.of(controller).as_json({})), "here")
    assert interface.surroundings == controller.surroundings
    assert interface.surroundings is not None
    assert interface.surroundings.time_feature


# Settings of the environment


def test_settings_of_the_environment_are_applied(stock: Path, tmp_path: Path) -> None:
    """One observation more because of a keyword argument: once taken for the time that is left."""
    wider = {"exclude_current_positions_from_observation": False}
    path = swimmer(tmp_path / "Swimmer-v5.zip", wider)
    configure(
        tmp_path / "Swimmer-v5", args="  - - env_kwargs\n    - exclude_current_positions_from_observation: false\n"
    )
    loaded = agents.load(path)
    with environments("Swimmer-v5", 1, loaded.controller) as (env,):
        assert env.observation_space.shape == (10,)
    assert any("exclude_current_positions_from_observation=False" in remark for remark in loaded.remarks)
    loaded.controller.save(tmp_path / "small.zip", {"task": "Swimmer-v5", "plan": {}})
    assert agents.load(tmp_path / "small.zip").controller.surroundings == loaded.controller.surroundings
    assert loaded.digest != agents.load(shutil.copy(path, tmp_path / "elsewhere.zip")).digest


def test_the_hubs_file_of_keyword_arguments(stock: Path, tmp_path: Path) -> None:
    place(stock, tmp_path, "CartPole-v1.zip")
    configure(tmp_path)
    (tmp_path / "env_kwargs.yml").write_text("sutton_barto_reward: true\n")
    surroundings = agents.load(tmp_path).controller.surroundings
    assert surroundings is not None
    assert surroundings.settings == {"sutton_barto_reward": True}


def seen(loaded: Loaded, task: str = "CartPole-v1", steps: int = 3) -> np.ndarray[Any, Any]:
    with environments(task, 1, loaded.controller) as (env,):
        observation = env.reset(seed=0)[0]
        for _ in range(steps):
            observation = env.step(1)[0]
    return np.asarray(observation)


def test_velocities_are_masked(stock: Path, tmp_path: Path) -> None:
    place(stock, tmp_path, "CartPole-v1.zip")
    whole = seen(agents.load(tmp_path / "CartPole-v1.zip"))
    configure(tmp_path / "CartPole-v1", config="- - - env_wrapper\n    - rl_zoo3.wrappers.MaskVelocityWrapper\n")
    np.testing.assert_array_equal(seen(agents.load(tmp_path / "CartPole-v1.zip")), whole * [1, 0, 1, 0])


def test_a_time_limit_of_the_run(stock: Path, tmp_path: Path) -> None:
    place(stock, tmp_path, "CartPole-v1.zip")
    limit = "- - - env_wrapper\n    - - gym.wrappers.time_limit.TimeLimit:\n          max_episode_steps: 5\n"
    configure(tmp_path / "CartPole-v1", config=limit)
    found = evaluate(agents.load(tmp_path / "CartPole-v1.zip").controller, "CartPole-v1", (0, 1))
    assert found.lengths.tolist() == [5, 5]


def test_stacked_observations_are_those_of_stable_baselines(tmp_path: Path) -> None:
    from stable_baselines3.common.vec_env import VecFrameStack

    stacked = VecFrameStack(DummyVecEnv([lambda: envs.make("CartPole-v1")]), 3)
    PPO("MlpPolicy", stacked, n_steps=8, policy_kwargs={"net_arch": [4]}, device="cpu").save(
        tmp_path / "CartPole-v1.zip"
    )
    configure(tmp_path / "CartPole-v1", config="- - - frame_stack\n    - 3\n")
    stacked.seed(0)
    expected = [stacked.reset()[0], *(stacked.step(np.array([1]))[0][0] for _ in range(3))]
    loaded = agents.load(tmp_path / "CartPole-v1.zip")
    for steps, observation in enumerate(expected):
        np.testing.assert_array_equal(seen(loaded, steps=steps), observation)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (
            "- - - env_wrapper\n    - - rl_zoo3.wrappers.ActionNoiseWrapper\n      - lab.Mine:\n          a: 1\n",
            "ActionNoiseWrapper, lab.Mine",
        ),
        ("- - - env_wrapper\n    - gymnasium.wrappers.NormalizeObservation\n", "NormalizeObservation"),
        ("- - - vec_env_wrapper\n    - lab.VecMine\n", "lab.VecMine"),
        ("- - - frame_stack\n    - 4\n  - - normalize\n    - true\n", "frame_stack"),
        ("- - - env_kwargs\n    - map: ../../etc/passwd\n", "env_kwargs map"),
    ],
)
def test_what_cannot_be_put_there_again_is_named(stock: Path, tmp_path: Path, config: str, named: str) -> None:
    place(stock, tmp_path, "CartPole-v1.zip", statistics={"CartPole-v1/vecnormalize.pkl": 0.0})
    configure(tmp_path / "CartPole-v1", config=config)
    with pytest.raises(Error, match=named):
        evaluate(agents.load(tmp_path / "CartPole-v1.zip").controller, "CartPole-v1", (0,))


def test_a_configuration_without_an_end(stock: Path, tmp_path: Path) -> None:
    """Aliases of aliases: a page of YAML that would be gigabytes of text."""
    place(stock, tmp_path, "CartPole-v1.zip")
    layers = "".join(
        f"  - - l{i}\n    - &l{i} [{', '.join([f'*l{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(30)
    )
    for key in ("env_kwargs", "env_wrapper", "vec_env_wrapper", "frame_stack", "normalize", "gym_packages"):
        configure(tmp_path / "CartPole-v1", args=f"{layers}  - - {key}\n    - {{a: *l29, b: [*l29]}}\n")
        with contextlib.suppress(ControllerError):  # or passed over, but in no time
            agents.load(tmp_path / "CartPole-v1.zip")

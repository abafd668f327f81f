"""Films: as many frames as steps say, the evaluator's own return, captions, and how an early end is shown."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from prunectl import agents
from prunectl.experiments.cli import run
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.film import CAPTION, GAP, HOLD, PANEL, WRITERS, Take, film, length, panel, scene
from tests.conftest import SaveTiny
from tests.experiments.fakes import episodes


def take(count: int, name: str = "mine", sparsity: float = 0.0, over: bool = True) -> Take:
    """Frames of 60 rows, each brighter than the one before; a reward of 1 a frame."""
    frames = [np.full((60, PANEL, 3), 50 + k, np.uint8) for k in range(count)]
    returns = [float(k) for k in range(count)]
    return Take(name, sparsity, frames, returns, 10.0, over, episodes([returns[-1]]))


def caption(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)[:CAPTION]


def picture(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image)[CAPTION:]


def test_the_return_shown_is_the_evaluators_to_the_last_bit(balancer: Path, save_tiny: SaveTiny) -> None:
    for path, over in ((balancer, False), (save_tiny("ppo", "CartPole-v1"), True)):
        loaded = agents.load(path)
        filmed = film(loaded, "CartPole-v1", 5, most_steps=90)
        plain = evaluate(loaded.controller, "CartPole-v1", (5,), most_steps=90)
        assert filmed.returns[-1] == filmed.episodes.returns[0] == plain.returns[0]
        assert filmed.episodes.lengths.tolist() == plain.lengths.tolist()
        assert filmed.over == over


def test_an_action_in_real_numbers_too(save_tiny: SaveTiny) -> None:
    loaded = agents.load(save_tiny("sac", "Pendulum-v1"))
    filmed = film(loaded, "Pendulum-v1", 3)
    assert filmed.returns[-1] == evaluate(loaded.controller, "Pendulum-v1", (3,)).returns[0]
    # 30 steps a second, every second one shown, and the start: 200 steps are 101 frames.
    assert (len(filmed.frames), filmed.rate, filmed.over) == (101, 15.0, True)
    assert {frame.shape for frame in filmed.frames} == {(PANEL, PANEL, 3)}
    assert (filmed.frames[0] != filmed.frames[50]).any()


def test_the_end_is_seen_where_the_pace_would_skip_it(balancer: Path) -> None:
    filmed = film(agents.load(balancer), "CartPole-v1", 0, most_steps=10)
    # 50 steps a second, every fourth one shown: after 0, 4, 8 steps, and the last.
    assert list(filmed.returns) == [0.0, 4.0, 8.0, 10.0]
    assert filmed.rate == 12.5
    assert filmed.frames[0].shape == (160, PANEL, 3)  # of 400 x 600
    assert not filmed.over


def test_panels_lie_side_by_side() -> None:
    takes = [take(4), take(4), take(4)]
    image = scene(takes, 2)
    assert image.size == (3 * PANEL + 2 * GAP, CAPTION + 60)
    pixels = picture(image)
    assert (pixels[:, :PANEL] == 52).all()
    assert (pixels[:, PANEL : PANEL + GAP] == 255).all()
    assert (pixels[:, PANEL + GAP : 2 * PANEL + GAP] == 52).all()


def test_one_that_ends_early_holds_its_last_frame_dimmed_with_its_final_return() -> None:
    short, long = take(3), take(8)
    assert length([short, long]) == 8 + round(HOLD * 10)
    running, ended, held, later = (panel(short, index) for index in (1, 2, 3, 7))
    assert (picture(running) == 51).all()
    assert (picture(ended) == 52).all()
    assert (picture(held) < 40).all()
    np.testing.assert_array_equal(np.asarray(held), np.asarray(later))
    # "final return 2.0" from its last frame on, while another says "return 2.0".
    np.testing.assert_array_equal(caption(ended), caption(held))
    assert (caption(ended) != caption(panel(long, 2))).any()


def test_one_that_was_broken_off_is_not_over() -> None:
    cut, whole = take(3, over=False), take(3)
    assert (picture(panel(cut, 9)) == 52).all()
    np.testing.assert_array_equal(caption(panel(cut, 9)), caption(panel(take(4), 2)))
    assert (caption(panel(cut, 9)) != caption(panel(whole, 9))).any()


def test_captions_tell_name_sparsity_and_return() -> None:
    plain = take(4)
    captions = [
        caption(panel(shown, index)).tobytes()
        for shown, index in (
            (plain, 0),
            (plain, 1),
            (replace(plain, name="other"), 0),
            (replace(plain, sparsity=0.9), 0),
            (replace(plain, sparsity=0.5), 0),
        )
    ]
    assert len(set(captions)) == len(captions)


def test_a_long_name_stays_in_its_panel() -> None:
    image = caption(panel(take(2, name="a-controller-with-a-name-that-is-longer-than-any-panel-is-wide_1"), 0))
    assert (image[:, :GAP] == 255).all()
    assert (image[:, PANEL - GAP :] == 255).all()
    other = caption(panel(take(2, name="a-controller-with-a-name-that-is-longer-than-any-panel-is-wide_2"), 0))
    assert (image != other).any()  # its end is what is kept


def test_a_gif_reads_back(tmp_path: Path) -> None:
    takes = [take(3), take(6, "small", 0.9)]
    WRITERS[".gif"](takes, tmp_path / "film")
    with Image.open(tmp_path / "film") as image:
        assert (image.format, image.size, image.info["loop"]) == ("GIF", scene(takes, 0).size, 0)
        # Scenes that are equal are written once and shown for longer: the time is what counts.
        shown: list[int] = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            shown.append(int(image.info["duration"]))
        assert sum(shown) == 100 * length(takes)
        last = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(last - np.asarray(scene(takes, length(takes) - 1)).astype(int)).max() <= 16


def test_an_mp4_reads_back(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    takes: Sequence[Take] = [take(3), take(6)]
    path = tmp_path / "film"
    WRITERS[".mp4"](takes, path)
    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert frames == length(takes)
    reader = imageio_ffmpeg.read_frames(str(path))
    assert tuple(next(reader)["size"]) == scene(takes, 0).size
    reader.close()


def test_watch_from_the_command_line(balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, out = tmp_path / "small.zip", tmp_path / "both.gif"
    method = ["--importance", "magnitude", "--recovery", "none"]
    assert run(["prune", str(balancer), "--sparsity", "0.4", *method, "-o", str(small), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    arguments = ["watch", str(balancer), str(small), "--seed", "2", "--steps", "40", "-o", str(out)]
    assert run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["film"], told["task"], told["seed"]) == (str(out), "CartPole-v1", 2)
    dense, pruned = told["takes"]
    assert (dense["sparsity_deployed"], dense["return"], dense["over"]) == (0.0, 40.0, False)
    assert pruned["sparsity_deployed"] == pytest.approx(plan["sparsity_deployed"])
    with Image.open(out) as image:
        assert image.size == (2 * PANEL + GAP, CAPTION + 160)
    before = out.read_bytes()
    assert run(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*arguments, "--force"]) == 0
    assert out.read_bytes() == before  # the same film again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.gif", "small.zip"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{balancer}", "-o", "film.avi"], ".gif or .mp4"),
        (["{balancer}", "-o", "film"], ".gif or .mp4"),
        (["{balancer}", "-o", "no/such/film.gif"], "no such folder"),
        (["{balancer}", "sac-pendulum", "-o", "film.gif"], "choose one with --task ID"),
        (["{balancer}", "--task", "Pendulum-v1", "-o", "film.gif"], "those of Pendulum-v1 are"),
        (["sac-pendulum", "--task", "MountainCarContinuous-v0", "-o", "film.gif"], "lie in"),
        (["nowhere.zip", "-o", "film.gif"], "no checkpoint 'nowhere.zip'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    arguments: list[str],
    says: str,
    balancer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["watch", *(argument.format(balancer=balancer) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert list(tmp_path.iterdir()) == []


def test_an_mp4_without_its_library_says_what_to_install(
    balancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "imageio_ffmpeg" else find(name))
    assert run(["watch", str(balancer), "-o", str(tmp_path / "film.mp4")]) == 2
    assert "pip install imageio-ffmpeg" in capsys.readouterr().err

"""Episodes as moving pictures: controllers side by side, each under its name, its sparsity and its return so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from prunectl import envs
from prunectl.agents import Loaded
from prunectl.experiments.episodes.evaluator import Episodes, environments, run
from prunectl.experiments.provenance import plan_of

#: Width of a controller's panel, and height of the caption above it, in pixels.
PANEL, CAPTION = 240, 46
#: White between panels, and around the words of a caption, in pixels.
GAP = 6
FONT_SIZE = 16
#: Frames a second, about: an environment's own rate divided by a whole number, so that time runs as it does there.
RATE = 12.5
#: Seconds that the film stays on its end.
HOLD = 1.5
#: Colours of a GIF, the same for all of its frames. Few, and no dithering: noise is what does not compress.
COLOURS = 64

BLACK, WHITE = (20, 20, 20), (255, 255, 255)


@dataclass(frozen=True)
class Take:
    """One controller's episode, filmed.

    ``sparsity`` is the deployed one, 0 for a dense controller. ``frames`` are pictures ``(height, PANEL, 3)``, from the
    start to the last step, ``rate`` of them a second of simulated time; ``returns`` has for each the sum of rewards up
    to it. ``over`` says that the episode ended by itself and was not broken off; ``episodes`` is what the evaluator
    says of it.
    """

    name: str
    sparsity: float
    frames: Sequence[NDArray[np.uint8]]
    returns: Sequence[float]
    rate: float
    over: bool
    episodes: Episodes


class Camera(gym.Wrapper[Any, Any, Any, Any]):
    """Films what the evaluator does to an environment: the start, then one step in so many."""

    def __init__(self, env: envs.Env) -> None:
        super().__init__(env)
        pace = float(env.metadata.get("render_fps") or 30)
        self.every = max(1, round(pace / RATE))
        self.rate = pace / self.every

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        answer = super().reset(seed=seed, options=options)
        self.steps, self.total, self.over = 0, 0.0, False
        self.frames: list[NDArray[np.uint8]] = []
        self.returns: list[float] = []
        self.shoot()
        return answer

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        answer = super().step(action)
        self.steps += 1
        self.total += float(answer[1])
        self.over = bool(answer[2] or answer[3])
        if self.steps % self.every == 0:
            self.shoot()
        return answer

    def shoot(self) -> None:
        """Keep what is to be seen now, as wide as a panel."""
        image = Image.fromarray(envs.picture(self.env))
        height = 2 * round(image.height * PANEL / image.width / 2)  # video codecs want even numbers
        self.frames.append(np.asarray(image.resize((PANEL, height), Image.Resampling.LANCZOS)))
        self.returns.append(self.total)


def film(loaded: Loaded, task: str, seed: int, most_steps: int | None = None) -> Take:
    """One episode, driven by the evaluator's own loop.

    Args:
        loaded: the controller, with the plan it was pruned by if it was.
        task: a task id.
        seed: of the environment and of the controller's own randomness.
        most_steps: break the episode off after so many steps; None for the whole episode.

    Raises:
        ControllerError: the controller's spaces are not the task's.
        TaskError: the task cannot be made or drawn.
    """
    plan = plan_of(loaded)
    with environments(task, 1, loaded.controller, drawn=True) as (env,):
        camera = Camera(env)
        episodes = run(loaded.controller.policy((seed,)), [camera], task, (seed,), most_steps=most_steps)
        if camera.steps % camera.every:
            camera.shoot()  # the end is always seen
        return Take(
            name=loaded.name,
            sparsity=0.0 if plan is None else plan.sparsity_deployed,
            frames=tuple(camera.frames),
            returns=tuple(camera.returns),
            rate=camera.rate,
            over=camera.over,
            episodes=episodes,
        )


def length(takes: Sequence[Take]) -> int:
    """How many scenes the takes make: the longest and a moment to look at how it ended."""
    return max(len(take.frames) for take in takes) + round(HOLD * takes[0].rate)


def scene(takes: Sequence[Take], index: int) -> Image.Image:
    """All panels side by side at one moment. One whose episode is over holds its last frame, dimmed."""
    panels = [panel(take, index) for take in takes]
    width = len(panels) * (PANEL + GAP) - GAP
    whole = Image.new("RGB", (width, max(image.height for image in panels)), WHITE)
    for place, image in enumerate(panels):
        whole.paste(image, (place * (PANEL + GAP), 0))
    return whole


def panel(take: Take, index: int) -> Image.Image:
    """A frame under its caption: the name; then the deployed sparsity and the return so far, or the final one."""
    at = min(index, len(take.frames) - 1)
    final = take.over and at == len(take.frames) - 1
    frame = take.frames[at]
    if final and index > at:
        frame = (frame * 0.55).astype(np.uint8)
    image = Image.new("RGB", (PANEL, CAPTION + len(frame)), WHITE)
    image.paste(Image.fromarray(frame), (0, CAPTION))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(FONT_SIZE)
    left, right, first, second = GAP, PANEL - GAP, 3, CAPTION // 2
    draw.text((left, first), _fitting(take.name, font, right - left), BLACK, font)
    draw.text((left, second), f"sparsity {take.sparsity:.2f}" if take.sparsity else "dense", BLACK, font)
    earned = f"{'final ' if final else ''}return {_number(take.returns[at])}"
    draw.text((right, second), earned, BLACK, font, anchor="ra")
    return image


def _save_gif(takes: Sequence[Take], path: Path) -> None:
    count = length(takes)
    samples = [np.asarray(scene(takes, index)) for index in np.linspace(0, count - 1, num=8, dtype=int).tolist()]
    palette = Image.fromarray(np.concatenate(samples)).quantize(COLOURS, Image.Quantize.MEDIANCUT)
    first, *rest = (scene(takes, i).quantize(palette=palette, dither=Image.Dither.NONE) for i in range(count))
    hundredths = max(2, round(100 / takes[0].rate))  # a GIF's clock; below two, browsers take it for ten
    first.save(path, "GIF", save_all=True, append_images=rest, duration=10 * hundredths, loop=0)


def _save_mp4(takes: Sequence[Take], path: Path) -> None:
    import imageio_ffmpeg  # type: ignore[import-untyped]  # of the extra `video`

    size = scene(takes, 0).size
    writer = imageio_ffmpeg.write_frames(
        str(path), size, fps=takes[0].rate, macro_block_size=2, output_params=["-f", "mp4"]
    )
    writer.send(None)
    for index in range(length(takes)):
        writer.send(scene(takes, index).tobytes())
    writer.close()


#: How films are written, by the ending of the file's name.
WRITERS: Mapping[str, Callable[[Sequence[Take], Path], None]] = {".gif": _save_gif, ".mp4": _save_mp4}


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """As much of the text's end as fits into the width, in pixels: the end tells files in one folder apart."""
    short = text
    while font.getlength(short) > width:
        text = text[1:]
        short = f"…{text}"
    return short

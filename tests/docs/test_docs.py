"""Every code block of the site and of the front page runs, in a folder of its own, a page from top to bottom.

A fence says what becomes of it: ``python`` is executed, ``bash`` is run line by line (``prunectl`` in this process),
anything with ``file=NAME`` is written to that file, ``text`` is what something prints. Lines for an emulated board are
passed over where there is none, and the page's test says so at its end. One that cannot run here says
``not-run: REASON`` after its language. Trainings and distillations are cut short; all else is as the page has it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt
from stable_baselines3.common.base_class import BaseAlgorithm

from prunectl.experiments.cli import run
from prunectl.experiments.episodes import task_loop
from prunectl.pruning.recovery import distill
from tests.conftest import missing

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.name != "README.md")]
#: Pages whose blocks take longer than a few seconds together.
SLOW = {
    "README",
    "choosing",
    "figures",
    "firmware",
    "images-and-memory",
    "microcontroller",
    "own-environment",
    "own-importance",
    "own-networks",
    "sweeps",
    "tutorial",
}
#: What a block may be in.
LANGUAGES = ("python", "bash", "yaml", "toml", "c", "cmake", "text", "bibtex")
#: The fewest words that a reason has.
WORDS = 3


@dataclass(frozen=True)
class Block:
    """A fence: its language, the line where it begins, and what is said of it."""

    language: str
    code: str
    line: int
    file: str | None
    reason: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The fences of a page; those of MyST's directives are none of code."""
    for token in MarkdownIt().parse(page.read_text()):
        assert token.type != "code_block", f"{page.name}:{token.map[0] + 1}: indented code: fence it, so that it runs"
        if token.type != "fence" or token.info.startswith("{"):
            continue
        language, _, said = token.info.strip().partition(" ")
        file = re.fullmatch(r"file=(\S+)", said)
        reason = re.fullmatch(r"not-run: (.+)", said)
        assert said == "" or file or reason, f"{page.name}:{token.map[0] + 1}: '{said}' means nothing"
        yield Block(language, token.content, token.map[0] + 1, file and file[1], reason and reason[1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_are_of_known_kinds_and_those_that_do_not_run_say_why(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}: '{block.language}'"
        if block.reason is not None:
            assert len(block.reason.split()) >= WORDS, f"{page.name}:{block.line}: what is the reason?"


def test_few_blocks_do_not_run() -> None:
    found = [block for page in PAGES for block in blocks(page) if block.language not in ("text", "bibtex")]
    resting = [block for block in found if block.reason is not None]
    assert len(resting) <= NOT_RUN, "raise this number only for what cannot run anywhere"
    assert len(resting) < 0.2 * len(found)


#: Blocks that install, or need a cluster, a network or a file of the reader's.
NOT_RUN = 4


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else []) for page in PAGES],
)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)
    (tmp_path / "results").symlink_to(ROOT / "results")  # the reader may stand in a clone
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded, passed_over = set(sys.modules), False
    module = ModuleType("__main__")
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.reason is not None or block.language in ("text", "bibtex"):
            continue
        if block.file is not None:
            (tmp_path / block.file).write_text(block.code)
        elif block.language == "python":
            exec(compile(block.code, where, "exec"), vars(module))
        elif block.language == "bash":
            for line in block.code.replace("\\\n", " ").splitlines():
                tools = r"cortex-m|\.elf|arm-none-eabi|^cmake"
                if (missing("cortex-m4") or shutil.which("cmake") is None) and re.search(tools, line.partition("#")[0]):
                    passed_over = True
                else:
                    shell(line, where)
        else:
            pytest.fail(f"{where}: a block of {block.language} is a file=NAME, or it is text")
    for name in set(sys.modules) - loaded:  # modules of this page's folder
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is not None and Path(origin).is_relative_to(tmp_path):
            del sys.modules[name]
    if passed_over:
        pytest.skip(f"all but what an emulated board is for: {missing('cortex-m4') or 'there is no cmake'}")


def shell(line: str, where: str) -> None:
    """One line of a shell: the command line in this process, everything else in a shell."""
    words = shlex.split(line, comments=True)
    if not words:
        return
    if words[0] == "prunectl":
        assert run(words[1:]) == 0, f"{where}: {line}"
        return
    if words[0] == "gcc" and shutil.which("gcc") is None:
        pytest.skip("there is no gcc to compile the C with")
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", line], env=os.environ | path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{where}: {line}\n{done.stdout}{done.stderr}"


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn for a moment only: what comes out is worse, and comes out the same way."""
    begin = BaseAlgorithm._setup_learn
    # A module that its function hides.
    module = sys.modules["prunectl.pruning.recovery.distill"]
    assert module.distill is distill

    def briefly(model: BaseAlgorithm, total_timesteps: int, *arguments: object, **named: object) -> object:
        return begin(model, min(total_timesteps, 600), *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(BaseAlgorithm, "_setup_learn", briefly)
    for name, batches in {"BATCHES": 40, "MOST_BATCHES": 80, "OFF_STAGE_BATCHES": 40}.items():
        monkeypatch.setattr(module, name, batches)
    monkeypatch.setattr(task_loop, "VALIDATED", 4)
    monkeypatch.setattr(task_loop, "STEPS", 2_000)

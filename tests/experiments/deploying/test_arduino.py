"""Exports for Arduino: a library whose sketches compile, run, and say whether the board answers rightly."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import prunectl
from prunectl.agents.deployment.targets import TARGETS
from tests.conftest import SaveTiny, needs_arm
from tests.experiments.deploying.test_export import failing

needs_cpp = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile the sketches with")

#: What the sketches use of Arduino's core, on a desktop; a clock that a tenth of a second passes on at each look.
STUB = """\
#include <stdio.h>
struct {
    void begin(long) {}
    void print(const char *text) { fputs(text, stdout); }
    void print(char one) { putchar(one); }
    void print(int number) { printf("%d", number); }
    void print(unsigned long number) { printf("%lu", number); }
    void print(double number) { printf("%g", number); }
    void println(const char *text) { puts(text); }
    void println(double number, int digits) { printf("%.*f\\n", digits, number); }
} Serial;
static unsigned long now = 0;
static unsigned long micros() { return now += 100000; }
static void delay(unsigned long) {}
"""
RUN = "\nint main() { (void)micros, (void)delay; setup(); loop(); loop(); return 0; }\n"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function")


def compiled(library: Path, sketch: str, folder: Path) -> Path:
    """A program of a library's sketch, as Arduino builds it: the library's C by a C compiler, the sketch as C++."""
    folder.mkdir()
    name = library.name
    (folder / "sketch.cpp").write_text(STUB + (library / "examples" / sketch / f"{sketch}.ino").read_text() + RUN)
    include = f"-I{library / 'src'}"
    subprocess.run(["gcc", "-O2", *WARNINGS, "-c", str(library / "src" / f"{name}.c")], cwd=folder, check=True)
    command = ["g++", "-std=gnu++11", *WARNINGS, include, "sketch.cpp", f"{name}.o", "-lm", "-o", "sketch"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "sketch"


def printed(program: Path) -> list[str]:
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.splitlines()


@needs_cpp
@pytest.mark.parametrize(
    ("controller", "observations", "numbers"),
    [("td3-pendulum-1", 3, 1), ("ppo-cartpole-1", 4, 1), ("recurrent-pendulum-1", 2, 1)],
    ids=["actions", "choices", "memory"],
)
def test_both_sketches_run(controller: str, observations: int, numbers: int, tmp_path: Path) -> None:
    made = prunectl.export(controller, tmp_path / "small")
    library = tmp_path / "small"
    assert {path.relative_to(library).as_posix() for path in made.paths} == {
        "library.properties",
        "src/small.c",
        "src/small.h",
        "examples/loop/loop.ino",
        "examples/check/check.ino",
        "extras/small_test.c",
    }
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    assert (properties["name"], properties["includes"]) == ("small", "small.h")
    assert f"{observations} observations to an action" in properties["sentence"]
    # Twice, since what is remembered has to be forgotten between two checks.
    for line in printed(compiled(library, "check", tmp_path / "one")):
        assert re.fullmatch(r"small: 0 wrong, largest difference 0\.0000\d+", line)
    lines = printed(compiled(library, "loop", tmp_path / "two"))
    assert len(lines) == 2
    assert all(len(line.split()) == numbers + 2 and line.endswith("100000 us") for line in lines)


@needs_cpp
def test_a_board_that_computes_otherwise_is_told(save_tiny: SaveTiny, tmp_path: Path) -> None:
    prunectl.export(str(save_tiny("td3", "Pendulum-v1")), tmp_path / "small")
    code = tmp_path / "small" / "src" / "small.c"
    code.write_text(code.read_text().replace("tanhf(", "(0.5f + "))
    wrong = {int(line.split()[1]) for line in printed(compiled(tmp_path / "small", "check", tmp_path / "one"))}
    assert 0 < min(wrong) <= 16


@needs_arm
@pytest.mark.parametrize("sketch", ["loop", "check"])
def test_a_sketch_compiles_for_a_board(sketch: str, save_tiny: SaveTiny, tmp_path: Path) -> None:
    prunectl.export(str(save_tiny("td3", "Pendulum-v1")), tmp_path / "small", bits=8)
    library, flags = tmp_path / "small", TARGETS["cortex-m4"].flags
    (tmp_path / "sketch.cpp").write_text(STUB + (library / "examples" / sketch / f"{sketch}.ino").read_text())
    for compiler, source in (("gcc", library / "src" / "small.c"), ("g++ -std=gnu++11", tmp_path / "sketch.cpp")):
        command = [*f"arm-none-eabi-{compiler}".split(), *flags, *WARNINGS, f"-I{library / 'src'}", "-c", str(source)]
        subprocess.run(command, cwd=tmp_path, check=True)


def test_a_library_is_a_new_folder(balancer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    line = failing(capsys, "export", balancer, "--format", "arduino", "-o", tmp_path / "mine")
    assert "a library goes to a new folder" in line
    assert list((tmp_path / "mine").iterdir()) == []
    assert "without an ending" in failing(capsys, "export", balancer, "--format", "arduino", "-o", tmp_path / "x.c")

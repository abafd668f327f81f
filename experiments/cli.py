"""The command line."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def root() -> None:
    """x"""


@app.command()
def train(algorithm: str, task: str = typer.Option(...), steps: int = typer.Option(...), seed: int = 0, out: str = typer.Option(..., "-o"), encoder: str = "", set_: list[str] = typer.Option([], "--set")) -> None:
    import sys
    from pathlib import Path

    import yaml

    from experiments.training import Training
    from experiments.training import train as run

    overrides = {k: yaml.safe_load(v) for k, v in (x.split("=", 1) for x in set_)}
    enc = [int(x) for x in encoder.split(",")] if encoder else []
    run(Training(algorithm, task, steps, seed, overrides, enc), Path(out), "prunectl " + " ".join(sys.argv[1:]))


def main() -> None:
    app()

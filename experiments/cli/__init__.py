"""The command line. Each command imports what it needs when it runs, so that ``prunectl --help`` answers at once."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from prunectl import __version__
from prunectl.errors import Error
from prunectl.experiments.cli import (
    bench,
    comparing,
    controllers,
    deployment,
    films,
    paper,
    stability,
    suite,
    sweeps,
    tasks,
)
from prunectl.experiments.cli.common import say
from prunectl.registry import one_line

app = typer.Typer(
    name="prunectl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make trained neural controllers smaller, component by component, and measure what that costs.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"prunectl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, help="Print the version and exit.", callback=lambda v: _version(v)),
    ] = False,
    plugins: Annotated[
        list[str] | None,
        typer.Option("--plugins", metavar="MODULE", help="Import a module that names methods; may be repeated."),
    ] = None,
) -> None:
    if plugins:
        from prunectl.registry import import_plugins

        import_plugins(plugins)


app.command("tasks")(tasks.list_tasks)
app.command("agents")(tasks.list_agents)
app.command()(controllers.inspect)
app.command()(controllers.prune)
app.command()(controllers.evaluate)
app.command()(films.watch)
app.command()(sweeps.sweep)
app.command()(sweeps.report)
app.command()(comparing.compare)
app.add_typer(suite.app, name="suite")
app.command()(paper.reproduce)
app.command()(controllers.train)
app.command()(bench.bench)
app.command()(deployment.export)
app.command()(stability.stability)


def main() -> None:
    """Run the command line and exit: 0 done, 2 the user's mistake (one line on standard error), 1 anything else."""
    # One thread for NumPy too: the same numbers as a sweep's workers, and small matrices gain nothing from two.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    # Python searches the folder where the user stands, be it a stranger's; `search_working_folder` puts it back.
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    sys.exit(run(sys.argv[1:]))


class _Remarks(logging.Handler):
    """What the user should know, on whatever standard error is by then, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        say(printable(record.getMessage()))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status. What is nobody's mistake but ours is raised."""
    log = logging.getLogger("prunectl")
    log.handlers, log.propagate = [_Remarks()], False
    log.setLevel(logging.INFO)
    try:
        status = app(arguments, standalone_mode=False)
    except typer.TyperException as error:
        print(f"prunectl: {printable(error.format_message())}", file=sys.stderr)
        return 2
    except typer.Abort:
        return 1
    except Exception as error:
        line = mistake(error)
        if line is None:
            raise
        print(f"prunectl: {printable(line)}", file=sys.stderr)
        return 2
    return status if isinstance(status, int) else 0


def printable(line: str) -> str:
    """The line with control characters as escapes: names of files can hold what a terminal obeys."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in line)


def mistake(error: Exception) -> str | None:
    """One line for an error that the user can put right, None for any other."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, Error):
        return one_line(error)
    return None

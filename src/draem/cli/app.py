"""The `draem` command: its subcommands, and how errors become messages and exit statuses."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, NoReturn

import typer

from draem.cli import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    benchmark,
    calibrate,
    datasets,
    demo,
    evaluate,
    export,
    import_upstream,
    info,
    inspect,
    simulate,
    train,
)
from draem.cli.terminal import tell
from draem.errors import DraemError, DraemWarning, TrainingInterrupted, missing_dependency

app = typer.Typer(
    name="draem",
    help="Find surface defects having only images of good parts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("train")(train.command)
app.command("evaluate")(evaluate.command)
app.command("calibrate")(calibrate.command)
app.command("inspect")(inspect.command)
app.command("simulate")(simulate.command)
app.command("export")(export.command)
app.command("import-upstream")(import_upstream.command)
app.command("info")(info.command)
app.command("datasets")(datasets.show)
app.command("convert")(datasets.convert_command)
app.command("benchmark")(benchmark.command)
app.command("demo")(demo.command)


@app.callback(invoke_without_command=True)
def version(
    ctx: typer.Context,
    show: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    """Find surface defects having only images of good parts."""
    if show:
        from draem._version import __version__

        typer.echo(f"draem {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit


def run() -> None:
    """Run the command line; errors that draem explains end with a message, not a traceback."""
    log, remarks = logging.getLogger("draem"), logging.StreamHandler()
    log.addHandler(remarks)
    log.setLevel(logging.INFO)
    show_others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, DraemWarning):
            tell(f"warning: {message}", err=True)
        else:
            show_others(message, category, *place, **more)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show
            app()
    except TrainingInterrupted as error:
        _fail(str(error), EXIT_INTERRUPTED)
    except DraemError as error:
        _fail(f"error: {error}", EXIT_BAD_INPUT)
    except ModuleNotFoundError as error:
        _fail(f"error: {missing_dependency(error, 'this')}", EXIT_BAD_INPUT)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"error: {place}{error.strerror or error}.", EXIT_BAD_INPUT)
    except MemoryError:
        _fail("error: there is not enough memory for this.", EXIT_BAD_INPUT)
    finally:
        log.removeHandler(remarks)


def _fail(message: str, status: int) -> NoReturn:
    tell(message, err=True)
    sys.exit(status)

"""The command line. Commands import what they need when they run, so that help and pages never load torch."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stablelint import __version__, ranks
from stablelint.errors import StablelintError, TargetError, UsageError
from stablelint.options import check_options, curvature_options, plot_option, run_options
from stablelint.report import FORMATS, View, terminal

_CLEAN, _FOUND, _FAILED = 0, 1, 2


class Failure(click.ClickException):
    """One sentence on stderr, and the exit code of a run that could not do its job."""

    exit_code = _FAILED

    def show(self, file: Any = None) -> None:
        """Write the sentence."""
        click.echo(f"stablelint: error: {self.format_message()}", file=file, err=file is None)


class Interrupted(Failure):
    """The user stopped the run; the exit code is the shell's for an interrupt."""

    exit_code = 130


class Application(click.Group):
    """The group of commands, and the one place where errors become sentences and exit codes."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line."""
        with ranks.one_voice():
            return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except StablelintError as error:
            raise Failure(str(error)) from error
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted") from error
        except BrokenPipeError:  # `stablelint rules | head`: nobody reads on, and Python flushes once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(_FAILED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("traceback"):
                traceback.print_exc()
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            hint = "please report it with the output of stablelint --traceback"
            raise Failure(f"this is a bug in stablelint ({what}); {hint}") from error


@click.group(
    cls=Application,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="""\b
Examples:
  stablelint check model.py
  stablelint check torchvision:resnet18 --probe
  stablelint explain unscaled-attention
""",
)
@click.version_option(__version__, prog_name="stablelint", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, hidden=True, envvar="STABLELINT_TRACEBACK")
def main(**_: Any) -> None:
    """Find out before training that a PyTorch model cannot train."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without UTF-8 gets \\xb7, not an exception
            stream.reconfigure(errors="backslashreplace")


_colour_option = click.option("--color/--no-color", "colour", default=None, help="Default: only on a terminal.")


@main.command(
    epilog="""\b
Targets:
  model.py                   every model that the file defines
  folder/                    every model of every file below it
  model.py:build             one class or factory of the file
  package.module:factory     the same, imported
  torchvision:resnet18       an architecture by name, also timm:NAME
  hf:LlamaConfig             from a transformers config, also hf:config.json,
                             hf:LlamaConfig?num_hidden_layers=80
\b
In the file of a model:
  def example_inputs()       gives a tensor, tuple or dict, or a DataLoader
  def example_loss(output)   what the probe differentiates; it may also take
                             (output, target) or (output, batch)
\b
Sweeps, of an integer argument of the factory, class or configuration:
  --what-if depth=96         from its present value to 96, about doubling
  --what-if depth=12..96     from 12 to 96
  --what-if depth=12,24,30   these
\b
Exit code: 0 clean, 1 findings at or above --fail-on, 2 a target or the
command could not be checked; what a folder holds and cannot be is shown.
"""
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@check_options
@run_options
@_colour_option
def check(
    targets: tuple[str, ...],
    format_: str,
    output: Path | None,
    verbose: bool,
    skip_without_model: bool,
    explain_target: bool,
    what_if: tuple[str, ...],
    config_file: Path | None,
    no_config: bool,
    colour: bool | None,
    **options: Any,
) -> None:
    """Check models; without TARGET those of the configuration."""
    from stablelint import api

    config = _config(config_file, no_config, options, named=bool(targets))
    specs = targets or config.targets
    if not specs:
        raise UsageError(
            "nothing to check: name a target such as model.py, or set targets in [tool.stablelint] of pyproject.toml"
        )
    with _progress() as on_progress:
        report = api.check(
            specs, config, skip_without_model=skip_without_model, what_if=what_if, on_progress=on_progress
        )
    colours = terminal.colours(colour) if output is None else bool(colour)
    width = terminal.width() if output is None else 80
    text = FORMATS[format_](report, View(width, colours, verbose, tried=explain_target))
    if output is None:
        _say(text, colours)
    else:
        _write(output, text.encode())
    failing = any(finding.level >= config.fail_on for target in report.targets for finding in target.findings)
    raise click.exceptions.Exit(_FAILED if report.failed else _FOUND if failing else _CLEAN)


@main.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@curvature_options
@plot_option
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@run_options
@_colour_option
def probe(
    targets: tuple[str, ...],
    curvature: bool,
    plot: Path | None,
    format_: str,
    config_file: Path | None,
    no_config: bool,
    colour: bool | None,
    **options: Any,
) -> None:
    """Measure a model and show the signal block by block, beside the predicted one."""
    from stablelint import api
    from stablelint.report.measured import render_measured, render_measured_json
    from stablelint.report.plot import plotter

    asked = {name: options.pop(name) for name in ("learning_rate", "clip")}
    if curvature and options.get("deep"):
        raise UsageError("--curvature and --deep are two runs; ask for one of them")
    if not curvature and any(asked.values()):
        raise UsageError("--learning-rate and --clip need --curvature")
    if curvature and plot is not None:
        raise UsageError("--plot draws the signals, which --curvature does not measure; ask for one of them")
    draw = None if plot is None else plotter(plot)
    config = _config(config_file, no_config, {**options, "probe": True}, named=True)
    config.require_one_model(targets)
    colours = terminal.colours(colour)
    code, found = _CLEAN, list[tuple[str, Any, tuple[str, ...]]]()
    for spec in targets:
        try:
            measured = (api.curvature if curvature else api.probe)(spec, config)
        except TargetError as error:
            click.echo(f"stablelint: error: {spec}: {error}", err=True)
            code = _FAILED
            continue
        found += measured
        for name, value, remarks in measured:
            if format_ == "text":
                text = render_measured(name, value, terminal.width(), colours, fine=terminal.draws_blocks(), **asked)
                _say(text + "\n", colours)
            for remark in remarks:
                click.echo(f"note: {remark}", err=True)
    if format_ == "json":
        _say(render_measured_json(found, **asked), colours)
    if plot is not None and draw is not None and found:
        _write(plot, draw(found))
    raise click.exceptions.Exit(code)


@main.command()
@click.argument("rule", metavar="RULE")
@_colour_option
def explain(rule: str, colour: bool | None) -> None:
    """Show the page of a rule, named by code or name."""
    from stablelint import rulebook
    from stablelint.report.catalogue import render_page

    colours = terminal.colours(colour)
    _say(render_page(rulebook.page(rulebook.find(rule)), colours), colours)


@main.command()
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", help="Default: text.")
@_colour_option
def rules(format_: str, colour: bool | None) -> None:
    """List all rules."""
    from stablelint import rulebook
    from stablelint.report.catalogue import render_catalogue, render_catalogue_json

    colours = terminal.colours(colour)
    entries = rulebook.catalogue()
    text = render_catalogue_json(entries) if format_ == "json" else render_catalogue(entries, terminal.width(), colours)
    _say(text, colours)


def _config(file: Path | None, none: bool, options: dict[str, Any], *, named: bool) -> Any:
    """The settings of a run; the checkpoint of the file belongs to its targets, not to those that are ``named``."""
    from stablelint.config import FAIL_ON, Config, load

    if file is not None and none:
        raise UsageError("--config and --no-config exclude each other")
    options = {name: value if value != () else None for name, value in options.items()}
    for name in ("select", "extend_select", "ignore"):
        if options.get(name):
            options[name] = [word for given in options[name] for word in given.split(",") if word.strip()]
    if options.get("fail_on"):
        options["fail_on"] = FAIL_ON[options["fail_on"]]
    config = Config() if none else load(file)
    return (replace(config, checkpoint=None) if named else config).merged(**options)


def _say(text: str, colours: bool) -> None:
    try:
        click.echo(text, nl=False, color=colours)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(f"cannot write to the output: {error.strerror or error}") from error


def _write(path: Path, content: bytes) -> None:
    if not ranks.first():
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar on stderr with the current target, only where somebody watches; it is gone when the report comes."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(done: int, total: int, name: str) -> None:
        line = f"[{'#' * (20 * done // max(total, 1)):-<20}] {done}/{total} {name}"
        room = max(shutil.get_terminal_size().columns - 1, 20)
        click.echo(f"\r\x1b[2K{line[:room]}", nl=False, err=True, color=True)

    try:
        yield show
    finally:
        click.echo("\r\x1b[2K", nl=False, err=True, color=True)


if __name__ == "__main__":
    main()

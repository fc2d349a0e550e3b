"""Options of the command line that belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stablelint.report import FORMATS


def together(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """One decorator for several, in the order of the help."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


_POSITIVE = click.FloatRange(min=0, min_open=True)

#: What one gradient at step 0 on a normal batch cannot show.
deep_option = click.option(
    "--deep", is_flag=True, default=None, help="Probe learning rates, rare samples, half precision, modes."
)
#: What ``stablelint probe`` says of curvature and step sizes.
curvature_options = together(
    click.option("--curvature", is_flag=True, help="Curvature and step sizes instead: some 150 passes."),
    click.option("--learning-rate", type=_POSITIVE, metavar="RATE", help="With --curvature: the warm-up it needs."),
    click.option("--clip", type=_POSITIVE, metavar="NORM", help="With --curvature: warn when it clips all."),
)
#: What ``stablelint probe`` draws.
plot_option = click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the blocks into a .png, .svg or .html file."
)
#: How models are run, whatever is asked of them.
run_options = together(
    deep_option,
    click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds that the probe averages over."),
    click.option(
        "--checkpoint",
        type=click.Path(exists=True, path_type=Path),
        help="Weights of the one model: safetensors, a torch file, an index or their folder.",
    ),
    click.option("--timeout", type=float, metavar="S", help="Seconds that one target may take."),
    click.option("--memory", type=float, metavar="GIB", help="Memory that one target may take."),
    click.option(
        "--config",
        "config_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read [tool.stablelint] from this file.",
    ),
    click.option("--no-config", is_flag=True, help="Read no pyproject.toml."),
)
#: What ``stablelint check`` looks for and how it tells it.
check_options = together(
    click.option("--probe/--no-probe", default=None, help="Also measure: a few backward passes."),
    click.option(
        "--what-if",
        multiple=True,
        metavar="ARG=N",
        help="Predict a sweep of an integer argument: depth=96 (see below).",
    ),
    click.option("--select", multiple=True, metavar="RULE", help="Only these rules (code, SL4 or name)."),
    click.option("--extend-select", multiple=True, metavar="RULE", help="These rules as well."),
    click.option("--ignore", multiple=True, metavar="RULE", help="Not these rules."),
    click.option("--format", "format_", type=click.Choice(list(FORMATS)), default="text", help="Default: text."),
    click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to this file."),
    click.option("--fail-on", type=click.Choice(["error", "warning"]), help="Lowest level of exit code 1 (error)."),
    click.option("--skip-without-model", is_flag=True, help="Pass over files that define no model."),
    click.option(
        "--explain-target", is_flag=True, help="Show what was tried to build each model, in place of the report."
    ),
    click.option("-v", "--verbose", is_flag=True, help="Show notes, every model and its parts, too."),
)

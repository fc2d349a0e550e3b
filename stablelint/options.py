"""Options of the command line that belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


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

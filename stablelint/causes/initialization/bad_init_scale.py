"""SL501: weights whose scale does not fit fan-in and activation, layer after layer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from stablelint.finding import Hit, Level
from stablelint.graph import Graph
from stablelint.graph.chains import Layer
from stablelint.rule import rule
from stablelint.signals.theory import gain_of
from stablelint.site import Site

#: A line that contributes less than a tenth of the decades is not worth changing.
LEAST_SHARE = 0.1


@rule(
    code="SL501",
    summary="initial weights whose scale, compounded over layers that nothing rescales, shrinks or blows up the signal",
    predicts=("vanishing-gradient", "exploding-gradient", "saturated-activation"),
    level=Level.NOTE,
)
def bad_init_scale(graph: Graph, *, max_loss: float = 4.0, max_growth: float = 2.5) -> Iterator[Hit]:
    """Multiply the layers' gains along every run without norm; both thresholds are in decades."""
    for run in graph.unscaled_runs():
        known = [(layer, gain) for layer in run.layers if (gain := _gain(layer)) is not None]
        # beyond 300 decades the exact number says nothing and 10**decades has no float
        decades = max(-300.0, min(300.0, sum(math.log10(max(gain, 1e-30)) for _, gain in known)))
        # a norm behind the run undoes any growth, and a loss until its eps (1e-5, so a std of 3e-3) takes over
        lost, grown = (-decades - 2.5, 0.0) if run.rescaled else (-decades, decades)
        if lost < max_loss and grown < max_growth:
            continue
        vanishes = decades < 0
        # only layers that are themselves off by more than a quarter take the blame
        blamed = [(layer, gain) for layer, gain in known if (gain < 0.8 if vanishes else gain > 1.25)]
        for site, layers in _by_line(blamed).items():
            first, gain = layers[0]
            if sum(math.log10(max(gain, 1e-30)) for _, gain in layers) / decades < LEAST_SHARE:
                continue
            ideal = first.weight.rms / gain if gain > 0 else 1 / math.sqrt(first.fan_in)
            yield Hit(
                site,
                f"weights of {_count(layers)} have std {first.weight.rms:.2g} at fan-in {first.fan_in}"
                f"{_before(first)}: each scales the gradient by {gain:.2g} and all {len(known)} layers of the run by "
                f"{10**decades:.1e}",
                fix=f"initialise with std {ideal:.2g} ({_recipe(first)}), or normalise between the layers",
                facts={"std": first.weight.rms, "fan_in": first.fan_in, "gain": gain, "run": 10**decades},
                span=tuple(layer.op.index for layer in run.layers),
                modules=tuple(layer.op.site.module for layer, _ in layers),
                # a signal that grows explodes, or saturates what comes next and lets nothing back
                predicts="vanishing-gradient" if vanishes else None,
            )


def _gain(layer: Layer) -> float | None:
    """What one layer with its activation does to the rms of the gradient; 1 is ideal."""
    factor = 1.0 if layer.activation is None else gain_of(layer.activation.name)
    if factor is None:
        return None
    # the geometric mean of forward and backward gain does not blame a layer for changing the width
    return math.sqrt(layer.forward_gain * layer.backward_gain) * factor


def _by_line(layers: Sequence[tuple[Layer, float]]) -> dict[Site, list[tuple[Layer, float]]]:
    """Layers by the line that initialised them, which is where the fix goes."""
    groups: dict[tuple[str | None, int | None], list[tuple[Layer, float]]] = defaultdict(list)
    sites: dict[tuple[str | None, int | None], Site] = {}
    for layer, gain in layers:
        origin = layer.weight.init_site or layer.op.site
        site = Site(layer.op.site.module, origin.file, origin.line, origin.column)
        sites.setdefault(site.line_key, site)
        groups[site.line_key].append((layer, gain))
    return {sites[key]: group for key, group in groups.items()}


def _count(layers: Sequence[tuple[Layer, float]]) -> str:
    return layers[0][0].weight.name if len(layers) == 1 else f"{len(layers)} layers"


def _before(layer: Layer) -> str:
    return f" before {layer.activation.name}" if layer.activation is not None else ""


def _recipe(layer: Layer) -> str:
    name = layer.activation.name if layer.activation is not None else "linear"
    if name in {"relu", "leaky_relu"}:
        return f"nn.init.kaiming_normal_(w, nonlinearity={name!r})"
    if name == "selu":
        return "nn.init.kaiming_normal_(w, nonlinearity='linear')"
    if name == "tanh":
        return "nn.init.xavier_normal_(w, gain=5/3)"
    return f"{1 / (gain_of(name) or 1.0):.2g}/sqrt(fan_in)"

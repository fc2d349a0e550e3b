"""SL502: parameters that start with whatever their memory held."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from stablelint.finding import Hit, Level
from stablelint.graph import Graph, Op, Parameter
from stablelint.graph.families import NORMS
from stablelint.rule import rule
from stablelint.site import Site


@rule(
    code="SL502",
    summary="a parameter that was allocated and never filled, so that it starts with whatever its memory held",
    predicts="non-finite",
)
def uninitialized_parameter(graph: Graph) -> Iterator[Hit]:
    """Report what nobody wrote, by the line that allocated it; what nothing reads does no harm and is a note."""
    lines: dict[tuple[object, bool], list[tuple[Parameter, tuple[Op, ...]]]] = defaultdict(list)
    for parameter in graph.parameters:
        if parameter.name in graph.unwritten:
            readers = graph.unwritten[parameter.name]
            lines[_place(parameter).line_key if parameter.init_site else parameter.name, bool(readers)].append(
                (parameter, readers)
            )
    for found in lines.values():
        first, readers = found[0]
        who = first.name if len(found) == 1 else f"{first.name} and {len(found) - 1} more"
        shape = "x".join(map(str, first.shape)) or "scalar"
        use = f"{readers[0].name} reads it" if readers else "nothing reads it on this path"
        yield Hit(
            _place(first),
            f"{who} ({shape}) is memory that nobody has written: it may hold zeros, 1e30 or NaN, and {use}",
            fix=f"fill it where it is made, as in {_recipe(first, readers)}",
            facts={"parameters": len(found), "elements": sum(parameter.numel for parameter, _ in found)},
            span=tuple(sorted({op.index for _, ops in found for op in ops})),
            modules=tuple(dict.fromkeys(_place(parameter).module for parameter, _ in found)),
            level=None if readers else Level.NOTE,
        )


def _place(parameter: Parameter) -> Site:
    return parameter.init_site or Site(parameter.name.rpartition(".")[0])


def _recipe(parameter: Parameter, readers: tuple[Op, ...]) -> str:
    own = f"self.{parameter.name.rpartition('.')[2]}"
    if len(parameter.shape) > 1:
        adds = any(op.name in {"embedding", "add", "cat"} for op in readers)
        return f"nn.init.normal_({own}, std=0.02)" if adds else f"nn.init.xavier_uniform_({own})"
    scales = any(op.name in NORMS | {"mul", "div"} for op in readers) and not own.endswith("bias")
    return f"nn.init.{'ones' if scales else 'zeros'}_({own})"

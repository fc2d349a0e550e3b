"""Compare the predicted gradient with the measured one, over a registry of models and generated faulty variants.

    python scripts/measure_prediction.py [--zoo models.py] [--cache FILE] [--family NAME] [--only PATTERN]

H is log10 of the gradient rms that leaves the first block over that of the last (for recurrent cases: at the first
step over that at the last), for a fixed random projection of the deepest output; classes are H < -3, between, > 3.
Truth is the geometric mean over redrawn weights, inputs and projections. With ``--cache`` only the prediction is run
again. Columns: median errors in decades of the gradient at every op, of the values, and of the parameters' gradients;
CPU seconds of the prediction, and over those of one forward and backward pass.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from prediction_ablation import ABLATIONS, ablated
from prediction_cases import Case, registry
from prediction_compare import along_trunk, compare, op_by_op
from prediction_graphs import Graphs
from prediction_plots import draw
from prediction_report import HEAD, Row, bars, confusion, line, table, worst
from prediction_truth import Cache
from prediction_variants import variants

#: Cases whose gradient is drawn block by block, each with a law of its own.
TYPICAL = ("mlp30_sigmoid", "mlp48_relu_bn", "resmlp24_nonorm_x4", "conv20_default", "tf24_pre", "resnet48_noskip")


def everything(zoo: Path | None) -> Iterator[Case]:
    """All cases there are."""
    if zoo:
        yield from registry(zoo)
    yield from variants()


def chosen(options: argparse.Namespace) -> Iterator[Case]:
    """The cases that the options name."""
    for case in everything(options.zoo):
        if options.family and not any(word in case.family for word in options.family):
            continue
        if not options.only or any(fnmatch.fnmatch(case.name, pattern) for pattern in options.only):
            yield case


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, help="a registry file: REG[name] = (family, source, builder)")
    parser.add_argument("--cache", type=Path, help="a file that keeps what was measured")
    parser.add_argument("--family", action="append", help="only families with this word in their name")
    parser.add_argument("--only", action="append", help="only cases whose name matches this pattern")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ablation", nargs="*", metavar="COMPONENT", help="all or some components off, one at a time")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw figures into this folder (needs matplotlib)")
    parser.add_argument("--ops", action="store_true", help="all ops of every case, predicted beside measured")
    parser.add_argument("--quiet", action="store_true", help="no line per case")
    return parser.parse_args()


def compared_all(options: argparse.Namespace, cache: Cache, graphs: Graphs) -> tuple[list[Row], list[str]]:
    """A row per case, printed as it comes, and a line for each that failed."""
    rows, failed = [], []
    if not options.quiet:
        print(HEAD)
    for case in chosen(options):
        try:
            rows.append(compare(case, options.seeds, cache, graphs))
        except Exception as error:  # one model that fails must not hide the others
            reason = " ".join(str(error).split())[:120]
            failed.append(f"{case.name:<34}failed: {type(error).__name__}: {reason}")
            print(failed[-1], file=sys.stderr, flush=True)
            continue
        if not options.quiet:
            print(line(rows[-1]), flush=True)
        if options.ops:
            print("\n".join(op_by_op(case, options.seeds, cache, graphs)), flush=True)
    return rows, failed


def main() -> int:
    """Print a line per case, the tables, and the bars; 1 when a bar is missed."""
    options = parsed()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    cache = Cache(options.cache)
    graphs = Graphs(options.cache.with_suffix(".graphs") if options.cache else None)
    rows, failed = compared_all(options, cache, graphs)
    judged_bars = bars(rows)
    parts = [("by family", table(rows)), ("confusion", confusion(rows)), ("largest errors", worst(rows))]
    for title, lines in (*parts, ("not measured", failed), ("bars", map(str, judged_bars))):
        print(f"\n{title}")
        print("\n".join(lines))
    if options.plot:
        typical = [case for case in variants() if case.name in TYPICAL]
        traces = [along_trunk(case, options.seeds, cache, graphs) for case in typical]
        print("\ndrawn:", *draw(options.plot, rows, traces))
    if options.ablation is not None:
        options.quiet, options.ops = True, False
        print("\nablation")
        for text in ablated(lambda: compared_all(options, cache, graphs)[0], options.ablation or list(ABLATIONS)):
            print(text, flush=True)
    return int(any("FAIL" in str(bar) for bar in judged_bars))


if __name__ == "__main__":
    sys.exit(main())

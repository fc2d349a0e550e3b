"""How often a verdict of the probe flips: each model is measured again and again with other seeds.

    python scripts/measure_flips.py TARGET... [--runs 200] [--jobs 2] [--cache flips.jsonl]

Targets are those of ``stablelint check``. A run measures one freshly drawn model as ``check --probe`` does, from a seed
of its own; its verdict is the set of rules that report an error. ``flips`` are the runs whose verdict is not that of
most runs of the model, ``against`` those of them where the other verdict is stated and not undecided. ``draws`` are the
seeds that a run took on average, ``sd`` is the standard deviation between single draws of the least sensitivity, in
decades. With ``--cache`` runs are kept, so that a stopped script goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, quantiles, stdev

from stablelint.config import Config
from stablelint.finding import Level

#: Seeds of two runs are this far apart, which is more than the draws of one.
_APART = 1000
#: At most one verdict of so many may flip.
BAR = 1000


@dataclass(frozen=True)
class Run:
    """One verdict: rules with an error, rules that were left undecided, and what they rest on."""

    target: str
    run: int
    errors: tuple[str, ...]
    undecided: tuple[str, ...]
    seeds: int
    least: float | None


def measured(spec: str, start: int, stop: int) -> Iterator[Run]:
    """The runs of all models of one target."""
    import torch

    from stablelint import api
    from stablelint.probe import measure
    from stablelint.targets.build import candidates
    from stablelint.targets.spec import expand

    torch.set_num_threads(1)
    config = Config(probe=True)
    for request in expand([spec]):
        for candidate in candidates(request, real=True, checkpoint=None):
            built = candidate.build()
            for run in range(start, stop):
                seed = run * _APART
                model, inputs = built.rebuild(seed)
                graph, signals = measure(
                    model,
                    inputs,
                    origins=built.origins,
                    rebuild=built.rebuild,
                    first_seed=seed,
                    settled=api.settles(config),
                    loss=built.loss,
                )
                findings = api.find(graph, signals, config)
                yield Run(
                    built.name,
                    run,
                    tuple(sorted({found.code for found in findings if found.level is Level.ERROR})),
                    tuple(sorted({found.code for found in findings if "uncertainty" in found.facts})),
                    signals.seeds,
                    signals.sensitivities[0],
                )


def collected(specs: list[str], runs: int, jobs: int, cache: Path | None) -> Iterator[Run]:
    """The runs of all targets, each target in a process of its own, ``jobs`` at a time."""
    kept: dict[str, list[Run]] = defaultdict(list)
    if cache is not None and cache.exists():
        for line in cache.read_text().splitlines():
            spec, data = json.loads(line)
            kept[spec].append(Run(**{**data, "errors": tuple(data["errors"]), "undecided": tuple(data["undecided"])}))
    yield from (run for spec in specs for run in kept[spec] if run.run < runs)
    waiting = [(spec, 1 + max((run.run for run in kept[spec]), default=-1)) for spec in specs]
    waiting = [(spec, start) for spec, start in waiting if start < runs]
    running: list[tuple[str, subprocess.Popen[str]]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            spec, start = waiting.pop(0)
            command = [sys.executable, __file__, spec, "--runs", str(runs), "--child", str(start)]
            running.append((spec, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
        spec, process = running.pop(0)
        printed, _ = process.communicate()
        if process.returncode:
            print(f"{spec}: it failed", file=sys.stderr)
        for line in printed.splitlines():
            data = json.loads(line)
            if cache is not None:
                with cache.open("a") as file:
                    file.write(json.dumps([spec, data]) + "\n")
            yield Run(**{**data, "errors": tuple(data["errors"]), "undecided": tuple(data["undecided"])})


def main() -> int:
    """Print a line per model, the rate, and whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        for run in measured(options.targets[0], options.child, options.runs):
            print(json.dumps(asdict(run)), flush=True)
        return 0
    models: dict[str, list[Run]] = defaultdict(list)
    for run in collected(options.targets, options.runs, options.jobs, options.cache):
        models[run.target].append(run)
    print(f"{'model':<52}{'runs':>5}{'flips':>6}{'against':>8}{'undecided':>10}{'draws':>6}{'sd':>6}  verdict")
    total = flips = against = 0
    spreads = []
    for name, runs in sorted(models.items()):
        usual, count = Counter(run.errors for run in runs).most_common(1)[0]
        other = [run for run in runs if run.errors != usual]
        stated = [run for run in other if (set(run.errors) ^ set(usual)) - set(run.undecided)]
        unsure = sum(bool(run.undecided) for run in runs)
        logs = [math.log10(run.least) * math.sqrt(run.seeds) for run in runs if run.least and run.seeds == 3]
        spread = stdev(logs) if len(logs) > 2 else math.nan
        spreads += [spread] if math.isfinite(spread) else []
        total, flips, against = total + len(runs), flips + len(other), against + len(stated)
        draws = fmean(run.seeds for run in runs)
        counts = f"{len(runs):>5}{len(runs) - count:>6}{len(stated):>8}{unsure:>10}"
        print(f"{name[-51:]:<52}{counts}{draws:>6.1f}{spread:>6.2f}  {' '.join(usual) or '-'}")
    print(f"\n{total} verdicts on {len(models)} models, {flips} flips, {against} of them against a stated verdict")
    if len(spreads) > 9:
        print(f"standard deviation between draws, 9 of 10 models: {quantiles(spreads, n=10)[-1]:.2f} decades")
    held = flips * BAR <= total
    print(f"{'PASS' if held else 'FAIL'}  at most 1 flip in {BAR} verdicts")
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())

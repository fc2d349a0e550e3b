"""Read the thresholds of the symptom rules off small networks that are trained to see which of them train.

``python scripts/calibrate.py train`` trains every network of ``calibration_nets.py`` and labels it, ``measure``
probes each at initialisation, ``report`` prints what the probe's numbers say about the labels. The first two save to
``calibration.json`` after every network and go on where they were stopped; ``report`` reads that file only.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from calibration_models import Task, task
from calibration_nets import Net, nets
from calibration_report import report

from stablelint.inputs import Inputs
from stablelint.probe import measure

STORE = Path(__file__).with_name("calibration.json")
SETTINGS = (("sgd", 1e-1), ("sgd", 1e-2), ("sgd", 1e-3), ("adam", 1e-2), ("adam", 1e-3), ("adam", 3e-4))
SEEDS = (0, 1)
BATCH = 32
#: A run trains when the mean of its last WINDOW losses gets below this share of the loss of knowing nothing.
SOLVED, WINDOW = 0.5, 20
#: A first seed that ends above FLAT has failed clearly: the second one is not run, nor plain SGD with a smaller rate.
FLAT = 0.95
#: A network that no run trains, but whose best run gets below STIRS, gets LONGER times the steps on its two best
#: settings until one run trains: a plateau that ends late is slow, not broken.
STIRS, LONGER = 0.9, 3

Run = tuple[float | None, int]


def train_once(net: Net, data: Task, optimiser: str, rate: float, seed: int, steps: int) -> Run:
    """Final loss over that of knowing nothing (None: not finite), and the steps taken."""
    torch.manual_seed(1000 + seed)
    model = net.build().train()
    parameters = list(model.parameters())
    chosen: torch.optim.Optimizer
    if optimiser == "sgd":
        chosen = torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    else:
        chosen = torch.optim.Adam(parameters, lr=rate)
    draws = torch.Generator().manual_seed(seed)
    nothing = math.log(data.classes)
    losses: list[float] = []
    for step in range(steps):
        index = torch.randint(len(data.inputs), (BATCH,), generator=draws)
        loss = F.cross_entropy(model(data.inputs[index]).flatten(0, -2), data.targets[index].flatten())
        losses.append(float(loss.detach()) / nothing)
        if not math.isfinite(losses[-1]):
            return None, step + 1
        if step >= WINDOW and sum(losses[-WINDOW:]) < SOLVED * WINDOW:
            break
        chosen.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        chosen.step()
    return sum(losses[-WINDOW:]) / WINDOW, len(losses)


def train(net: Net) -> dict[str, list[list[Run]]]:
    """Runs by setting and seed; ``longer`` holds those with more steps."""
    data = task(net.task)
    runs: list[list[Run]] = []
    for optimiser, rate in SETTINGS:
        before = runs[-1][0] if optimiser == "sgd" and runs and runs[-1] else (None, 0)
        flat = before[0] is not None and before[0] > FLAT
        runs.append([])
        for seed in () if flat else SEEDS:
            run = train_once(net, data, optimiser, rate, seed, data.steps)
            runs[-1].append(run)
            if run[0] is None or run[0] > FLAT:
                break
    result = {"runs": runs}
    ends = [min(map(final, setting), default=math.inf) for setting in runs]
    if SOLVED <= min(ends) < STIRS:
        result["longer"] = longer = []
        for index in sorted(range(len(SETTINGS)), key=ends.__getitem__)[:2]:
            longer.append([train_once(net, data, *SETTINGS[index], SEEDS[0], LONGER * data.steps)])
            if final(longer[-1][0]) < SOLVED:
                break
    return result


def final(run: Run) -> float:
    """The final loss, infinite when it is not a number."""
    return math.inf if run[0] is None else run[0]


def trains(setting: list[Run]) -> bool:
    """Whether both seeds of a setting train."""
    return len(setting) == len(SEEDS) and all(final(run) < SOLVED for run in setting)


def label(entry: dict[str, list[list[Run]]], best_of_family: int) -> str:
    """Trainable: some setting trains on both seeds. Broken: no run trains, however long. Fragile: between.

    A network that one setting trains, in a family in which another is trained by three or more, is fragile too.
    """
    settings = sum(trains(setting) for setting in entry["runs"])
    if settings:
        return "fragile" if 3 * settings <= best_of_family else "trainable"
    every = [run for setting in entry["runs"] + entry.get("longer", []) for run in setting]
    return "fragile" if any(final(run) < SOLVED for run in every) else "broken"


def probe(net: Net) -> dict[str, float | None]:
    """What :func:`stablelint.probe.measure` says at initialisation, as the few numbers that the rules look at."""
    data = task(net.task)

    def rebuild(seed: int) -> tuple[torch.nn.Module, Inputs]:
        torch.manual_seed(1000 + seed)
        return net.build(), Inputs(data.inputs[BATCH * seed : BATCH * (seed + 1)])

    model, inputs = rebuild(0)
    _, signals = measure(model, inputs, rebuild=rebuild, seeds=2)
    heard = [row.sensitivity for row in signals.trunk if row.sensitivity is not None]
    tokens = [row.token_similarity for row in signals.trunk if row.token_similarity is not None]
    alike = [row.similarity for row in signals.trunk if row.similarity is not None]
    same = [row.unit_similarity for row in signals.trunk if row.unit_similarity is not None]
    open_ways = [1 - row.saturated for row in signals.trunk if row.saturated is not None]
    return {
        "least": min(heard, default=None),
        "most": max(heard, default=None),
        "discrimination": signals.discrimination,
        "sharpness": signals.sharpness,
        "gradient_ratio": signals.gradient_ratio,
        "depth": signals.depth,
        "dead": max((row.dead for row in signals.trunk if row.dead is not None), default=None),
        "saturated": max((row.saturated for row in signals.trunk if row.saturated is not None), default=None),
        "open": math.prod(open_ways) if open_ways else None,
        "samples_apart": min((1 - value for value in alike), default=None),
        "tokens_apart": 1 - tokens[-1] if tokens else None,
        "peak": max((row.peak for row in signals.rows if row.peak is not None), default=None),
        "retention": min((row.retention for row in signals.rows if row.retention is not None), default=None),
        "same_units": max(same, default=None),
        "finite": float(signals.nonfinite is None),
    }


def labelled(store: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per network with its label and its numbers."""
    best: collections.Counter[str] = collections.Counter()
    for name, entry in store["trained"].items():
        family = name.split("/")[0]
        best[family] = max(best[family], sum(trains(setting) for setting in entry["runs"]))
    return [
        {
            "family": name.split("/")[0],
            "dose": name.split("/")[1],
            "label": label(entry, best[name.split("/")[0]]),
            "settings": sum(trains(setting) for setting in entry["runs"]),
            **store["measured"].get(name, {}),
        }
        for name, entry in store["trained"].items()
    ]


def save(store: dict[str, Any]) -> None:
    """One network a line, numbers to four digits, in the order of the families."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.4g}") if math.isfinite(value) else None if math.isnan(value) else value
        if isinstance(value, dict):
            return {key: short(item) for key, item in value.items()}
        return [short(item) for item in value] if isinstance(value, list | tuple) else value

    order = [net.name for net in nets()]
    parts = []
    for key, entries in store.items():
        known = [name for name in order if name in entries]
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(short(entries[name]))}" for name in known)
        parts.append(f' "{key}": {{\n{lines}\n }}')
    STORE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "measure", "report"))
    parser.add_argument("names", nargs="*", default=["*"], help="patterns of family/dose")
    parser.add_argument("--again", action="store_true", help="also what calibration.json has already")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(arguments.step == "train")  # squares of vanished gradients in Adam are slow otherwise
    warnings.simplefilter("ignore")
    store = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {"trained": {}, "measured": {}}
    if arguments.step == "report":
        return report(labelled(store))
    key, work = ("trained", train) if arguments.step == "train" else ("measured", probe)
    for net in nets():
        if not any(fnmatch.fnmatch(net.name, pattern) for pattern in arguments.names):
            continue
        if net.name in store[key] and not arguments.again:
            continue
        start = time.perf_counter()
        store[key][net.name] = found = work(net)
        save(store)
        print(f"{net.name:28s} {time.perf_counter() - start:6.1f} s  {json.dumps(found)[:150]}", flush=True)
    return None


if __name__ == "__main__":
    main()

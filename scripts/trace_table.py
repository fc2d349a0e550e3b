"""The table of ``trace_zoo.py`` and the figures below it, from results by model and step."""

from __future__ import annotations

import statistics
from typing import Any

Row = dict[str, Any]
Results = dict[str, dict[str, Row]]

HEAD = (
    f"{'model':44} {'ours':>7} {'fx':>7} {'export':>7} {'fwd+bwd':>7} {'mode':>5} {'MiB':>5} {'ops':>5} {'lines':>6} "
    f"{'modules':>7} {'guessed':>7} real run"
)
#: Ratios to a pass that takes less than this are those of constant costs.
_SHORT = 0.2


def _cell(row: Row | None, key: str = "seconds") -> str:
    return "-" if row is None else "failed" if "error" in row else f"{row[key]:.2f}"


def show(name: str, result: dict[str, Row]) -> None:
    """One line of the table."""
    ours = result["ours"]
    cells = [_cell(result.get(key)) for key in ("ours", "fx", "export", "real")]
    line = " ".join([f"{name:44}", *(f"{cell:>7}" for cell in cells)])
    if "error" in ours:
        print(line, ours["error"], flush=True)
        return
    mib = "-" if ours["mib"] is None else f"{ours['mib']:.0f}"
    mode = result.get("real", {}).get("mode", "-")
    same = "same" if ours["different"] is None else "DIFFERENT" if not ours["guessed"] else "branched"
    print(f"{line} {mode:>5} {mib:>5} {ours['ops']:>5} {ours['lines']:>6.1%} {ours['modules']:>7.1%} "
          f"{ours['guessed']:>7} {same}", flush=True)  # fmt: skip
    if ours["different"] and not ours["guessed"]:
        print("   ", ours["different"], flush=True)


def _ratios(results: Results, ours: str, other: str, least: float) -> list[float]:
    pairs = [(each["ours"], each.get(other)) for each in results.values()]
    return [
        our[ours] / their["seconds"]
        for our, their in pairs
        if their is not None and "error" not in our and "error" not in their and their["seconds"] > least
    ]


def summary(results: Results) -> None:
    """Counts and medians over all models."""
    traced = {name: each["ours"] for name, each in results.items() if "error" not in each["ours"]}
    print(f"\n{len(results)} models; traced: {len(traced)} by stablelint", end="")
    for key, name in (("fx", "torch.fx.symbolic_trace"), ("export", "torch.export.export")):
        rows = [each[key] for each in results.values() if key in each]
        if rows:
            print(f", {sum('error' not in row for row in rows)} of {len(rows)} by {name}", end="")
    ops = sum(row["ops"] for row in traced.values())
    lines, modules = (
        sum(row[key] * row["ops"] for row in traced.values()) / max(1, ops) for key in ("lines", "modules")
    )
    parted = [row for row in traced.values() if row["different"] is not None]
    branch = sum(row["guessed"] > 0 for row in parted)
    print(f"\n{ops} ops; with a line of model code {lines:.2%}, in a module {modules:.2%}")
    print(f"same ops on fake and real tensors: {len(traced) - len(parted)} models; {branch} more branch on data that "
          f"was guessed, {len(parted) - branch} differ for no such reason")  # fmt: skip
    memory = [row["mib"] for row in traced.values() if row["mib"] is not None]
    if memory:
        print(f"peak memory above the built model: median {statistics.median(memory):.0f} MiB, "
              f"largest {max(memory):.0f} MiB")  # fmt: skip
    passes = _ratios(results, "seconds", "real", _SHORT)
    if passes:
        print(f"CPU seconds against one forward and backward pass (over {_SHORT} s): "
              f"median {statistics.median(passes):.2f}, largest {max(passes):.2f}, {len(passes)} models")  # fmt: skip
    exports = _ratios(results, "first", "export", 0.0)
    if exports:
        print(f"CPU seconds against torch.export, both for the first time in their process: "
              f"median {statistics.median(exports):.2f}, largest {max(exports):.2f}, "
              f"{len(exports)} models")  # fmt: skip
    families(results)


def families(results: Results) -> None:
    """One line for the models of each library, named by what stands before the slash: counts, medians of the rest."""
    kinds = dict.fromkeys(name.partition("/")[0] for name in results)
    print(f"\n{'':8} {'models':>6} {'ours':>10} {'fx':>10} {'export':>10} {'fwd+bwd':>8} {'MiB':>4} {'ops':>5}")
    for kind in kinds:
        rows = [each for name, each in results.items() if name.partition("/")[0] == kind]
        cells = [_traced(rows, key) for key in ("ours", "fx", "export")]
        ours = [each["ours"] for each in rows if "error" not in each["ours"]]
        real = _median([each["real"]["seconds"] for each in rows if "error" not in each.get("real", {"error": ""})])
        mib = _median([row["mib"] for row in ours if row["mib"] is not None])
        ops = _median([row["ops"] for row in ours])
        counts = " ".join(f"{cell:>10}" for cell in cells)
        print(f"{kind:8} {len(rows):>6} {counts} {real:>8.2f} {mib:>4.0f} {ops:>5.0f}")


def _traced(rows: list[dict[str, Row]], key: str) -> str:
    """How many were traced, and the median of their CPU seconds."""
    good = [each[key]["seconds"] for each in rows if "error" not in each.get(key, {"error": ""})]
    return f"{len(good)} ({_median(good):.2f})" if good else "0"


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")

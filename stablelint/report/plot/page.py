"""The figure as one HTML page that needs nothing else: drawings with titles under the pointer, tables, both schemes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from stablelint import __version__
from stablelint.report.numbers import number
from stablelint.report.plot.curves import BREAK, MEASURED, PREDICTED, Curves, curves
from stablelint.report.plot.drawing import draw
from stablelint.report.surprises import surprise_words
from stablelint.signals.comparison import Block, Comparison

_STYLE = f"""
:root {{ color-scheme: light dark; --ink: #1b1b1b; --soft: #5b5b5b; --line: #d8d8d8; --paper: #ffffff;
  --measured: {MEASURED}; --predicted: {PREDICTED}; --break: {BREAK}; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8e8e8; --soft: #a8a8a8; --line: #3c3c3c; --paper: #161616;
  --measured: #56B4E9; --predicted: #E69F00; }} }}
body {{ margin: 2rem auto; padding: 0 1rem; max-width: 72rem; font: 15px/1.45 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1.1rem; margin-top: 2.5rem; }} p, li, figcaption {{ color: var(--soft); }}
figure {{ margin: 1rem 0; overflow-x: auto; }}
svg {{ display: block; width: 100%; min-width: 34rem; height: auto; font: 11px system-ui, sans-serif; }}
svg text {{ fill: var(--soft); }} svg text.name {{ fill: var(--ink); font-weight: 600; }}
.axis {{ stroke: var(--soft); stroke-width: 1; }} .grid {{ stroke: var(--line); stroke-width: 1; }}
.band {{ fill: var(--predicted); opacity: .2; }}
.predicted {{ fill: none; stroke: var(--predicted); stroke-width: 2; }}
.bar {{ stroke: var(--measured); stroke-width: 1.5; }} .measured {{ fill: var(--measured); }}
.edge {{ fill: var(--measured); font-weight: 700; }} .off {{ fill: none; stroke: var(--ink); stroke-width: 1.2; }}
.break {{ stroke: var(--break); stroke-width: 1.5; stroke-dasharray: 5 4; }}
.column {{ fill: transparent; }} .column:hover {{ fill: var(--soft); opacity: .15; }}
.key {{ display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em; border-radius: 50%; }}
.table {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .15rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }}
td.n, th.n {{ text-align: right; }} tr.off td {{ font-weight: 600; }}
tr.broken {{ outline: 1.5px dashed var(--break); }}
"""


def render_page(found: Sequence[tuple[str, Comparison, tuple[str, ...]]]) -> str:
    """One page with a section for each model of the run."""
    title = ", ".join(name for name, _, _ in found) or "nothing was measured"
    body = "".join(part for name, comparison, remarks in found for part in _section(name, comparison, remarks))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>stablelint probe: {escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n'
        f"<h1>stablelint probe</h1>\n{body}<p>stablelint {__version__}</p>\n</html>\n"
    )


def _section(name: str, found: Comparison, remarks: Sequence[str]) -> Iterator[str]:
    model = curves(name, found)
    yield f"<section>\n<h2>{escape(model.name)}</h2>\n<p>{escape(' · '.join(model.facts))}</p>\n"
    if not model.blocks:
        yield "<p>No trunk was found: nothing carries the signal from input to output.</p>\n</section>\n"
        return
    yield f"<figure>\n{draw(model)}\n<figcaption>{''.join(_key(model))}</figcaption>\n</figure>\n"
    if found.surprises:
        yield "<h3>Here the model or its prediction surprises</h3>\n<ul>\n"
        yield "".join(f"<li>{escape(surprise_words(each))}</li>\n" for each in found.surprises)
        yield "</ul>\n"
    yield from _table(model)
    yield "".join(f"<p>Note: {escape(remark)}</p>\n" for remark in remarks)
    yield "</section>\n"


def _key(model: Curves) -> Iterator[str]:
    bars = ", bars: one standard deviation between seeds" if any(model.gradient.bars) else ""
    yield f'<span class="key" style="background:var(--measured)"></span>measured{bars}'
    if any(model.gradient.predicted) or any(model.rms.predicted):
        yield '<span class="key" style="background:var(--predicted)"></span>predicted, band: nine of ten networks'
    if model.gradient.off or model.rms.off:
        yield '<span class="key" style="border:1.2px solid var(--ink)"></span>three standard deviations off'


def _table(model: Curves) -> Iterator[str]:
    heads = ("block", "op", "module", "place", "rms", "predicted", "gradient", "predicted", "nine of ten networks")
    yield '<div class="table"><table>\n<tr>'
    yield "".join(f"<th{_NUMERIC if index == 0 or index > 3 else ''}>{head}</th>" for index, head in enumerate(heads))
    yield "</tr>\n"
    for index, block in enumerate(model.blocks):
        kinds = [kind for kind, holds in (("off", block.off), ("broken", index == model.breaks)) if holds]
        mark = f' class="{" ".join(kinds)}"' if kinds else ""
        yield f"<tr{mark}>{''.join(_cells(block))}</tr>\n"
    yield "</table></div>\n"


_NUMERIC = ' class="n"'


def _cells(block: Block) -> Iterator[str]:
    signal = block.signal
    band = "" if block.band is None else f"{number(block.band[0])} to {number(block.band[1])}"
    texts = [signal.name, signal.site.module, str(signal.site) if signal.site.file else ""]
    sizes = [
        number(signal.rms) if signal.finite else "NaN/inf",
        "" if block.rms is None else number(block.rms),
        number(signal.grad_rms) if signal.grad_finite else "NaN/inf",
        "" if block.gradient is None else number(block.gradient),
        band,
    ]
    yield f"<td{_NUMERIC}>{block.number}</td>"
    yield from (f"<td>{escape(text)}</td>" for text in texts)
    yield from (f"<td{_NUMERIC}>{size}</td>" for size in sizes)

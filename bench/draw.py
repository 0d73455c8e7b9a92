"""Plots into bench/results, if matplotlib is here: SVG, the same bytes for the same figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from bench.measure import ROOT, Plot, Report, installed, number

PLACE: Final = os.path.join(ROOT, "bench", "results")


def draw(reports: Sequence[Report]) -> dict[str, list[str]]:
    """Draw what the reports have to draw; return the names of the plots of each."""
    if installed("matplotlib") is None:
        print("no plots: matplotlib is not installed (pip install -e '.[bench]')")
        return {}
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "overseer-lite"
    os.makedirs(PLACE, exist_ok=True)
    drawn: dict[str, list[str]] = {}
    for report in reports:
        for plot in report.plots:
            _draw(plot)
            drawn.setdefault(report.name, []).append(plot.name)
    return drawn


def _draw(plot: Plot) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.4 * len(plot.series) if plot.kind == "bars" else 4), layout="constrained")
    axes = figure.add_subplot()
    {"bars": _bars, "lines": _lines, "ecdf": _ecdf}[plot.kind](axes, plot)
    axes.set_title(plot.title, fontsize=10)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.grid(alpha=0.3)
    figure.savefig(os.path.join(PLACE, f"{plot.name}.svg"), metadata={"Date": None})


def _bars(axes: Any, plot: Plot) -> None:
    labels = list(plot.series)
    bars = axes.barh(labels, [plot.series[label] for label in labels])
    axes.bar_label(bars, [number(value) for value in plot.series.values()], padding=3, fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    if plot.logarithmic:
        axes.set_xscale("log")


def _lines(axes: Any, plot: Plot) -> None:
    for label, points in plot.series.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set_ylim(bottom=0)
    if plot.logarithmic:
        axes.set_xscale("log")
    axes.legend(fontsize=8)


def _ecdf(axes: Any, plot: Plot) -> None:
    for label, values in plot.series.items():
        axes.ecdf(values, label=label)
    if plot.logarithmic:
        axes.set_xscale("log")
    axes.legend(fontsize=8)

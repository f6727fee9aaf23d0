"""Matplotlib, without a display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lensgraph.rl.evaluation.metrics import Spread


@contextmanager
def saved_figure(
    out: Path, *, columns: int = 1, size: tuple[float, float] = (4.5, 3.4), title: str = ""
) -> Iterator[Any]:
    """Give `columns` axes to draw on, each of `size` inches, and write the figure to a picture file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width, height = size
    figure, axes = pyplot.subplots(
        1, columns, figsize=(width * columns, height), constrained_layout=True, squeeze=False
    )
    try:
        yield axes[0]
        figure.suptitle(title)
        figure.savefig(out, dpi=120)
    finally:
        pyplot.close(figure)


def draw_points(points: Mapping[str, tuple[Spread, Spread]], out: Path) -> None:
    """Plot accuracy against searches a question: name -> (searches, accuracy), each with its interval."""
    with saved_figure(out, size=(6, 4)) as (axis,):
        for name, (x, y) in points.items():
            bars = {key: [[end] for end in error_bars(*spread)] for key, spread in (("xerr", x), ("yerr", y))}
            axis.errorbar(x[0], y[0], **bars, marker="o", capsize=3, linestyle="", label=name)
        axis.legend(fontsize=8, loc="lower center")
        axis.set_xlabel("searches a question")
        axis.set_ylabel("accuracy")
        axis.grid(alpha=0.3)


def error_bars(value: float, low: float, high: float) -> tuple[float, float]:
    """Lengths of the error bar below and above a value, which may lie outside its interval by rounding."""
    return max(0.0, value - low), max(0.0, high - value)

"""Plot the course of an online run: reward, accuracy and searches by step."""

from __future__ import annotations

from pathlib import Path

from lensgraph.agent.errors import UserError
from lensgraph.rl.run import jsonl

CURVES = (("reward", "reward"), ("reward/match", "accuracy"), ("searches", "searches a question"))
"""Key in the log, and title. The accuracy is by the run's own reward."""


def draw(log: Path, out: Path, *, window: int = 5) -> None:
    """Plot the run's log (JSON lines with `step`) to a PNG: thin lines are steps, thick lines means of
    `window` steps.

    Raises:
        UserError: the log holds no step with a reward.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # a resumed run logs some steps twice, and a step without any reward logs none
    rows = {row["step"]: row for row in jsonl.peek(log) if row.get("reward") is not None}
    if not rows:
        raise UserError(f"{log}: no step with a reward")
    steps = sorted(rows)
    figure, axes = pyplot.subplots(1, len(CURVES), figsize=(4 * len(CURVES), 3), constrained_layout=True)
    for axis, (key, title) in zip(axes, CURVES, strict=True):
        values = [rows[step].get(key, rows[step].get(title, 0.0)) for step in steps]
        smooth = [sum(values[max(0, n - window + 1) : n + 1]) / min(window, n + 1) for n in range(len(values))]
        axis.plot(steps, values, linewidth=0.7, alpha=0.5, color="tab:blue")
        axis.plot(steps, smooth, linewidth=2, color="tab:blue")
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=120)
    pyplot.close(figure)

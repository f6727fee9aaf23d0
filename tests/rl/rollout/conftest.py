"""A trajectory that was not rolled out, to keep and to read back."""

from __future__ import annotations

import io

from PIL import Image

from lensgraph.rl.rollout.trajectory import (
    Said,
    Seen,
    Trajectory,
    TrajectoryStep,
)


def png(colour: str) -> bytes:
    """A small picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (56, 56), colour).save(out, "PNG")
    return out.getvalue()


def said(role: str, text: str, *pictures: str) -> Said:
    """A message of a trajectory: pictures, then text."""
    return Said(role, (*({"type": "image", "id": one} for one in pictures), {"type": "text", "text": text}))


def a_trajectory(number: int = 0, **changes: object) -> Trajectory:
    """An image search, its result and an answer; `changes` replaces fields."""
    search = {"kind": "image_search", "region": None}
    steps = (
        TrajectoryStep(
            "reason", "image_search", 1, 0.5, 0.0, text="<img_search><img></img_search>", action=search, tokens=(4, 6),
        ),
        TrajectoryStep(
            "image_search", "reason", 1, 0.2, 0.01, query="<whole picture>",
            hits=({"title": "Kenya", "url": "u", "snippet": "", "score": 0.9},),
            crop={"id": "b", "box": (1, 2, 3, 4)},
        ),
        TrajectoryStep(
            "reason", "answer", 2, 0.4, 0.0, text="<answer>x</answer>", action={"kind": "answer", "text": "x"},
            tokens=(8, 10),
        ),
    )  # fmt: skip
    fields: dict[str, object] = {
        "id": f"t{number}#0", "task": f"t{number}", "family": "image", "knowledge": "unknown", "question": "What?",
        "golds": ("x",), "graph": "search_agent", "dialect": "compact", "policy": "p", "temperature": 1.0,
        "answer": "x", "correct": True, "stop_reason": "answered", "well_formed": True, "steps": steps,
        "messages": (said("user", "What?", "a"), said("assistant", "s"), said("user", "r", "b"), said("assistant", "x")),
        "pictures": (Seen("a", (1, 2, 2)), Seen("b", (1, 4, 2))),
        "ids": tuple(range(10)), "mask": (0, 0, 0, 0, 1, 1, 0, 0, 1, 1), "logprobs": (0.0,) * 4 + (-1.5,) * 6,
        "reward": {"total": 0.91, "match": 1.0}, "step": 3,
    }  # fmt: skip
    return Trajectory(**{**fields, **changes})  # type: ignore[arg-type]


PICTURES = {"a": png("red"), "b": png("blue")}

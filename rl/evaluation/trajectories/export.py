"""Trajectories as training data for TRL's SFTTrainer: columns `messages` and `images`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from lensgraph.agent.dialects.table import tools_of
from lensgraph.agent.errors import UserError
from lensgraph.rl.evaluation.trajectories.by_policy import of_policy
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStore
from lensgraph.rl.run import jsonl


def conversations(trajectories: Iterable[Trajectory], *, right: bool = False) -> Iterator[dict[str, Any]]:
    """Trajectories as chat rows: `messages` with image placeholders, the ids of the `images`, in order, and as JSON the
    `tools` that the policy was offered, if any.

    `right` keeps those with a right answer. A row ends with the policy's last turn. Failed episodes are left out.
    """
    for trajectory in trajectories:
        if trajectory.error is not None or (right and not trajectory.correct):
            continue
        said = list(trajectory.messages)
        while said and said[-1].role != "assistant":
            said.pop()
        if not said:
            continue
        messages = [{"role": one.role, "content": [_placeholder(block) for block in one.blocks]} for one in said]
        row = {"messages": messages, "images": [picture for one in said for picture in one.pictures]}
        tools = tools_of(trajectory.dialect)
        yield {**row, "tools": json.dumps(tools)} if tools else row


def _placeholder(block: dict[str, str]) -> dict[str, str]:
    return {"type": "image"} if block["type"] == "image" else dict(block)


def export(store: TrajectoryStore, out: Path, *, right: bool = False, policy: str | None = None) -> int:
    """Write the store as training data; returns the number of rows.

    A path that ends in `.jsonl` becomes that file, with its pictures beside it in `images/`; the rows name them by
    absolute path, because a trainer resolves others in its own working folder. Any other path becomes the folder of a
    `datasets` dataset with decoded pictures.

    Raises:
        FileExistsError: there is something at `out`.
        ValueError: no trajectory can be exported.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; give a path that does not")
    rows = list(conversations(of_policy(store, policy), right=right))
    if not rows:
        raise UserError("no trajectory to export" + (" has a right answer" if right else ""))
    if out.suffix == ".jsonl":
        _write_lines(store, rows, out)
    else:
        _write_dataset(store, rows, out)
    return len(rows)


def _write_lines(store: TrajectoryStore, rows: list[dict[str, Any]], out: Path) -> None:
    folder = out.parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for identity in {identity for row in rows for identity in row["images"]}:
        (folder / identity).write_bytes(store.picture(identity))
    with out.open("w", encoding="utf-8") as file:
        for row in rows:
            names = [str((folder / identity).resolve()) for identity in row["images"]]
            file.write(jsonl.line({**row, "images": names}))


def _write_dataset(store: TrajectoryStore, rows: list[dict[str, Any]], out: Path) -> None:
    from datasets import Dataset, Features, List, Value
    from datasets import Image as ImageFeature

    content = List({"type": Value("string"), "text": Value("string")})
    features = Features(
        {
            "messages": List({"role": Value("string"), "content": content}),
            "images": List(ImageFeature()),
            **({"tools": Value("string")} if any("tools" in row for row in rows) else {}),
        }
    )
    opened = [
        {
            "messages": [
                {"role": m["role"], "content": [{"type": c["type"], "text": c.get("text")} for c in m["content"]]}
                for m in row["messages"]
            ],
            "images": [Image.open(io.BytesIO(store.picture(identity))) for identity in row["images"]],
            **({"tools": row.get("tools")} if "tools" in features else {}),
        }
        for row in rows
    ]
    Dataset.from_list(opened, features=features).save_to_disk(str(out))

"""What an evaluation was made with: written into its records, and held against before more are added.

The first line of a file of records names the graph, the policy with a digest of its weights, the configuration, the task
set and the match rule. Records of two different makings never end up in one file: `claim` refuses, and says what differs.
A file without that line was written before there was one; it can be read, but not gone on from.

Not covered: changes of the package's own code besides the match rule, and what a server behind the policy loads.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensgraph.agent.config import Config
from lensgraph.agent.pocket import checkpoint
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import match
from lensgraph.tools.safety.redact import HIDDEN, is_secret, shown

if TYPE_CHECKING:
    from torch import nn

KEY = "made_with"
"""Of the first line."""
LENGTH = 12
"""Hexadecimal digits of a digest."""
_APART = ("graph", "policy.model", "tools.cache", "images.folder")
"""Settings that are named on their own, or that change where something is kept and not what is answered."""
_HERE = ("pocket", "transformers")
"""Kinds of policy whose weights this process loads."""


@dataclass(frozen=True)
class MadeWith:
    """Everything that decides what a record says."""

    graph: str
    """The graph that ran."""
    tasks: str
    """The task set's name, or the digest of a person's own file."""
    policy: str
    """What the policy is called; two names with the same weights are one policy."""
    weights: str
    """Digest of its weights, or the revision of a hub checkpoint; empty where they are not here to be seen (a server's)."""
    match: str
    """The rule that says whether an answer is right."""
    config: dict[str, Any]
    """The settings of the agent, as `key.key: value`."""


class OtherRecordsError(ValueError):
    """The file holds records that were made with something else. The message is one line: what differs, and the fix."""


def made_with(graph: str, tasks: str, config: Config, *, weights: str | None = None) -> MadeWith:
    """The making of an evaluation. `weights` is the digest of a live policy, which replaces the configured one."""
    settings = {
        key: value
        for key, value in _flat(config.model_dump(mode="json"))
        if not any(f"{key}.".startswith(f"{part}.") for part in _APART)
    }
    if weights is None:
        return MadeWith(graph, tasks, config.policy.model, _weights_of(config), match_rule(), settings)
    settings = {key: value for key, value in settings.items() if not key.startswith("policy.")}
    return MadeWith(graph, tasks, "in memory", weights, match_rule(), settings)


def policy_name(config: Config) -> str:
    """What records call the configured policy: its name, and the digest of its weights where they are here."""
    weights = _weights_of(config)
    return f"{config.policy.model}@{weights}" if weights else config.policy.model


def _weights_of(config: Config) -> str:
    return weights_at(config.policy.model) if config.policy.kind in _HERE else ""


def weights_at(model: str) -> str:
    """Digest of a checkpoint's weights; the revision of a hub checkpoint; empty where neither is here."""
    folder = Path(checkpoint(model))
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if files:
        digest = hashlib.sha256()
        for path in files:
            with path.open("rb") as data:
                digest.update(hashlib.file_digest(data, "sha256").digest())
        return digest.hexdigest()[:LENGTH]
    return _revision(model)


def weights_in(network: nn.Module) -> str:
    """Digest of the weights of a network in memory."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:LENGTH]


def _revision(model: str) -> str:
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError:
        return ""
    try:
        found = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return ""
    return Path(found).parent.name[:LENGTH] if isinstance(found, str) else ""


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:LENGTH]


@cache
def match_rule() -> str:
    """The rule's name with a digest of its code, whose comments do not count."""
    tree = ast.dump(ast.parse(Path(match.__file__).read_text("utf-8")))
    return f"lensgraph.rl.tasks.match {hashlib.sha256(tree.encode()).hexdigest()[:LENGTH]}"


def header(path: Path) -> MadeWith | None:
    """What the records of a file were made with; None: the file does not say, or there is none."""
    first = next(jsonl.peek(path), {})
    known = {field.name for field in fields(MadeWith)}
    return MadeWith(**{name: first[KEY][name] for name in known}) if KEY in first else None


def rows(path: Path) -> list[dict[str, Any]]:
    """The records of a file, without its first line; the file is not touched."""
    return [row for row in jsonl.peek(path) if KEY not in row]


def claim(path: Path, made: MadeWith) -> None:
    """Make sure that `path` may hold records of this making; a new file gets its first line.

    Raises:
        OtherRecordsError: it holds records of another making, or of one that it does not name.
    """
    if not jsonl.rows(path):  # also forgets what a kill left of the last line
        path.parent.mkdir(parents=True, exist_ok=True)
        jsonl.append(path, {KEY: asdict(made)})
        return
    held = header(path)
    fix = "name another file, or delete this one"
    if held is None:
        raise OtherRecordsError(
            f"{path}: its records do not say what they were made with (an earlier version wrote them); {fix}"
        )
    if other := differences(held, made):
        raise OtherRecordsError(f"{path} holds records made with something else: {'; '.join(other)}; {fix}")


def differences(held: MadeWith, now: MadeWith) -> list[str]:
    """What differs, one phrase each; nothing: records of both may stand in one file."""
    found = [
        f"{name} was {getattr(held, name)}, is {getattr(now, name)}"
        for name in ("graph", "tasks", "match")
        if getattr(held, name) != getattr(now, name)
    ]
    same = held.weights == now.weights if held.weights and now.weights else held.policy == now.policy
    if not same or bool(held.weights) != bool(now.weights):
        found.append(f"policy was {_called(held)}, is {_called(now)}")
    for key in sorted(held.config.keys() | now.config.keys()):
        before, after = held.config.get(key), now.config.get(key)
        if before != after:
            found.append(f"{key} was {shown(key.split('.'), before)}, is {shown(key.split('.'), after)}")
    return found


def _called(made: MadeWith) -> str:
    return f"{made.policy} ({made.weights})" if made.weights else made.policy


def _flat(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        where = (*path, str(name))
        if isinstance(value, Mapping) and value:
            found += _flat(value, where)
        else:
            # as the file will hold it, so that what was read equals what is now
            found.append((".".join(where), HIDDEN if any(map(is_secret, where)) else json.loads(json.dumps(value))))
    return found

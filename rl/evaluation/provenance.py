"""The making of an evaluation: written into its records, and compared before more are added.

The first line of a file of records names the graph, the policy with a digest of its weights, the configuration,
the task set and the version of the match rule. One file never holds records of two makings: `claim` refuses,
and names the difference. A file without that line is older than the line: it can be read, but no record is
added to it.

Not covered: changes of the package's own code besides the match rule, and the weights that a server behind the policy
loads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensgraph.agent.config import Config
from lensgraph.agent.errors import UserError
from lensgraph.agent.pocket import checkpoint
from lensgraph.rl.run import jsonl
from lensgraph.rl.tasks import match
from lensgraph.tools.safety.redact import HIDDEN, is_secret, shown

if TYPE_CHECKING:
    from torch import nn

KEY = "made_with"
"""Key of the first line."""
LENGTH = 12
"""Hexadecimal digits of a digest."""
MATCH_RULE = f"match {match.VERSION}"
"""Name of the rule that judges answers, as records hold it."""
_OLD_RULES = dict.fromkeys(("rl.match dece517ebba7", "rl.match 2e2af5207b94", "rl.match 509e4d493a1c"), "match 1")
"""Earlier records hold a digest of the rule's code, which depends on the Python version: 3.11, 3.12, 3.13."""
_APART = ("graph", "policy.model", "tools.cache", "images.folder")
"""Settings that are compared on their own, or that change where something is kept and not the answers."""
_LOCAL = ("pocket", "transformers")
"""Kinds of policy whose weights this process loads."""


@dataclass(frozen=True)
class MadeWith:
    """Everything that decides the content of a record."""

    graph: str
    """Name of the graph."""
    tasks: str
    """Name of the task set, or a file's name with the digest of its content."""
    policy: str
    """Name of the policy; two names with the same weights are one policy."""
    weights: str
    """Digest of the weights, or the revision of a hub checkpoint; empty where a server holds them."""
    match: str
    """Name of the rule that judges answers."""
    config: dict[str, Any]
    """The agent's settings, as `key.key: value`."""


class OtherRecordsError(UserError):
    """A file holds records of another making. The message is one line: the difference, and the fix."""


def made_with(graph: str, tasks: str, config: Config, *, weights: str | None = None) -> MadeWith:
    """The making of an evaluation. `weights` is the digest of a live policy, which replaces the configured one."""
    settings = {
        key: value
        for key, value in _flat(config.model_dump(mode="json"))
        if not any(f"{key}.".startswith(f"{part}.") for part in _APART)
    }
    if weights is None:
        return MadeWith(graph, tasks, config.policy.model, _weights_of(config), MATCH_RULE, settings)
    settings = {key: value for key, value in settings.items() if not key.startswith("policy.")}
    return MadeWith(graph, tasks, "in memory", weights, MATCH_RULE, settings)


def policy_name(config: Config) -> str:
    """The configured policy's name in trajectories: its model, with the digest of its weights if they are local."""
    weights = _weights_of(config)
    return f"{config.policy.model}@{weights}" if weights else config.policy.model


def _weights_of(config: Config) -> str:
    return weights_at(config.policy.model) if config.policy.kind in _LOCAL else ""


def weights_at(model: str) -> str:
    """Digest of a local checkpoint's weights; the revision of a cached hub checkpoint; empty if there is neither."""
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


def header(path: Path) -> MadeWith | None:
    """The making that a file of records names; None: it names none, or there is no file.

    Raises:
        DamagedLineError: the line that names it cannot be read.
    """
    first = next(jsonl.peek(path), {})
    if KEY not in first:
        return None
    try:
        made = MadeWith(**{field.name: first[KEY][field.name] for field in fields(MadeWith)})
        dict(made.config)
    except (KeyError, TypeError, ValueError) as error:
        raise jsonl.DamagedLineError(
            f"{path}: its first line is damaged; name another file, or delete this one"
        ) from error
    return replace(made, match=_OLD_RULES.get(made.match, made.match))


def rows(path: Path) -> list[dict[str, Any]]:
    """The records of a file, without its first line; the file is not touched."""
    return [row for row in jsonl.peek(path) if KEY not in row]


def claim(path: Path, made: MadeWith) -> None:
    """Check that `path` may hold records of this making, and write the first line of a new file.

    Raises:
        OtherRecordsError: it holds records of another making, or does not name its making.
    """
    if not jsonl.rows(path):  # also removes a line that a kill cut off
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
    """The differences of two makings, one phrase each; empty: one file may hold records of both."""
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
            # in the form that a file holds, so that a read value equals the present one
            found.append((".".join(where), HIDDEN if any(map(is_secret, where)) else json.loads(json.dumps(value))))
    return found

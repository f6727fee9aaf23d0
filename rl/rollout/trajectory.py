"""The record of an episode, which joins the steps of the graph with the tokens of the policy, and the store
of records.

Invariants:
- `ids`, `mask` and `logprobs` have one length; the mask is 1 exactly on sampled tokens; a step's `tokens` are
  the borders of its sampled turn in `ids`.
- Placeholders of a picture in `ids` = rows of its grid / merge_size**2, in the order of `pictures`.
- A record is plain JSON and names its `version`; a store of an unknown version is refused, not misread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lensgraph.agent.errors import UserError
from lensgraph.rl.run import jsonl
from lensgraph.tools.runtime.whole_files import write_whole

OUTSIDE = ("timeout", "rate_limited", "unavailable", "malformed")
"""Reasons of a tool's failure (`lensgraph.tools.results.Reason`) that are not the policy's fault."""
VERSION = 1
"""Version of the record; raised when a field changes its meaning."""


@dataclass(frozen=True)
class TrajectoryStep:
    """One node's record, with the node that ran next and the tokens that were sampled in it."""

    node: str
    """The node that ran."""
    edge: str | None
    """The node that ran next; None: the episode ended."""
    turn: int
    """Number of the policy's turn that this belongs to, from 1."""
    seconds: float
    """Seconds of waiting for the policy or the tool."""
    price: float
    """Price of the call, in the currency of the configured prices."""
    text: str = ""
    """The turn as the policy wrote it; empty for a tool."""
    action: dict[str, Any] | None = None
    """The policy's action, as `lensgraph.agent.actions.dump_action` writes it; of several the one served first."""
    actions: tuple[dict[str, Any], ...] = ()
    """All actions of a turn that asked for several; empty: `action` is the only one."""
    query: str | None = None
    """Query of a tool."""
    hits: tuple[dict[str, Any], ...] | None = None
    """Hits that a search showed the policy; None: no search ran (another node, or a limit forbade it)."""
    crop: dict[str, Any] | None = None
    """The crop's picture record, with its box in pixels of the question's picture."""
    error: str | None = None
    """`reason: message` if the tool or the policy failed."""
    left_out: tuple[str, ...] = ()
    """Ids of thumbnails that were left out of this turn's prompt, because the context was full."""
    cut_off: int = 0
    """Number of results of this search that were left out or shortened, because few tokens were left."""
    tokens: tuple[int, int] | None = None
    """First sampled token and one past the last, in `Trajectory.ids`; None: nothing was sampled here."""

    @property
    def kind(self) -> str:
        """The action's kind, `text_search+crop` for a turn of several, or the node's name for a tool."""
        asked = self.actions or ((self.action,) if self.action else ())
        return "+".join(str(action["kind"]) for action in asked) or self.node


@dataclass(frozen=True)
class Said:
    """One message of the policy's dialogue."""

    role: str
    """`user` or `tool` (the environment), or `assistant` (the policy)."""
    blocks: tuple[dict[str, str], ...]
    """Blocks in order: `{"type": "text", "text": ...}` or `{"type": "image", "id": ...}`."""

    @property
    def text(self) -> str:
        """All text of the message."""
        return "".join(block["text"] for block in self.blocks if block["type"] == "text")

    @property
    def pictures(self) -> tuple[str, ...]:
        """Ids of its pictures, in order."""
        return tuple(block["id"] for block in self.blocks if block["type"] == "image")


@dataclass(frozen=True)
class Seen:
    """A picture of the policy's prompt."""

    id: str
    """sha256 of its encoded bytes; the name under which the store keeps them."""
    grid: tuple[int, int, int]
    """Time, height and width, in patches."""


@dataclass(frozen=True)
class Trajectory:
    """One episode."""

    id: str
    """Task, number of the rollout and training step: unique in a run."""
    task: str
    """Id of the task."""
    family: str
    """Kind of question, for tables."""
    knowledge: str
    """Source of the answer without a search: `visible`, `known`, `unknown`, or empty."""
    question: str
    """Question as it was asked."""
    golds: tuple[str, ...]
    """Accepted answers."""
    graph: str
    """Name of the graph that ran."""
    dialect: str
    """Name of the dialect of the actions."""
    policy: str
    """Name of the checkpoint or of the training run."""
    temperature: float
    """Sampling temperature."""
    answer: str | None = None
    """The answer; None: there was none."""
    correct: bool = False
    """Whether the answer is right by the task's golds and tolerance."""
    stop_reason: str = ""
    """A value of `lensgraph.agent.limits.StopReason`; empty if the run failed."""
    well_formed: bool = False
    """Whether the episode keeps the dialect's format rules."""
    steps: tuple[TrajectoryStep, ...] = ()
    """Steps of the nodes, in order."""
    messages: tuple[Said, ...] = ()
    """Dialogue of the policy."""
    pictures: tuple[Seen, ...] = ()
    """Every picture of the dialogue, in the order of its tokens."""
    ids: tuple[int, ...] = ()
    """Token ids of the whole dialogue. Empty: the policy does not report token ids."""
    mask: tuple[int, ...] = ()
    """1: the token was sampled. 0: it is the environment's, the template's, or an end of turn that a length
    limit cut off."""
    logprobs: tuple[float, ...] = ()
    """Log-probability of each sampled token when it was sampled; 0 elsewhere."""
    reward: dict[str, float] | None = None
    """Reward: `total` and its parts; None: the episode has no reward (a failure that is not the policy's)."""
    error: str | None = None
    """Failure outside the policy; None: there was none. If the reward failed, all other fields are recorded."""
    step: int | None = None
    """Training step of the policy."""
    version: int = field(default=VERSION)
    """Version of this record."""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.mask) == len(self.logprobs):
            raise ValueError(
                f"trajectory {self.id}: {len(self.ids)} ids, {len(self.mask)} mask entries and "
                f"{len(self.logprobs)} log-probabilities; they must be as many"
            )

    @property
    def decisions(self) -> tuple[TrajectoryStep, ...]:
        """The policy's turns."""
        return tuple(step for step in self.steps if step.action is not None)

    @property
    def total_reward(self) -> float | None:
        """Total of the reward; None: the episode has no reward."""
        return self.reward["total"] if self.reward else None

    def calls(self) -> dict[str, int]:
        """Executed tool calls by node."""
        counts: dict[str, int] = {}
        for step in self.steps:
            if step.hits is not None:
                counts[step.node] = counts.get(step.node, 0) + 1
        return counts

    def failed_tools(self) -> bool:
        """Whether a tool failed for a reason that the policy cannot influence."""
        return any(
            step.action is None and step.error is not None and step.error.split(":")[0] in OUTSIDE
            for step in self.steps
        )


def dump_trajectory(trajectory: Trajectory) -> dict[str, Any]:
    """The record as plain JSON values."""
    return asdict(trajectory)


def load_trajectory(record: Mapping[str, Any]) -> Trajectory:
    """The trajectory that `dump_trajectory` wrote.

    Raises:
        UserError: the record has another version or an unknown field.
    """
    if record.get("version") != VERSION:
        raise UserError(f"trajectory of version {record.get('version')!r}; this package reads version {VERSION}")
    unknown = sorted(set(record) - {f.name for f in fields(Trajectory)})
    if unknown:
        raise UserError(f"trajectory {record.get('id')!r} has unknown fields: {', '.join(unknown)}")
    nested = {
        "golds": tuple(record["golds"]),
        "steps": tuple(_step(step) for step in record["steps"]),
        "messages": tuple(Said(m["role"], tuple(m["blocks"])) for m in record["messages"]),
        "pictures": tuple(Seen(p["id"], _triple(p["grid"])) for p in record["pictures"]),
        **{name: tuple(record[name]) for name in ("ids", "mask", "logprobs")},
    }
    return Trajectory(**{**record, **nested})


def _step(record: Mapping[str, Any]) -> TrajectoryStep:
    tokens = tuple(record["tokens"]) if record["tokens"] else None
    hits = None if record["hits"] is None else tuple(record["hits"])
    lists = {name: tuple(record.get(name, ())) for name in ("left_out", "actions")}
    return TrajectoryStep(**{**record, "hits": hits, "tokens": tokens, **lists})


def _triple(values: Any) -> tuple[int, int, int]:
    time, height, width = values
    return int(time), int(height), int(width)


def _forget(path: Path, step: int) -> int:
    rows = jsonl.rows(path)
    kept = [row for row in rows if row["step"] is None or row["step"] < step]
    if len(kept) < len(rows):
        write_whole(path, "".join(map(jsonl.line, kept)).encode())
    return len(rows) - len(kept)


class TrajectoryStore:
    """A folder of trajectories, one file a writer, with every picture once.

    A kill at any moment loses at most the trajectory that is being written: a picture is there before the
    line that names it, a line counts once its newline is written, and opening the store again forgets half a
    line.
    """

    def __init__(self, folder: Path, *, writer: int = 0) -> None:
        self.folder, self.writer, self.path = folder, writer, folder / f"trajectories-{writer}.jsonl"
        self.pictures = folder / "pictures"
        self._ready = False

    def begin(self) -> None:
        """Make the folder, and forget what a kill left of the last line; done by the first `append` at the latest.

        Raises:
            OSError: the folder cannot be written.
        """
        if not self._ready:
            self.pictures.mkdir(parents=True, exist_ok=True)
            jsonl.rows(self.path)
            self._ready = True

    def append(self, trajectory: Trajectory, pictures: Mapping[str, bytes]) -> None:
        """Keep one trajectory; `pictures` are the encoded bytes of those it names.

        Raises:
            ValueError: a picture that the trajectory names is neither given nor stored.
        """
        self.begin()
        for identity in {picture for said in trajectory.messages for picture in said.pictures}:
            self._keep(identity, pictures.get(identity))
        jsonl.append(self.path, dump_trajectory(trajectory), durable=True)

    def _keep(self, identity: str, data: bytes | None) -> None:
        path = self.pictures / identity
        if path.exists():
            return
        if data is None:
            raise ValueError(f"picture {identity[:12]} is named by a trajectory but was not given")
        write_whole(path, data)

    def forget(self, step: int, *, processes: int | None = None) -> int:
        """Drop this writer's trajectories of training step `step` and later, and return their number.

        A run that goes on from a checkpoint makes them again. With `processes`, the first writer also drops
        those that a run with more processes left.
        """
        dropped = _forget(self.path, step)
        if processes is not None and self.writer == 0:
            for path in self.folder.glob("trajectories-*.jsonl"):
                number = path.stem.rpartition("-")[2]
                if number.isdecimal() and int(number) >= processes:
                    dropped += _forget(path, step)
        return dropped

    def __iter__(self) -> Iterator[Trajectory]:
        """All trajectories of all writers, file by file; safe while they are written.

        Raises:
            FileNotFoundError: there is no store in the folder.
            ValueError: a line is damaged, or no trajectory of this version.
        """
        files = sorted(self.folder.glob("trajectories-*.jsonl"))
        if not files:
            raise FileNotFoundError(f"{self.folder}: no trajectories there; give the folder of a run that kept them")
        for path in files:
            for record in jsonl.peek(path):
                try:
                    found = load_trajectory(record)
                except (KeyError, TypeError, AttributeError) as error:
                    raise jsonl.DamagedLineError(
                        f"{path}: a line is no trajectory ({error}); delete that line"
                    ) from error
                yield found

    def picture(self, identity: str) -> bytes:
        """The encoded bytes of a picture.

        Raises:
            FileNotFoundError: the store does not hold it.
        """
        path = self.pictures / identity
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder}: no picture {identity}")
        return path.read_bytes()

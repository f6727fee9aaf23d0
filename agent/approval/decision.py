"""The decision of a person about a call: the value that `Command(resume=...)` carries.

The shapes are those of LangChain's human in the loop: `{"type": "approve"}`, `{"type": "reject", "message": ...}` or
`{"type": "edit", "edited_action": {"name": ..., "args": ...}}`, alone or as the one item of `{"decisions": [...]}`. For those
who type it, the words `approve` and `reject` do as well.

Invariant: LangGraph reads a value by these types before it keeps it. So a value that cannot be read changes nothing: the call
still waits, and may be decided again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    StrictInt,
    StringConstraints,
    ValidationError,
)

from lensgraph.agent.config import ApprovalKind
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import Picture
from lensgraph.tools.base import MAX_QUERY_CHARS
from lensgraph.tools.safety.one_line import one_line

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUERY_CHARS)]


class _Decided(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TextArgs(_Decided):
    """Arguments of a text search."""

    query: Words
    """The words to search for."""


class RegionArgs(_Decided):
    """The part of a picture to search with, or to look at: a box, or words that are looked for. Neither: the whole picture."""

    region: Words | None = None
    """The region in words."""
    box: tuple[StrictInt, StrictInt, StrictInt, StrictInt] | None = None
    """Left, top, right and bottom in pixels of the picture. It goes before the words, unless only those were changed."""
    picture: str | None = None
    """Id of the picture that the box belongs to, or that is searched with. None: the one that was shown."""

    def meant(self, asked: RegionArgs) -> RegionArgs:
        """These arguments without a box that was only sent back beside other words."""
        echoed = self.box == asked.box and self.region not in (None, asked.region)
        return self.model_copy(update={"box": None}) if echoed else self


A = TypeVar("A", TextArgs, RegionArgs)


class Approve(_Decided):
    """The call is made as it was asked for."""

    type: Literal["approve"]
    """Names the decision."""


class Reject(_Decided):
    """The call is not made, and the policy is told so."""

    type: Literal["reject"]
    """Names the decision."""
    message: Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_QUERY_CHARS)] = ""
    """The reason, for the policy."""


class EditedCall(_Decided, Generic[A]):
    """The call to make instead."""

    name: str
    """Name of the call that was asked for: an edit changes its arguments and not its kind."""
    args: A
    """Its arguments."""


class Edit(_Decided, Generic[A]):
    """Another call of the same kind is made instead."""

    type: Literal["edit"]
    """Names the decision."""
    edited_action: EditedCall[A]
    """The call."""


def decision_type(kind: ApprovalKind, args: type[A], check: Callable[[A], object]) -> Any:
    """The type of the decision about a call of this kind. `check` raises `ValueError` for arguments that cannot be used."""

    def checked(decision: Approve | Reject | Edit[A]) -> Approve | Reject | Edit[A]:
        if isinstance(decision, Edit):
            if decision.edited_action.name != kind:
                raise ValueError(f"edited_action.name must be {kind!r}")
            check(decision.edited_action.args)
        return decision

    one = Annotated[Approve | Reject | Edit[args], Discriminator("type")]  # type: ignore[valid-type]
    return Annotated[one, BeforeValidator(_alone), AfterValidator(checked)]


def _alone(value: Any) -> Any:
    if value in ("approve", "reject"):
        return {"type": value}
    if isinstance(value, dict) and list(value) == ["decisions"]:
        decisions = value["decisions"]
        if not isinstance(decisions, list) or len(decisions) != 1:
            raise ValueError("`decisions` must hold one decision")
        return decisions[0]
    return value


def unreadable(error: ValidationError, kind: ApprovalKind) -> BadInput:
    """The error, in one line, for a value that is no decision."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    said = one_line(ValueError(f"{where}: {first['msg']}" if where else first["msg"]), 160)
    refused = BadInput(
        f"Command(resume=...): {said}. The {kind} still waits: give approve, reject, "
        '{"type": "reject", "message": ...} or '
        f'{{"type": "edit", "edited_action": {{"name": "{kind}", "args": ...}}}}.'
    )
    refused.__dict__.update(vars(error))  # LangGraph's mark: nothing was kept, and the interrupt may be answered again
    return refused


def check_region(args: RegionArgs, pictures: Sequence[Picture], shown: str | None, *, whole: bool) -> Picture | None:
    """The picture that a region belongs to; None where it is looked for in all of them. `shown` is the id of the default.

    Raises:
        ValueError: there is no such picture or box in it, or no region where the `whole` picture will not do.
    """
    if args.region is None and args.box is None and not whole:
        raise ValueError("give a region or a box")
    wanted = args.picture or shown
    found = next((picture for picture in pictures if picture["id"] == wanted), None)
    if found is None and (args.picture or args.box):
        raise ValueError(f"picture must be one of {', '.join(picture['id'] for picture in pictures)}")
    if found is not None and args.box is not None:
        left, top, right, bottom = args.box
        if not (0 <= left < right <= found["width"] and 0 <= top < bottom <= found["height"]):
            raise ValueError(f"box must lie within the {found['width']}x{found['height']} pixels of the picture")
    return found

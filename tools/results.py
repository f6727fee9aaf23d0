"""The results of tools: typed records, one for each kind of call.

Invariant: a result either carries something to use (`hits`, `regions`) or an `error` that says why not;
never both empty. A failed tool is data for the policy and for the trajectory, so these records always
serialise to JSON, also where a service sent half a character."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lensgraph.tools.safety.redact import without_data, without_logins
from lensgraph.tools.safety.surrogates import whole

Text = Annotated[str, AfterValidator(whole)]
"""A field for text from outside."""

Reason = Literal["timeout", "rate_limited", "unavailable", "bad_input", "malformed", "empty", "refused", "rejected"]
"""The reason of a failed call.

timeout: no answer in time. rate_limited: told to slow down. unavailable: network, server, missing key or
index. bad_input: the argument cannot be used. malformed: the provider's answer cannot be read. empty: it
worked and found nothing. refused: the guard did not let the address or the bytes through, or a limit the call. rejected: a
person did not let it be made."""


class ToolFailure(Exception):
    """Raised inside a tool to name the reason of a failure; the base class turns it into a `ToolError`.

    `status` is the HTTP status that a server answered with, `wait` the seconds that it asked to be left alone."""

    def __init__(self, reason: Reason, message: str, *, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(without_data(without_logins(message)))
        self.reason: Reason = reason
        self.status = status
        self.wait = wait


class _Frozen(BaseModel):
    # Bytes (thumbnails) become base64 in JSON: raw bytes are not always UTF-8.
    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")


class ToolError(_Frozen):
    """A failure as the policy and the trajectory see it."""

    reason: Reason
    """One of the fixed reasons; code branches on it."""
    message: Text
    """One line that names the value and, where there is one, the fix."""


class _Outcome(_Frozen):
    """The part that the results of all tools share."""

    error: ToolError | None = None
    """None: the call found something."""
    seconds: float = 0.0
    """Wall time of the call; written by the base class."""
    price: float = 0.0
    """US dollars charged for the call; 0 for a call that failed before it was sent."""
    cached: bool = False
    """True: the answer came from the cache, or from a caller who was just asking the same. It cost nothing."""


class Hit(_Frozen):
    """One search result."""

    title: Text
    """Title of the page."""
    url: Text
    """Address of the page; `file:` or `world:` for local indexes."""
    snippet: Text = ""
    """The part of the page that answers the query. Empty for providers that give none."""
    score: float | None = None
    """Higher is better; comparable within one result only. None: the provider gives no score."""
    thumbnail: bytes | None = Field(default=None, repr=False)
    """Encoded picture that matched (image search). None: no picture, or the provider does not send it."""


class SearchResult(_Outcome):
    """The outcome of one text or image search."""

    kind: Literal["text", "image"]
    """The kind of tool that ran."""
    query: Text
    """The words searched for; for an image search a short description such as `image 640x480`."""
    hits: list[Hit] = []
    """Best first. Empty exactly when `error` is set."""


class Page(_Outcome):
    """One page as text: what a page reader gives."""

    url: Text
    """The address that was asked for."""
    title: Text = ""
    """Title of the page. Empty: it has none."""
    text: Text = ""
    """The words of the page without menus and markup; from outside, so never to be trusted. Empty exactly when `error`
    is set."""


class Box(_Frozen):
    """A rectangle in pixels: `left` and `top` inside, `right` and `bottom` just outside, as Pillow crops."""

    left: int
    """First column."""
    top: int
    """First row."""
    right: int
    """One past the last column."""
    bottom: int
    """One past the last row."""

    @model_validator(mode="after")
    def _has_area(self) -> Box:
        if self.right <= self.left or self.bottom <= self.top:
            raise ValueError(f"Box {self.ltrb} has no area; right must exceed left and bottom must exceed top.")
        return self

    @property
    def ltrb(self) -> tuple[int, int, int, int]:
        """The four numbers in the order that `PIL.Image.crop` takes."""
        return (self.left, self.top, self.right, self.bottom)

    @property
    def width(self) -> int:
        """Columns covered."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows covered."""
        return self.bottom - self.top

    @property
    def area(self) -> int:
        """Pixels covered."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box as (x, y)."""
        return ((self.left + self.right) / 2, (self.top + self.bottom) / 2)

    def intersect(self, other: Box) -> Box | None:
        """The common part, or None when the boxes do not overlap."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        if right <= left or bottom <= top:
            return None
        return Box(left=left, top=top, right=right, bottom=bottom)

    def iou(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        common = self.intersect(other)
        if common is None:
            return 0.0
        return common.area / (self.area + other.area - common.area)

    def expand(self, fraction: float, within: tuple[int, int]) -> Box:
        """Grow each side by `fraction` of the box's own size, clipped to a picture of size `within`
        (width, height)."""
        dx, dy = round(self.width * fraction), round(self.height * fraction)
        return Box(
            left=max(0, self.left - dx),
            top=max(0, self.top - dy),
            right=min(within[0], self.right + dx),
            bottom=min(within[1], self.bottom + dy),
        )


class Region(_Frozen):
    """One place that a locator found."""

    box: Box
    """The place, in pixels of the picture given (after its EXIF rotation)."""
    score: float
    """Confidence of the locator, 0 to 1."""
    label: Text = ""
    """Class that the locator gives it, for example `flag`. Empty: it gives none."""


class LocateResult(_Outcome):
    """The outcome of one call of a locator."""

    expression: Text
    """The expression, verbatim."""
    regions: list[Region] = []
    """Best first. Empty exactly when `error` is set."""

"""The finished questions of a server as resources: `lensgraph://episodes/ID` and the pictures they are about.

Invariants: an episode holds no bytes, only addresses of its pictures; a picture is given out only while an episode that
shows it is kept, whatever else lies in the image store; an address cannot be guessed (a picture's is the hash of its
bytes), and addresses are listed only where all callers are one.
"""

from __future__ import annotations

import json
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from mcp_types import Resource, ResourceTemplate

from lensgraph.agent.images import Picture
from lensgraph.agent.state import this_question
from lensgraph.graphs.tool import ANSWER_KEYS
from lensgraph.tools.safety.redact import without_paths

SCHEME = "lensgraph://"
EPISODE, PICTURE = f"{SCHEME}episodes/", f"{SCHEME}pictures/"
JSON_TYPE = "application/json"
MOST = 64
"""Finished questions that are kept; the oldest one goes first. One has some 10 to 100 kB."""
TITLE_CHARS = 80
TEMPLATES = [
    ResourceTemplate(
        uri_template=f"{EPISODE}{{id}}", name="episode", title="A finished question", mime_type=JSON_TYPE,
        description="The steps that led to an answer: turns, searches, results and crops, as JSON. `ask` returns the address.",
    ),
    ResourceTemplate(
        uri_template=f"{PICTURE}{{id}}", name="picture", title="A picture or a crop of a finished question",
        description="An episode names the addresses of its pictures. `ask` takes one as `image`.",
    ),
]  # fmt: skip


class Episode(NamedTuple):
    """A finished question."""

    resource: Resource
    text: str
    """The document, JSON."""
    pictures: dict[str, tuple[Picture, str]]
    """Address -> the picture, and what it shows."""


class EpisodeShelf:
    """The latest finished questions, by address."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Episode] = OrderedDict()

    def keep(self, state: Mapping[str, Any]) -> str:
        """Keep the question that a run ended with; its address."""
        uri = f"{EPISODE}{uuid.uuid4().hex}"
        pictures: dict[str, tuple[Picture, str]] = {}

        def shown(picture: Picture | None, what: str) -> dict[str, Any] | None:
            if picture is None:
                return None
            pictures.setdefault(address := f"{PICTURE}{picture['id']}", (picture, what))
            return {**picture, "uri": address}

        steps: list[dict[str, Any]] = []
        originals = [shown(picture, "a picture of the question") for picture in state.get("pictures") or []]
        for step in this_question(state):  # type: ignore[arg-type]
            seen: dict[str, Any] = {**step, "error": without_paths(step.get("error") or "") or None}
            if "crop" in step:
                seen["crop"] = shown(step["crop"], f"the crop of {step.get('query', '')}")
            steps.append(seen)
        asked = str(state.get("asked") or "")
        document = {
            "question": asked,
            **{key: state.get(key) for key in ANSWER_KEYS},
            "pictures": originals,
            "steps": steps,
        }
        text = json.dumps(document)
        resource = Resource(
            uri=uri, name=uri.removeprefix(SCHEME), title=asked[:TITLE_CHARS] or None, mime_type=JSON_TYPE,
            description=f"Ended with: {state.get('stop_reason')}.", size=len(text),
        )  # fmt: skip
        self._kept[uri] = Episode(resource, text, pictures)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return uri

    def text(self, uri: str) -> str | None:
        """The document of an episode; None: there is none at this address."""
        return self._kept[uri].text if uri in self._kept else None

    def picture(self, uri: str) -> Picture | None:
        """The picture at an address that a kept episode shows."""
        return next((e.pictures[uri][0] for e in self._kept.values() if uri in e.pictures), None)

    def resources(self) -> list[Resource]:
        """All of them with their pictures, the latest first."""
        found: dict[str, Resource] = {}
        for episode in reversed(self._kept.values()):
            found[episode.resource.uri] = episode.resource
            for uri, (picture, what) in episode.pictures.items():
                found.setdefault(uri, Resource(
                    uri=uri, name=uri.removeprefix(SCHEME), title=what[:TITLE_CHARS], mime_type=picture["mime_type"],
                    description=f"{picture['width']} x {picture['height']} pixels",
                ))  # fmt: skip
        return list(found.values())

"""The picture that a client asks about, in the forms in which clients send one.

Invariant: a file is read only below the folder that the operator opened; whatever else is an address, the picture itself, or
one that this server showed the client before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensgraph.agent.chat import source_of
from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ID, names_file, read_named
from lensgraph.graphs.program.mcp_server.episode_shelf import PICTURE, SCHEME, EpisodeShelf
from lensgraph.tools import guard

Given = str | dict[str, Any]
"""Path, address, data URI, base64 or resource; or an object: image content, an embedded resource, a link to one."""


async def picture_of(given: Given, folder: bool | str, shelf: EpisodeShelf) -> str | bytes:
    """A picture as the graph takes it. `folder` is the one that is open, False for none.

    Raises:
        BadInput: it is no picture, or a resource that is not here.
        Refused: a file that may not be read.
    """
    block: Mapping[str, Any] = given if isinstance(given, Mapping) else {"type": "image", "url": given.strip()}
    if (own := _own(block)) is not None:
        found = shelf.picture(own)
        if found is None:
            raise BadInput(f"{own[:120]}: no such picture here; give one that a kept episode names, or send it itself.")
        return found["id"]
    source = source_of(block)
    if source is None:
        keys = ", ".join(sorted(map(str, block)))[:80]
        raise BadInput(
            f"`image` holds an object that is no picture: its keys are {keys}; give type, data and mimeType."
        )
    if isinstance(source, str) and ID.fullmatch(source.strip()) and shelf.picture(f"{PICTURE}{source.strip()}") is None:
        raise BadInput(
            f"{source.strip()}: no such picture here; give one that a kept episode names, or send it itself."
        )
    if not names_file(source):
        return source  # type: ignore[no-any-return]
    return await guard.in_time(lambda: read_named(source, folder))


def _own(block: Mapping[str, Any]) -> str | None:
    """The address of a resource of this server, if the block names one and does not carry it."""
    inner = block.get("resource")
    named = inner if isinstance(inner, Mapping) else block
    uri = next((named[key] for key in ("uri", "url") if isinstance(named.get(key), str)), "")
    return uri if uri.startswith(SCHEME) and not named.get("blob") else None

"""Settings of the cache, as the configuration's `tools.cache` holds them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Mode = Literal["off", "use", "replay"]


class CacheSettings(BaseModel):
    """The part of tools' answers that is kept, for how long, and where."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    mode: Annotated[Mode, BeforeValidator(lambda value: "off" if value is False else value)] = "use"
    """`use`: the same question is asked once. `replay`: answers come from the record and nobody is called, also without
    a network or keys. `off`: every question is asked. Tools that say that they answer on this machine (`on_this_machine`),
    such as the embedded engine, are not cached and run in a replay too."""
    folder: str | None = None
    """Folder of the cache; several processes may share it. None: `cache` in the folder that LENSGRAPH_HOME names."""
    ttl: float | None = Field(default=7 * 24 * 3600.0, gt=0)
    """Seconds that an answer is used for. None: for ever."""
    max_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """Cap on the kept bytes; entries that were not used for longest go first."""
    near_pictures: bool = True
    """Count a picture that was only saved or scaled again as the same question of an image search. Turn it off where two
    pictures may differ in nothing but print of less than 14 pixels."""

"""Dialects: how questions, observations and actions are written as text.

To add one: a file here with a subclass of `lensgraph.agent.dialects.base.Dialect` (its name, limits, numbers of results,
tags), its wording in `prompts/NAME.yaml`, its class in `table.DIALECTS` and its name below. The tests of the table, of
the prompts and of injection then run for it too.

Invariant: importing this module imports no dialect, so that reading the settings stays light.
"""

from typing import Literal

DialectName = Literal["compact", "deepmmsearch_r1", "mmsearch_r1", "tools"]
"""The names in `table.DIALECTS`: the valid values in the configuration and the API. A test compares the two."""

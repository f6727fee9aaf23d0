"""The nodes of an episode, one file each. The node that comes next stands in a node's return type.

Invariants: `reason` is the only sampled decision; a tool that fails, finds nothing or is over a limit becomes an
observation; only `answer` ends an episode; every node visit that waited for someone leaves one record in `steps`.
The functions without a `Command` do the work; the baselines in `graphs` use them too.
"""

from lensgraph.agent.nodes.answer import answer
from lensgraph.agent.nodes.call_tool import call
from lensgraph.agent.nodes.crop import crop
from lensgraph.agent.nodes.image_search import image_search, search_by_image
from lensgraph.agent.nodes.reason import reason, think
from lensgraph.agent.nodes.receive import receive, take_question, told, unseen
from lensgraph.agent.nodes.searching import edited_to, noted
from lensgraph.agent.nodes.text_search import search_by_text, text_search

__all__ = [
    "answer", "call", "crop", "edited_to", "image_search", "noted", "reason", "receive", "search_by_image", "search_by_text",
    "take_question", "text_search", "think", "told", "unseen",
]  # fmt: skip

"""One cache for all tools: the same question is asked once.

Siblings that ask the same at the same moment share one call, within a process (threads and event loops included) and
across processes that share the folder. `key` says when two questions are the same, `identity` when two tools are, `cache_store`
is the table on disk, `cache` ties them together.

This is our own, because general caches lack what decides the price of training: LangChain's keep the answers of language
models, and those of functions and HTTP key by exact arguments or bytes. Here nearly equal pictures are one question, one call
in flight serves everybody who asks, a failure is not kept, and a recorded run is replayed without the network.
"""

from lensgraph.tools.cache.by_settings import shared
from lensgraph.tools.cache.cache import EMPTY_SECONDS, Cache, Counts
from lensgraph.tools.cache.cache_store import ToolStats
from lensgraph.tools.cache.settings import CacheSettings, Mode

__all__ = ["EMPTY_SECONDS", "Cache", "CacheSettings", "Counts", "Mode", "ToolStats", "shared"]

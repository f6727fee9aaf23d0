"""The stream of an episode for a chat page: typed events in LangGraph's `custom` mode, the answer as it is written.

Invariants: an event is plain JSON and holds no byte of a picture; the nodes run alike whether somebody streams or not; where
nobody streams `custom`, the policy is called as ever and no event is made.
"""

from lensgraph.agent.stream.live import Live, heard
from lensgraph.agent.stream.telling import telling

__all__ = ["Live", "heard", "telling"]

"""Approval: a call of a tool stops before it is made, and a person approves, edits or rejects it.

`decision.py` reads the answer, `request.py` writes the question, `review.py` stops the graph between the two. The nodes that
spend ask here, so approval holds in every graph.
"""

from lensgraph.agent.approval.decision import RegionArgs, TextArgs, check_region
from lensgraph.agent.approval.request import ApprovalRequest
from lensgraph.agent.approval.review import Reviewed, review

__all__ = ["ApprovalRequest", "RegionArgs", "Reviewed", "TextArgs", "check_region", "review"]

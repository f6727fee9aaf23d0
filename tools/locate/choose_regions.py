"""Chooses the regions that a parsed expression means among those found in the picture.

Invariant: the result is a non-empty list, best first, or a `ToolFailure` of reason `empty` that says how many regions
were found, so that the policy can ask better.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lensgraph.tools.locate.colours import shares
from lensgraph.tools.locate.flags import flag_likeness
from lensgraph.tools.locate.grammar import Side, Wanted, ordinal
from lensgraph.tools.locate.proposals import Proposal
from lensgraph.tools.results import Box, Region, ToolFailure

LIKELY = 0.5
"""A region at least this likely to be a flag counts as one."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A region with what expressions ask about, measured when first asked."""

    proposal: Proposal

    @property
    def box(self) -> Box:
        """The region's box."""
        return self.proposal.box

    @cached_property
    def flag(self) -> float:
        """Likelihood that it is a flag, 0 to 1."""
        return flag_likeness(self.proposal)

    @cached_property
    def colours(self) -> dict[str, float]:
        """Share of each colour word."""
        return shares(self.proposal.pixels[self.proposal.mask])


def choose(wanted: Wanted, proposals: list[Proposal], expression: str) -> list[Region]:
    """The regions an expression means, best first; with a definite expression just one."""
    everything = [Candidate(proposal) for proposal in proposals]
    if not everything:
        raise ToolFailure("empty", "No region stands out from the background: 0 regions were found.")
    if not wanted.specific and len(everything) > 1 and (wanted.unknown or wanted.noun == "any"):
        raise ToolFailure(
            "empty",
            f"Cannot tell which of {len(everything)} regions {expression[:80]!r} means; "
            "say it by position, order, size or colour.",
        )
    candidates = _of_noun(wanted, everything)
    candidates = _in_band(wanted, candidates)
    if wanted.colours:
        candidates = _of_colour(wanted, candidates)
    picked = _pick(wanted, candidates, everything)
    return [
        Region(box=c.box, score=round(_score(wanted, c), 3), label="flag" if c.flag >= LIKELY else "thing")
        for c in picked
    ]


def _of_noun(wanted: Wanted, everything: list[Candidate]) -> list[Candidate]:
    if wanted.noun == "any":
        return everything
    if wanted.noun == "other":
        return [c for c in everything if c.flag < LIKELY] or everything
    flags = [c for c in everything if c.flag >= LIKELY]
    if not flags:
        # Flags are told by looks: where none is sure, the likeliest one is meant, if it is at all likely.
        best = max(everything, key=lambda c: c.flag)
        if best.flag < 0.03 and len(everything) > 1:
            raise ToolFailure("empty", f"No flag among the {_regions(len(everything))} found.")
        flags = [best]
    return flags


def _in_band(wanted: Wanted, candidates: list[Candidate]) -> list[Candidate]:
    if wanted.band is None:
        return candidates
    axis = 1 if wanted.band in ("top", "bottom") else 0
    groups = _lines(candidates, axis)
    return groups[0] if wanted.band in ("top", "left") else groups[-1]


def _of_colour(wanted: Wanted, candidates: list[Candidate]) -> list[Candidate]:
    if len(candidates) == 1:
        return candidates
    # All the colours must be there: the scarcest one decides.
    amount = {id(c): min(c.colours[word] for word in wanted.colours) for c in candidates}
    best = max(amount.values())
    if best < 0.05:
        raise ToolFailure("empty", f"None of the {_regions(len(candidates))} found is {' and '.join(wanted.colours)}.")
    if wanted.rank or wanted.corner or wanted.middle or wanted.size:
        return [c for c in candidates if amount[id(c)] >= 0.5 * best]
    return [max(candidates, key=lambda c: amount[id(c)])]


def _pick(wanted: Wanted, candidates: list[Candidate], everything: list[Candidate]) -> list[Candidate]:
    if wanted.size:
        ordered = sorted(candidates, key=lambda c: _size(c.box, wanted.size or "large"), reverse=True)
        return [_ranked(wanted, ordered, everything)]
    if wanted.corner:
        return [_in_corner(wanted.corner, candidates)]
    if wanted.middle and wanted.side is None:
        return [_in_middle(candidates)]
    if wanted.rank is not None:
        return [_ranked(wanted, _ordered(candidates, wanted.side), everything)]
    return sorted(candidates, key=lambda c: (-c.flag if wanted.noun == "flag" else 0.0, -c.box.area))


def _ranked(wanted: Wanted, ordered: list[Candidate], everything: list[Candidate]) -> Candidate:
    rank = wanted.rank or 1
    if abs(rank) > len(ordered):
        noun = "flag" if wanted.noun == "flag" else "region"
        count = f"{len(ordered)} {noun}{'s' if len(ordered) != 1 else ''}"
        among = f" among {_regions(len(everything))}" if len(ordered) != len(everything) else ""
        verb = "was" if len(ordered) == 1 else "were"
        raise ToolFailure("empty", f"There is no {ordinal(rank)} {noun}: {count}{among} {verb} found.")
    return ordered[rank - 1 if rank > 0 else rank]


def _ordered(candidates: list[Candidate], side: Side | None) -> list[Candidate]:
    if side is None:
        return [c for line in _lines(candidates, 1) for c in sorted(line, key=lambda c: c.box.centre[0])]
    axis = 0 if side in ("left", "right") else 1
    return sorted(candidates, key=lambda c: c.box.centre[axis], reverse=side in ("right", "bottom"))


def _lines(candidates: list[Candidate], axis: int) -> list[list[Candidate]]:
    """Rows (axis 1) or columns (axis 0): neighbours whose centres are closer than half an item."""
    ordered = sorted(candidates, key=lambda c: c.box.centre[axis])
    span = float(np.median([c.box.height if axis else c.box.width for c in ordered]))
    lines = [[ordered[0]]]
    for candidate in ordered[1:]:
        if candidate.box.centre[axis] - lines[-1][-1].box.centre[axis] > 0.5 * span:
            lines.append([])
        lines[-1].append(candidate)
    return lines


def _in_corner(corner: tuple[Side, Side], candidates: list[Candidate]) -> Candidate:
    xs, ys = [c.box.centre[0] for c in candidates], [c.box.centre[1] for c in candidates]
    wide, high = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0

    def far(c: Candidate) -> float:
        x, y = (c.box.centre[0] - min(xs)) / wide, (c.box.centre[1] - min(ys)) / high
        return (x if corner[1] == "left" else 1 - x) ** 2 + (y if corner[0] == "top" else 1 - y) ** 2

    return min(candidates, key=far)


def _in_middle(candidates: list[Candidate]) -> Candidate:
    xs, ys = [c.box.centre[0] for c in candidates], [c.box.centre[1] for c in candidates]
    x, y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    if len(candidates) % 2:
        # In a line the middle one is the median, however unevenly they are spaced.
        axis = 0 if max(xs) - min(xs) >= max(ys) - min(ys) else 1
        if len(_lines(candidates, 1 - axis)) == 1:
            return sorted(candidates, key=lambda c: c.box.centre[axis])[len(candidates) // 2]
    return min(candidates, key=lambda c: (c.box.centre[0] - x) ** 2 + (c.box.centre[1] - y) ** 2)


def _size(box: Box, kind: str) -> float:
    return {"large": box.area, "small": -box.area, "tall": box.height, "wide": box.width}[kind]


def _score(wanted: Wanted, candidate: Candidate) -> float:
    score = 1.0
    if wanted.noun == "flag":
        score *= candidate.flag
    if wanted.colours:
        score *= min(1.0, 0.3 + min(candidate.colours[word] for word in wanted.colours))
    return score * 0.6 ** len(wanted.unknown)


def _regions(count: int) -> str:
    return f"{count} region{'s' if count != 1 else ''}"

"""A scripted oracle: the policy of the demonstrations that the pocket policy's cold start learns from.

It takes the policy's place in the graph, gets the policy's messages and writes turns in the graph's dialect, so
a demonstration is a real run of the real graph with the real tools. Beyond the dialogue it knows the task: its
family, a good query and the gold answers. It names an entity as the search results name it, never as the task
does, so a wrong search result leads to a wrong answer, and training skips the run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict

from lensgraph.agent.actions import Action, Answer, GiveUp, SearchByImage, SearchByText
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.policy.model_types import Manager, Messages, Stop
from lensgraph.rl.tasks.match import match
from lensgraph.tools.local.world import entities
from lensgraph.tools.local.world.questions.world_task import WorldTask
from lensgraph.tools.local.world.world_index import subject

Workflow = Literal["search_agent", "direct", "rag"]
_RANKED = re.compile(r"(?:<information>)?^(?:<information>)?\d+\. .*$|</information>", re.MULTILINE)
"""First line of a result: its rank and title, which are not words of the page."""
_CLAUSE = re.compile(r"; |\n|\. ")
_HIT = re.compile(r"^(?:<information>)?\d+\. (.+?)(?: \(-?\d\.\d+\))?(?:</information>)?$", re.MULTILINE)


class OraclePolicy(BaseChatModel):
    """Writes the demonstration of one task."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    task: WorldTask
    """The task, with its gold answers."""
    dialect: Dialect
    """Dialect of the turns."""
    workflow: Workflow = "search_agent"
    """Graph that is demonstrated."""
    eager: bool = False
    """Search first, also where the answer is known or visible; online training has to find out that it need not."""
    frugal: bool = False
    """Search in the page's own words at once, not in the question's words first: the fewest searches that a task allows."""

    @property
    def _llm_type(self) -> str:
        return "lensgraph-oracle"

    def _generate(
        self, messages: Messages, stop: Stop = None, run_manager: Manager = None, **kwargs: Any
    ) -> ChatResult:
        said = [self.dialect.read(str(m.text)) for m in messages if isinstance(m, AIMessage)]
        thought, action = self.decide(said, str(messages[-1].text))
        message = AIMessage(self.dialect.write(thought, action))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def decide(self, said: Sequence[Action], seen: str) -> tuple[str, Action]:
        """The next thought and action, from the actions so far and the text of the last observation."""
        task = self.task
        if self.workflow == "direct":
            return "", Answer(task.golds[0])
        if self.workflow == "search_agent" and not said:
            if task.knowledge == "visible":
                return ("I search first.", SearchByImage()) if self.eager else ("I can see it.", Answer(task.golds[0]))
            if task.knowledge == "known" and not self.eager:
                return f"I know this: {self._entity}.", Answer(task.golds[0])
            region = task.target
            need = f"I need {region}." if region else "I search first." if self.eager else "I do not know this."
            return need, SearchByImage(region)
        last = said[-1] if said else SearchByImage()
        if isinstance(last, SearchByImage):
            return self._after_image(last, said, seen)
        return self._after_text(said, seen)

    def _after_image(self, last: SearchByImage, said: Sequence[Action], seen: str) -> tuple[str, Action]:
        task = self.task
        if task.knowledge == "visible":
            return "I can see it.", Answer(task.golds[0])
        titles = _HIT.findall(seen.split("Search results:")[-1])
        if not titles:
            tried = sum(isinstance(action, SearchByImage) for action in said)
            if last.region and tried < 2:
                return "That region was not found. I search the whole picture.", SearchByImage()
            return "The search found nothing.", GiveUp()
        name = subject(titles[0])
        if not task.query_formal:
            # the RAG workflow demands a text query even where the title answers
            return f"1. {titles[0]}", SearchByText(name) if self.workflow == "rag" else Answer(name)
        lay = task.query_lay if self.workflow == "search_agent" and not self.frugal else ""
        return f"1. {titles[0]}", SearchByText(self._query(lay or task.query_formal, name))

    def _after_text(self, said: Sequence[Action], seen: str) -> tuple[str, Action]:
        if not self.task.query_formal:
            name = self._name(said) or self.task.golds[0]
            return name, Answer(name)
        words = self.task.query_formal.replace(self._entity, "", 1)
        for gold in self.task.golds:
            quoted = quote(seen, gold, words)
            if quoted is not None:
                return quoted, Answer(gold)
        queries = [action.query for action in said if isinstance(action, SearchByText)]
        subject = self._name(said)
        better = self._query(self.task.query_formal, subject) if subject else None
        if self.workflow == "rag" or better is None or better in queries:
            return "The pages do not give it.", GiveUp()
        return "That does not answer it. I ask with other words.", SearchByText(better)

    def _query(self, query: str, name: str) -> str:
        """The query with the name from the search results, which need not be the task's entity."""
        return query.replace(self._entity, name, 1)

    @property
    def _entity(self) -> str:
        """The name that the task's own queries begin with."""
        return entities.get(self.task.entity_id).name if self.task.entity_id else ""

    def _name(self, said: Sequence[Action]) -> str | None:
        """The name in the first text query: the query without its fixed words."""
        first = next((action.query for action in said if isinstance(action, SearchByText)), None)
        for query in (self.task.query_lay, self.task.query_formal):
            words = query.removeprefix(self._entity)
            if first is not None and words and first.endswith(words):
                return first.removesuffix(words)
        return first


def right(answer: str | None, task: WorldTask) -> bool:
    """Whether a demonstration's answer is right, by the task's own golds."""
    return answer is not None and match(answer, task.golds, task.tolerance)


def quote(observation: str, gold: str, query: str) -> str | None:
    """The words of a page that lead to the gold, with the gold; None: the page does not state it.

    A policy that quotes the page before it answers copies the answer's beginning from the page. A quote begins
    at a mark: the line's label, a word of the query ("family Giraffidae") or the verb of a definition ("is a
    spherical model"). If the gold stands in several places, the one whose label matches the query best is
    taken.
    """
    body = _RANKED.sub("\n", observation.split("Search results:")[-1])
    places = [place.start() for place in re.finditer(rf"(?<!\w){re.escape(gold)}(?!\w)", body)]
    if not places:
        return None
    asked = set(_words(query))

    def clause(place: int) -> str:
        return _CLAUSE.split(body[:place])[-1]

    def answers(place: int) -> int:
        label, colon, _ = clause(place).partition(":")
        return len(asked & set(_words(label))) if colon else 0

    place = max(places, key=answers)
    lead = clause(place)
    if ":" not in lead or len(lead) >= 60:
        spans = list(re.finditer(r"\S+", lead))[-5:]
        marks = [span for span in spans if span[0].lower() in asked] or [
            span for span in spans if span[0] in ("is", "are", "was", "were")
        ]
        lead = lead[(marks or spans)[-1].start() :] if spans else ""
    start = place - len(lead)
    # with the space before it, because byte-level BPE has different tokens for a word with and without it
    return body[start - (body[start - 1 : start] == " ") : place] + gold


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())

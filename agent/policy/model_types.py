"""Short names of LangChain's types, for the methods that every chat model overrides."""

from __future__ import annotations

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.messages import BaseMessage

Messages = list[BaseMessage]
Stop = list[str] | None
Manager = CallbackManagerForLLMRun | None
AsyncManager = AsyncCallbackManagerForLLMRun | None

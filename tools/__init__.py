"""The tools that an agent reaches: text search, image search, locating a region and reading pages.

Each tool is a LangChain `BaseTool` and knows nothing of agents. Importing this package loads neither
torch nor a database; a provider's weight is paid when that provider is built."""

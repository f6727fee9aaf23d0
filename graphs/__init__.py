"""The search agent, the baselines that it is compared with, and the programs around them.

Each of `search_agent`, `rag` and `direct` has a compiled `graph` with the same input and output, and a `build` that compiles
one with a checkpointer. `tool.as_tool` makes a graph one tool of another agent; `program` is the command line and the
MCP server; `bench` measures the graph.
"""

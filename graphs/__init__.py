"""What is wired: the search agent, and the baselines that it is compared with; and the search agent inside other programs.

Each of `search_agent`, `rag` and `direct` has a compiled `graph` with the same input and output, and a `build` that compiles
one with a checkpointer. `lensgraph.graphs.tool.as_tool` makes a graph one tool of another agent, `lensgraph.graphs.program.mcp_server` serves it.
"""

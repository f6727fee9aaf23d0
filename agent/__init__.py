"""The agent: what it knows, what it may do, and how it speaks to its policy.

`state` is what flows through a graph, `nodes` are the steps, `dialects` write actions as text, `policy` holds the
chat models that decide, `context` finds the backends of a run. Nothing here says in which order the nodes run: that is
`graphs`. Importing this package imports nothing heavy.
"""

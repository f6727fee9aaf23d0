"""The agent: its state, its nodes, and the text that it exchanges with its policy.

`state` flows through a graph, `nodes` write it, `dialects` write actions as text, `policy` holds the chat models that
decide, `config` the settings, `context` finds the backends of a run. `graphs` says in which order the nodes run. See
README.md beside this file. Importing this package imports nothing heavy.
"""

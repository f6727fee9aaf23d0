"""What is wired: the search agent, and the baselines that it is compared with.

Each module has a compiled `graph` with the same input and output, and a `build` that compiles one with a checkpointer.
"""

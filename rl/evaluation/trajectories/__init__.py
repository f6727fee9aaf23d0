"""Work with recorded trajectories: record a policy's, read one, count over many, and export training data.

`record`, `show`, `stats` and `export` are a file each; `command` is the command line.
"""

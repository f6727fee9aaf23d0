"""Work with recorded trajectories: record a policy's, read one, count over many, and export training data.

`roll_out`, `show_trajectory`, `stats` and `export` are a file each; `command` is the command line.
"""

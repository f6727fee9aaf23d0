"""The servers that `lensgraph serve` starts: their command lines, and their life."""

"""The embedded world's artwork, remade from registry packages (needs `lensgraph[world]`). Nobody who asks needs it."""

"""Figures of the embedded world: its card, and how well the tools retrieve and locate in it."""

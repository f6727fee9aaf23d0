"""The making of the pocket policy that ships with the package; skip it when reading.

Network: `pocket_network` builds it with its tokenizer, and `copy_heads` gives it a copying circuit to start from.
Vision tower (`python -m rl.train sight`): `vision_recipe`, `vision_targets` (pictures and labels) and
`vision_pretraining` (the run). Demonstrations for the cold start: `oracle` acts, `demonstrations` runs it
through the graphs and keeps the right runs. Variety in the training rows: `rephrase` (other words), `invent`
(invented names and values), `redraw` (other drawings) and `invented_flags` (flags that do not exist).
"""

"""The embedded image embedder: one small network, its weights, and the recipe that remakes them."""

"""Sampling in another process: `process` is this side, `worker` the other, `shared_weights` the memory
between them."""

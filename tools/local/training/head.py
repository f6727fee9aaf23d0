"""Fit the last two linear maps of the network, in closed form, after `fit`.

    python -m lensgraph.tools.local.training head [--weights FILE]

`sense`: soft whitening. The directions in which drawings of one train entity differ between artists are turned down, by
an eigenvalue floor of `FLOOR` times the mean so that nothing is thrown away; then the strongest `network.SENSE` directions are
kept. `shorten`: the strongest directions of `look`. Invariant: only train entities by training artists are looked at.
Every run gives the same maps.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from lensgraph.tools.local.embedder import numpy_network, shipped
from lensgraph.tools.local.training import torch_network
from lensgraph.tools.local.training.fit import save
from lensgraph.tools.local.training.material import ALLOWED
from lensgraph.tools.local.world import entities, renditions

FLOOR = 6.0
"""Eigenvalue floor of the whitening, in means of the eigenvalues."""


def main(argv: Sequence[str]) -> None:
    """Read the options and fit the two maps."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.tools.local.training head", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--weights", type=Path, default=numpy_network.WEIGHTS)
    options = parser.parse_args(argv)
    fit(options.weights)


def fit(weights: Path) -> None:
    """Write the two maps into the weights."""
    model = torch_network.load_network(weights)
    keys = [(e.id, r) for e in entities.select(split="train") for r in ALLOWED if renditions.has(e.id, r)]
    looks, features = [], []
    for start in range(0, len(keys), torch_network.BATCH):
        pixels = np.stack(
            [shipped.letterbox(renditions.load_rendition(*key)) for key in keys[start : start + torch_network.BATCH]]
        )
        with torch.inference_mode():
            look, feature = model.views(torch_network.normalised(pixels))
        looks.append(look.numpy())
        features.append(feature.numpy())
    sense, shorten = maps(np.concatenate(looks), np.concatenate(features), np.array([key[0] for key in keys]))
    state = {**load_file(weights), "sense.weight": torch.from_numpy(sense), "shorten.weight": torch.from_numpy(shorten)}
    save(state, weights)


def maps(looks: np.ndarray, features: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sense, shorten) as weight matrices."""
    _, who = np.unique(owners, return_inverse=True)
    means = np.stack([features[who == i].mean(0) for i in range(who.max() + 1)])
    within = features - means[who]
    scatter = within.T @ within / len(within)
    values, directions = np.linalg.eigh(scatter + FLOOR * np.trace(scatter) / len(scatter) * np.eye(len(scatter)))
    whiten = directions @ np.diag(values**-0.5) @ directions.T
    white = features @ whiten
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    sense = strongest(white, numpy_network.SENSE) @ whiten
    # the scale does not matter to the unit vector; this one keeps half precision exact enough
    sense /= np.abs(sense).max()
    return sense.astype(np.float32), strongest(looks, numpy_network.DIMENSION - numpy_network.SENSE).astype(np.float32)


def strongest(rows: np.ndarray, n: int) -> np.ndarray:
    """The `n` directions that keep most of the inner products between the rows."""
    return np.linalg.svd(rows, full_matrices=False)[2][:n]

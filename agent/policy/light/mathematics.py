"""The arithmetic that decoder and vision tower of Qwen2.5-VL share, in numpy and float32.

Invariant: the factor 1 / sqrt(head width) is multiplied into the weights of the queries, so `attention` does not scale.
"""

from __future__ import annotations

import math

import numpy as np

ROWS = 64
"""Queries whose scores are computed at once: they stay in the CPU's cache, and a long dialogue takes no more memory."""

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: off by 1.5e-7 at most
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_ERF_P = 0.3275911


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Multiply rows by a weight matrix (out, in), and add the bias."""
    out: np.ndarray = x @ weight.T
    if bias is not None:
        out += bias
    return out


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    """Root-mean-square norm over the last axis."""
    scale = np.vecdot(x, x)
    scale *= 1 / x.shape[-1]
    scale += eps
    np.sqrt(scale, out=scale)
    out: np.ndarray = x / scale[..., None]
    out *= weight
    return out


def frequencies(theta: float, width: int) -> np.ndarray:
    """Inverse rotary frequencies of `width` values."""
    return (1.0 / theta ** (np.arange(0, width, 2, dtype=np.float32) / width)).astype(np.float32)


def rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Rotary embedding: the first half of a head rotates with the second. `cos` and `sin` have half the head's width."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    out = np.empty_like(x)
    np.multiply(first, cos, out=out[..., :half])
    out[..., :half] -= second * sin
    np.multiply(second, cos, out=out[..., half:])
    out[..., half:] += first * sin
    return out


def silu(x: np.ndarray) -> np.ndarray:
    """SiLU, x * sigmoid(x), computed by tanh, which does not overflow."""
    half = x * 0.5
    out: np.ndarray = np.tanh(half)
    out += 1
    out *= half
    return out


def gelu(x: np.ndarray) -> np.ndarray:
    """Exact GELU, with the error function, which numpy lacks."""
    z = np.abs(x)
    z *= math.sqrt(0.5)
    t = 1 / (1 + _ERF_P * z)
    erf = np.zeros_like(z)
    for factor in reversed(_ERF):
        erf += factor
        erf *= t
    z *= z
    erf *= np.exp(-z)
    np.subtract(1, erf, out=erf)
    out: np.ndarray = np.copysign(erf, x)
    out += 1
    out *= x
    out *= 0.5
    return out


def attention(q: np.ndarray, keys: np.ndarray, values: np.ndarray, start: int | None = None) -> np.ndarray:
    """Softmax attention, (tokens, heads * width).

    `q` is (heads, tokens, width); keys and values may have fewer heads (grouped-query attention). With `start` the attention
    is causal and the first query is token number `start`; with None every token sees all tokens.
    """
    heads, count, width = q.shape
    groups = len(keys)
    grouped = q.reshape(groups, heads // groups, count, width)
    keys, values = keys.swapaxes(1, 2)[:, None], values[:, None]
    out = np.empty((count, groups, heads // groups, width), q.dtype)
    for first in range(0, count, ROWS):
        last = min(first + ROWS, count)
        seen = keys.shape[-1] if start is None else start + last
        scores = grouped[:, :, first:last] @ keys[..., :seen]
        if start is not None and last - first > 1:
            scores[..., start + first :] += _LATER[: last - first, : last - first]
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        taken = scores @ values[..., :seen, :]
        taken /= scores.sum(-1, keepdims=True)  # after the product: there are fewer of these
        out[first:last] = taken.transpose(2, 0, 1, 3)
    return out.reshape(count, heads * width)


_LATER = np.triu(np.full((ROWS, ROWS), -np.inf, np.float32), 1)

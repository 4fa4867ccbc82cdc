"""Round weights to integers so that the errors of a filter cancel instead of adding up.

Three data-free steps for each output channel:

1. the scale is the one, among a few below max|w| / 127, with the least squared error, rounded to
   bits that compress where that changes nothing;
2. rounding to nearest leaves each tap group of a filter (all taps of one input channel) with a
   sum of errors; as neighbouring pixels are alike, that sum is what reaches the output, so the
   values nearest to a tie are rounded the other way until it is as small as it can be;
3. the same over the whole filter, as channels behind a ReLU have a positive mean.

Source of 2 and 3: the diagonal approximations of SQuant (Guo et al., ICLR 2022). Few values flip in
a row, so the next one is searched anew each time instead of sorting all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

TINY = np.float32(2.0**-100)  # filters or blocks below this are stored as zeros
LIMIT = 127
FINE_LIMIT = 16 * LIMIT  # of int16 weights: what two int8 factors, or a depthwise sum, can hold
SHRINK = np.linspace(1.0, 0.7, 16)  # candidate scales, as parts of the largest
SHORT_BITS = 15  # of a scale are zeros at its end, where the error grows by no more than this:
SHORT_ERROR = np.float32(1.05)
CHUNK = 1 << 17  # weights handled at once, so that all steps find them in the cache


def round_weights(w: Array, block: int | None, factor: int = 1) -> tuple[Array, Array]:
    """Quantize filters symmetrically.

    Parameters
    ----------
    w : (N, K, T) float32: output channels, input channels, taps.
    block : input channels that share a scale; None: one scale per output channel.
    factor : how many times the levels of int8 there are, at most 16.

    Returns
    -------
    q : (N, K, T) int8 in [-127, 127], or int16 in [-127 factor, 127 factor] where that is not 1.
    scale : (N,) float32, or (N, ceil(K / block), T) where `block` is given.
    """
    step = max(1, CHUNK // max(1, w[0].size))
    limit = LIMIT * factor
    parts = [_round(w[i : i + step], block, limit) for i in range(0, len(w), step)]
    return np.concatenate([q for q, _ in parts]), np.concatenate([s for _, s in parts])


def _round(w: Array, block: int | None, limit: int) -> tuple[Array, Array]:
    n, k, taps = w.shape
    whole = w.reshape(n, 1, -1)
    scale = _best_scale(whole, limit).reshape(n)
    if block is None:
        scale = _shortened(whole, scale.reshape(n, 1), limit).reshape(n)
        spread = scale.reshape(n, 1, 1)
    else:
        # the filter's own scale is a candidate of its blocks too: weights that lie on a grid
        # already keep it
        starts, grid = np.arange(0, k, block), scale.reshape(n, 1)
        blocks = [_best_scale(w[:, s : s + block].transpose(0, 2, 1), limit, grid) for s in starts]
        scale = np.stack(blocks, axis=1)
        spread = np.repeat(scale, block, axis=1)[:, :k]
    q = _nearest(w, spread, limit)
    unit = np.ascontiguousarray(np.broadcast_to(spread, w.shape))
    for shape in ((n * k, taps), (n, k * taps)) if taps > 1 else ((n, k),):
        _cancel(w.reshape(shape), q.reshape(shape), unit.reshape(shape), limit)
    return q.astype(np.int8 if limit == LIMIT else np.int16), scale


def _best_scale(w: Array, limit: int, other: Array | None = None) -> Array:
    """Scale with the least squared error of each row, (N, R, L) -> (N, R).

    Parameters
    ----------
    other : one more candidate, (N, 1), for rows that it does not clip; rows of zeros take it, since
        the largest scale of a filter is the unit of its 16-bit weights.
    """
    peak = np.abs(w).max(axis=2)
    empty = np.float32(1) if other is None else other
    best = np.where(peak < TINY, empty, peak / np.float32(limit)).astype(np.float32)
    error = _squared_error(w, best, limit)
    for factor in SHRINK[1:]:
        scale = np.where(peak < TINY, best, peak * np.float32(factor / limit)).astype(np.float32)
        found = _squared_error(w, scale, limit)
        better = found < error
        best, error = np.where(better, scale, best), np.where(better, found, error)
    if other is not None:
        fits = (peak <= other * np.float32(limit + 0.5)) & (peak >= TINY)
        better = fits & (_squared_error(w, np.broadcast_to(other, peak.shape), limit) < error)
        best = np.where(better, other, best)
    return best


def _shortened(w: Array, scale: Array, limit: int) -> Array:
    """The next scale above or below whose last bits are zeros, where the error allows it."""
    rest, bits = np.uint32((1 << SHORT_BITS) - 1), scale.view(np.uint32)
    best, least = scale, _squared_error(w, scale, limit) * SHORT_ERROR
    for short in (((bits + rest) & ~rest).view(np.float32), (bits & ~rest).view(np.float32)):
        error = _squared_error(w, short, limit)
        best, least = np.where(error <= least, short, best), np.minimum(error, least)
    return best


def _squared_error(w: Array, scale: Array, limit: int) -> Array:
    unit = scale[..., None]
    rest = _nearest(w, unit, limit)
    rest *= unit
    np.subtract(w, rest, out=rest)
    error: Array = np.einsum("nrl,nrl->nr", rest, rest)
    return error


def _nearest(w: Array, unit: Array, limit: int) -> Array:
    q = w / unit
    np.rint(q, out=q)
    clipped: Array = np.clip(q, -limit, limit, out=q)
    return clipped


def _cancel(w: Array, q: Array, unit: Array, limit: int) -> None:
    """Flip the roundings nearest to a tie until the errors of each row sum to about zero.

    Parameters
    ----------
    w, unit : (R, L): weights and their scales.
    q : (R, L) rounded weights, changed in place.
    """
    error = w - q * unit
    total = error.sum(axis=1, dtype=np.float64)
    sign = np.sign(total).astype(np.float32)
    toward = error  # in (0, 0.5] where a flip helps: it overshoots little
    toward /= unit
    toward *= sign[:, None]
    toward[np.abs(q + sign[:, None]) > limit] = 0
    rest, rows = np.abs(total), np.arange(len(w))
    while len(rows):
        place = toward.argmax(axis=1)
        gain = unit[rows, place]
        flips = (toward[np.arange(len(rows)), place] > 0) & (gain <= 2 * rest)
        rows, place, toward = rows[flips], place[flips], toward[flips]
        q[rows, place] += sign[rows]
        toward[np.arange(len(rows)), place] = 0
        rest = rest[flips] - gain[flips]

"""Non-maximum suppression: of boxes of one class that overlap, keep the one of highest score."""

from __future__ import annotations

import numpy as np

from accel.detection.boxes import Array, Candidates, overlaps

MAX_CANDIDATES = 10_000  # an image's best; bounds the time that odd outputs can cost


def suppress(found: Candidates, overlap: float, limit: int) -> Candidates:
    """Greedy suppression within each class.

    Parameters
    ----------
    found : boxes inside 0..1, see `Candidates.clipped`
    overlap : boxes of one class whose intersection over union passes this are one object
    limit : most boxes returned

    Returns
    -------
    The boxes kept, by falling score; equal scores keep their order.
    """
    order = np.argsort(-found.scores, kind="stable")[:MAX_CANDIDATES]
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        shared = overlaps(found.boxes[best : best + 1], found.boxes[order])[0]
        order = order[(shared <= overlap) | (found.classes[order] != found.classes[best])]
    chosen: Array = np.array(kept, np.int64)
    return Candidates(*(part[chosen] for part in found))

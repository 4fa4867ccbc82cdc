"""Which calls of a batch run image by image, each thread a whole image, and what they hand on.

Early layers have more activations than a core's caches hold of several images, and few weights:
there an image goes through many layers before the next one comes, and no thread waits for another.
Late layers have more weights than activations, and read them once for all images. Whichever moves
fewer bytes decides. Nothing of a result depends on it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from math import prod

from accel.draft import Draft
from accel.forms import Form
from accel.schedule import (
    Call,
    JoinCall,
    NearestCall,
    PoolCall,
    ProductCall,
    Schedule,
    ViewCall,
)
from accel.stage import is_used

Place = tuple[int, int]  # a step, and a form among those that it touches
BY_IMAGE = (JoinCall, NearestCall, PoolCall, ProductCall, ViewCall)
RESIDENT_BYTES = 512 * 1024  # of weights that stay in L2 beside activations
IDLE = 1 / 8  # of the threads' time at the end of a batch that images do not fill, at most


def images_of(schedule: Schedule) -> int:
    """Images of a batch; 1 where the inputs do not agree on it."""
    shapes = [schedule.shapes.get(name) for name in schedule.inputs]
    counts = {shape[0] if shape else 1 for shape in shapes}
    return counts.pop() if len(counts) == 1 else 1


def of_one_image(schedule: Schedule) -> Schedule:
    """The same calls on values of one image."""
    images = images_of(schedule)
    shapes = {
        name: (1, *shape[1:]) if shape and shape[0] == images else shape
        for name, shape in schedule.shapes.items()
    }
    return replace(schedule, shapes=shapes)


def calls_by_image(draft: Draft, threads: int) -> int:
    """How many calls, from the first, run image by image."""
    images, calls = images_of(draft.schedule), draft.schedule.calls
    rounds = -(-images // threads)
    if images < 2 or images < (1 - IDLE) * rounds * threads:
        return 0
    able = able_calls(draft)
    weights = list(accumulate((_weight_bytes(call) for call in calls[:able]), initial=0))
    values = list(accumulate((_value_bytes(draft, i) / images for i in range(able)), initial=0.0))
    moved = [w * (w > RESIDENT_BYTES) - v for w, v in zip(weights, values, strict=True)]
    count = min(range(able + 1), key=lambda count: (moved[count], -count))
    return count if draft.ends[count] else 0


def able_calls(draft: Draft) -> int:
    """Calls, from the first, whose values our kernels make image by image."""
    schedule, images = draft.schedule, images_of(draft.schedule)
    for i, call in enumerate(schedule.calls):
        steps = draft.steps[draft.ends[i - 1] if i else 0 : draft.ends[i + 1]]
        if not isinstance(call, BY_IMAGE) or not all(step.own for step in steps):
            return i
        shapes = [schedule.shapes.get(name) for name in (*call.reads, call.y)]
        if any(not shape or shape[0] != images for shape in shapes):
            return i
    return len(schedule.calls)


def handed_on(draft: Draft, first: int) -> list[Place]:
    """Step and number of one form of each value that steps before `first` make for later ones."""
    found: dict[int, Place] = {}
    for i, step in enumerate(draft.steps[:first]):
        for j, form in enumerate(step.touches):
            if is_used(form):
                found.setdefault(id(form.buffer), (i, j))
    return list(found.values())


def forms_at(draft: Draft, places: list[Place]) -> list[Form]:
    """The forms at places that `handed_on` found in a draft of the same calls."""
    return [draft.steps[i].touches[j] for i, j in places]


def _weight_bytes(call: Call) -> int:
    return prod(call.shape) if isinstance(call, ProductCall) else 0


def _value_bytes(draft: Draft, call: int) -> int:
    steps = draft.steps[draft.ends[call] : draft.ends[call + 1]]
    return sum(form.nbytes for step in steps for form in step.touches)

"""Find objects, cut them out and describe them: one pass over the rows, one decoding of each image.

Moving pixels between jobs costs more than computing on them, so the images stay where they are
decoded, and features leave.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from accel.detection.spec import MAX_BOXES
from accel.detector import Detections
from accel.errors import InputError
from accel.images import ImageChain
from spark_bridge import core, worker
from spark_bridge.arrow import map_in_arrow
from spark_bridge.batcher import rebatch
from spark_bridge.columns import offsets
from spark_bridge.dataframe import check_columns
from spark_bridge.detection import BOX, FOUND, boxes, framed_row
from spark_bridge.devices import held_card
from spark_bridge.query import build_spec
from spark_bridge.results import ERROR, as_bytes, errors, field, sizes, spread
from spark_bridge.rows import Array, Row, RowError, image_row, over_good
from spark_bridge.ship import ModelLike
from spark_bridge.spec import Spec
from spark_bridge.stack import stacked

CROP = pa.struct([*BOX, ("features", pa.binary()), ("dim", pa.int32())])
RESULT = pa.struct([("crops", pa.list_(CROP)), ("error", ERROR)])
NO_BOX = ("whole", "null")
MAX_PAD = 10
Answer = tuple[Detections, list[Array]] | RowError  # boxes of an image with features of each


@dataclass(frozen=True)
class Crops:
    """What is cut out of an image: at most `most` boxes, widened by `pad` of their size."""

    most: int
    pad: float
    no_box: str

    def chosen(self, found: Detections, image: Array) -> Detections:
        """The boxes to cut, the best first; where there is none, perhaps the whole image."""
        if len(found) or self.no_box == "null":
            keep = slice(self.most)
            return Detections(
                found.boxes[keep], found.scores[keep], found.classes[keep], found.names[keep]
            )
        height, width = image.shape[:2]
        box = np.array([[0, 0, width, height]], np.float32)
        return Detections(box, np.zeros(1, np.float32), np.full(1, -1), ("",))

    def cut(self, image: Array, box: Array) -> Array:
        """The pixels of one box, at least one, none outside the image."""
        x1, y1, x2, y2 = box.tolist()
        dx, dy = self.pad * (x2 - x1), self.pad * (y2 - y1)
        height, width = image.shape[:2]
        left, right = _span(x1 - dx, x2 + dx, width)
        top, bottom = _span(y1 - dy, y2 + dy, height)
        return image[top:bottom, left:right]


def detect_crop_features(
    df: DataFrame,
    detector: ModelLike,
    featurizer: ModelLike,
    input: str = "content",
    output: str = "prediction",
    *,
    kind: Literal["image", "path"] = "image",
    pick: Literal["best", "all"] | int = "best",
    min_score: float | None = None,
    pad: float = 0.0,
    no_box: Literal["whole", "null"] = "whole",
    chain: ImageChain | None = None,
    backend: str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    on_error: str | None = None,
    fallback: Sequence[str] | None = None,
) -> DataFrame:
    """Append what was found on each image: its boxes, and the features of what is inside them.

    Parameters
    ----------
    detector : a model of `Model.as_detector`.
    featurizer : a model of uint8 (N, H, W, C) input; its first output, flat, is the features.
    pick : boxes of an image: the "best", "all" (as many as the detector gives), or how many.
    min_score : score that a box must pass; default: the detector's.
    pad : share of its width and height by which a box is widened on each side, 0..10.
    no_box : where nothing is found, take the "whole" image (label -1, score 0), or "null": no crop.
    chain : resize and crop of what was cut out; default: all of it to the featurizer's size.
    others : as for `spark_bridge.predict`.

    Returns
    -------
    DataFrame with the columns of `df` and `output`, struct<crops array<struct<x1, y1, x2, y2,
    score, label, name, features binary, dim>>, error>: corners in pixels of the image, before
    `pad`; features as float32, little-endian.

    Raises
    ------
    InputError, ModelError, DeviceError, UnsupportedError
        Before any job starts.
    """
    crops = _checked(pick, pad, no_box)
    check_columns(df.schema, input, output, kind)
    shared: dict[str, Any] = {
        "output": output, "kind": kind, "backend": backend, "batch_size": batch_size,
        "threads": threads, "on_error": on_error, "fallback": fallback,
    }  # fmt: skip
    spark = df.sparkSession
    find = build_spec(spark, detector, input, task="detect", min_score=min_score, **shared)
    describe = build_spec(spark, featurizer, input, task="features", chain=chain, **shared)
    if chain is None:
        describe = replace(describe, chain=_whole_cut(describe))

    def crop_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with held_card(find.settings.backend):
            step = _Step(find, describe, crops)
            rows, most = core.batch_rows(find), find.settings.batch_bytes
            for batch in rebatch(batches, rows, most, [input]):
                answers = list(step.run(batch.column(input).to_pylist()))
                if find.settings.on_error == "fail":
                    core.raise_first(answers)
                yield batch.append_column(output, _to_arrow(answers))

    result = field(output, RESULT)
    return map_in_arrow(df, crop_partition, StructType([*df.schema.fields, result]))


class _Step:
    """Both models of one task."""

    def __init__(self, find: Spec, describe: Spec, crops: Crops) -> None:
        self._find, self._describe, self._crops = find, describe, crops
        self._max_bytes = find.settings.batch_bytes
        self._finder, self._describer = worker.guard(find), worker.guard(describe)

    def run(self, values: Iterable[object]) -> Iterator[Answer]:
        """One answer for each value, in order; few images are held decoded at once."""
        held: list[Array | RowError] = []
        size = 0
        for value in values:
            held.append(image := self._decoded(value))
            size += 0 if isinstance(image, RowError) else image.nbytes
            if size > self._max_bytes:
                yield from self._answers(held)
                held, size = [], 0
        yield from self._answers(held)

    def _answers(self, images: Sequence[Array | RowError]) -> list[Answer]:
        return over_good(over_good(images, self._located), self._described)

    def _decoded(self, value: object) -> Array | RowError:
        try:
            return core.decoded(value, self._find)
        except RowError as err:
            return err

    def _located(self, images: list[Array]) -> list[tuple[Array, Detections] | RowError]:
        """Each image with the boxes to cut."""
        ((_, spec),) = self._find.inputs.items()
        detector = self._find.detector
        assert detector is not None
        framed = [framed_row(image, spec, detector) for image in images]
        found = [row for row, _ in core.infer(stacked(framed, self._max_bytes), self._finder)]
        pairs: list[tuple[Array, Detections] | RowError] = []
        for row, image in zip(found, images, strict=True):
            if isinstance(row, RowError):
                pairs.append(row)
                continue
            detections: Any = row[FOUND]
            pairs.append((image, self._crops.chosen(detections, image)))
        return pairs

    def _described(self, pairs: list[tuple[Array, Detections]]) -> list[Answer]:
        """The boxes of each image with the features of what they hold."""
        cuts = ((image, box) for image, found in pairs for box in found.boxes)
        features = self._features(cuts)
        answers: list[Answer] = []
        for _, found in pairs:
            rows = list(itertools.islice(features, len(found)))
            bad = next((row for row in rows if isinstance(row, RowError)), None)
            answers.append(bad or (found, [r for r in rows if not isinstance(r, RowError)]))
        return answers

    def _features(self, cuts: Iterable[tuple[Array, Array]]) -> Iterator[Array | RowError]:
        """The features of each cut, a batch at a time."""
        waiting = iter(cuts)
        while some := list(itertools.islice(waiting, core.batch_rows(self._describe))):
            for row in over_good([self._fitted(*cut) for cut in some], self._computed):
                yield row if isinstance(row, RowError) else next(iter(row.values()))

    def _fitted(self, image: Array, box: Array) -> Row | RowError:
        ((name, spec),) = self._describe.inputs.items()
        cut = self._crops.cut(image, box)
        try:
            return {name: image_row(cut, spec, self._describe.chain, self._describe.settings)}
        except RowError as err:
            return err

    def _computed(self, rows: list[Row]) -> list[Row | RowError]:
        return [row for row, _ in core.infer(stacked(rows, self._max_bytes), self._describer)]


def _checked(pick: str | int, pad: float, no_box: str) -> Crops:
    if no_box not in NO_BOX:
        raise InputError(f"no_box is {no_box!r}; expected one of {', '.join(NO_BOX)}")
    if not 0 <= pad <= MAX_PAD:
        raise InputError(f"pad is {pad}; expected 0..{MAX_PAD}, a share of the box")
    most = {"best": 1, "all": MAX_BOXES}.get(pick, pick) if isinstance(pick, str) else pick
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"pick is {pick!r}; expected 'best', 'all' or a number of at least 1")
    return Crops(most, pad, no_box)


def _whole_cut(spec: Spec) -> ImageChain:
    ((height, width, _),) = (row.shape for row in spec.inputs.values())
    assert height is not None and width is not None  # the device has compiled it
    return ImageChain(resize=(height, width))


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    """First and last + 1 of the whole pixels that a stretch touches, at least one of them."""
    first = min(max(0, math.floor(low)), limit - 1)
    return first, min(max(first + 1, math.ceil(high)), limit)


def _to_arrow(answers: Sequence[Answer]) -> pa.StructArray:
    """The answers as `RESULT`."""
    good = [answer for answer in answers if not isinstance(answer, RowError)]
    features = [row for _, rows in good for row in rows]
    columns = [*boxes([found for found, _ in good]).flatten(), as_bytes(features),
               sizes(features)]  # fmt: skip
    crops = pa.StructArray.from_arrays(columns, fields=list(CROP))
    lists = pa.ListArray.from_arrays(offsets([rows for _, rows in good]), crops)
    return pa.StructArray.from_arrays([spread(lists, answers), errors(answers)],
                                      fields=list(RESULT))  # fmt: skip

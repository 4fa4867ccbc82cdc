"""Detector: a compiled program of a detection network, from images of any size to boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accel.detection.boxes import Array, Candidates
from accel.detection.nms import suppress
from accel.errors import InputError, ModelError
from accel.images import Image
from accel.program import Program


@dataclass(frozen=True)
class Detections:
    """What was found on one image, by falling score.

    Attributes
    ----------
    boxes : (n, 4) float32, x1, y1, x2, y2 in pixels of the image as it was given
    scores : (n,) float32, 0..1
    classes : (n,) int64 class ids
    names : n class names; a class without a name gives its number
    """

    boxes: Array
    scores: Array
    classes: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)


class Detector:
    """Runs a detection model on any device.

    Parameters
    ----------
    program : compiled from a model of `Model.as_detector`, quantized or not
    score, overlap, limit : thresholds as in `DetectorSpec`; None keeps the model's

    Raises
    ------
    ModelError
        The model is no detector, or has not one uint8 image input of a fixed size.
    InputError
        A threshold outside its range.

    Example
    -------
    >>> model = accel.load("yolo.onnx").as_detector("yolo-fastest-1.1").quantize()
    >>> detector = accel.Detector(accel.device("cpu").compile(model))
    >>> found = detector.detect([image])[0]     # found.boxes, .scores, .classes, .names
    """

    def __init__(
        self,
        program: Program,
        score: float | None = None,
        overlap: float | None = None,
        limit: int | None = None,
    ) -> None:
        spec = program.model.detector_spec
        if spec is None:
            raise ModelError(
                f"model {program.model.name!r} is no detector; make one of it with "
                "model.as_detector(...) before quantize and compile"
            )
        given: dict[str, Any] = {"score": score, "overlap": overlap, "limit": limit}
        self.spec = replace(spec, **{k: v for k, v in given.items() if v is not None})
        self.program = program
        self.size = _image_size(program)

    def __repr__(self) -> str:
        return f"<Detector {self.program.model.name} on {self.program.label}>"

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Boxes on each image.

        Parameters
        ----------
        images : any number of (H, W, 3) uint8 RGB arrays of any sizes

        Raises
        ------
        InputError
            An image of another kind.
        """
        found: list[Detections] = []
        for batch in _batches(images, self.program.batch_size):
            framed = np.stack([self.prepare(image) for image in batch])
            found += self.run(framed, [image.shape[:2] for image in batch])
        return found

    def run(self, framed: Array, sizes: Sequence[tuple[int, ...]]) -> list[Detections]:
        """Boxes on at most one batch of images that went through `prepare`.

        Parameters
        ----------
        framed : (n, H, W, C) uint8, n of at most `Program.batch_size`
        sizes : (height, width) of each image before `prepare`
        """
        outputs = self.program.run(_filled(framed, self.program.batch_size))
        return self.find(outputs, sizes)

    def prepare(self, image: Image) -> Image:
        """The (H, W, C) uint8 image that the program takes of one of any size."""
        return self.spec.frame.apply(image, self.size)

    def find(
        self, outputs: Array | dict[str, Array], sizes: Sequence[tuple[int, ...]]
    ) -> list[Detections]:
        """Boxes from the outputs of one full batch of the program.

        Parameters
        ----------
        outputs : what `Program.run` returned for `Program.batch_size` prepared images
        sizes : (height, width) of the first images before `prepare`; the rest was padding
        """
        arrays = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
        with np.errstate(all="ignore"):  # what is not finite is dropped by `clipped`
            candidates = self.spec.head.decode(
                arrays, self.program.batch_size, self.size, self.spec.score
            )
        return [
            self._detections(c, (size[0], size[1]))
            for c, size in zip(candidates, sizes, strict=False)
        ]

    def _detections(self, candidates: Candidates, size: tuple[int, int]) -> Detections:
        found = suppress(candidates.clipped(), self.spec.overlap, self.spec.limit)
        return Detections(
            self.spec.frame.to_image(found.boxes, size, self.size),
            found.scores.astype(np.float32),
            found.classes.astype(np.int64),
            tuple(self.spec.name(int(label)) for label in found.classes),
        )


def _image_size(program: Program) -> tuple[int, int]:
    spec = program.inputs[0]
    if len(program.inputs) != 1 or spec.dtype != np.uint8 or len(spec.shape) != 4:
        given = ", ".join(f"{s.name} {s.dtype} {s.shape}" for s in program.inputs)
        raise ModelError(
            f"a detector takes one uint8 image (N, H, W, C); model {program.model.name!r} takes "
            f"{given}; see Model.as_detector"
        )
    _, height, width, _ = spec.shape
    assert height is not None and width is not None  # a compiled program's shapes are fixed
    return height, width


def _batches(images: Sequence[Image], size: int) -> Iterator[Sequence[Image]]:
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise InputError("detect takes a sequence of images; give [image] for one")
    return (images[i : i + size] for i in range(0, len(images), size))


def _filled(batch: Array, size: int) -> Array:
    """A full batch, its last image repeated: outputs of some heads have no row for each image."""
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])

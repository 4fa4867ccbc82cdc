"""Everything that turns a network into a detector, as one value that travels inside the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from accel.detection.frame import Frame
from accel.detection.rows import RowsHead
from accel.detection.ssd import SsdHead
from accel.detection.yolo import YoloHead
from accel.errors import InputError

Head = YoloHead | SsdHead | RowsHead
MAX_BOXES = 10_000


@dataclass(frozen=True)
class Normalization:
    """What the network was trained on: ``(pixel / scale - mean) / std``, channels in `order`."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 255.0
    order: Literal["rgb", "bgr"] = "rgb"


@dataclass(frozen=True)
class DetectorSpec:
    """Description of a detector.

    Attributes
    ----------
    head : how its outputs are read
    names : class names by class id; empty where they are not known
    normalization : of the pixels, folded into a network that takes floats
    frame : how an image of any size becomes the network's
    score : a box must score more than this, 0..1
    overlap : boxes of one class that overlap by more (intersection over union) are one object
    limit : most boxes of an image, 1..10,000

    Raises
    ------
    InputError
        A threshold or limit outside its range.
    """

    head: Head
    names: tuple[str, ...] = ()
    normalization: Normalization = field(default_factory=Normalization)
    frame: Frame = field(default_factory=Frame)
    score: float = 0.25
    overlap: float = 0.45
    limit: int = 300

    def __post_init__(self) -> None:
        for key, value in (("score", self.score), ("overlap", self.overlap)):
            if not 0 <= value <= 1:
                raise InputError(f"{key} is {value}; expected 0..1")
        if not 1 <= self.limit <= MAX_BOXES:
            raise InputError(f"limit is {self.limit} boxes; expected 1..{MAX_BOXES}")

    def name(self, label: int) -> str:
        """Name of a class id; the number where the names do not say."""
        return self.names[label] if label < len(self.names) else str(label)

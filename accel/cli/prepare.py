"""From MODEL, --input and the image options to a model and rows that fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import accel
from accel.cli.options import parse_floats, parse_resize
from accel.cli.output import progress, say
from accel.errors import InputError
from accel.images import ImageChain
from accel.model import Model
from accel.samples import Samples, load_input
from accel.tensor_spec import TensorSpec

NEEDS_INT8 = ("cpu", "mkl", "fpga", "auto")


@dataclass(frozen=True)
class ImageOptions:
    """The options --resize, --crop, --order, --mean, --std and --scale as given."""

    resize: str | None = None
    crop: int | None = None
    order: str = "rgb"
    mean: str | None = None
    std: str | None = None
    scale: float | None = None

    @property
    def normalizes(self) -> bool:
        return self.order != "rgb" or any(v is not None for v in (self.mean, self.std, self.scale))


def prepare(
    path: Path,
    source: Path,
    options: ImageOptions,
    labels: Path | None = None,
    limit: int | None = None,
) -> tuple[Model, Samples]:
    """Load the model and its input; for uint8 images, normalisation is folded into the model."""
    model = accel.load(path)
    if len(model.inputs) != 1:
        names = [spec.name for spec in model.inputs]
        raise InputError(f"{path} has inputs {names}; this command takes models of one input")
    if options.order not in ("rgb", "bgr"):
        raise InputError(f"--order is rgb or bgr, not {options.order!r}")
    spec = model.inputs[0]
    chain = _chain(spec, source, options)
    with progress("reading images") as advance:
        samples = load_input(source, labels=labels, chain=chain, limit=limit, progress=advance)
    for name, error in samples.errors.items():
        say(f"left out {name}: {error}")
    return _fit(model, spec, samples, options)


def _chain(spec: TensorSpec, source: Path, options: ImageOptions) -> ImageChain:
    resize = parse_resize(options.resize)
    if source.is_dir() and resize is None and options.crop is None:
        resize = image_size(spec)
        if resize is not None:
            say(f"images are resized to {resize[0]}x{resize[1]}, the size of the model's input")
    return ImageChain(resize=resize, crop=options.crop)


def image_size(spec: TensorSpec) -> tuple[int, int] | None:
    """(height, width) of an image input, or None where it is no image or has a free size."""
    if len(spec.shape) != 4:
        return None
    height, width = spec.shape[1:3] if spec.dtype == np.uint8 else spec.shape[2:4]
    return None if height is None or width is None else (height, width)


def _fit(
    model: Model, spec: TensorSpec, samples: Samples, options: ImageOptions
) -> tuple[Model, Samples]:
    x = samples.x
    if x.dtype == np.uint8 and len(spec.shape) == 4:
        if x.ndim == 3:
            x = x[..., np.newaxis]
        samples = Samples(x, samples.names, samples.labels, samples.errors)
    if x.dtype == np.uint8 and spec.dtype == np.float32 and len(spec.shape) == 4:
        return _with_preprocessing(model, options), samples
    if options.normalizes:
        raise InputError(
            f"--order, --mean, --std and --scale are for uint8 images into a float32 image "
            f"input; the input is {x.dtype} and the model takes {spec.dtype} {spec.shape}"
        )
    return model, samples


def _with_preprocessing(model: Model, options: ImageOptions) -> Model:
    return model.with_preprocessing(
        mean=parse_floats(options.mean, "--mean") or 0.0,
        std=parse_floats(options.std, "--std") or 1.0,
        scale=255.0 if options.scale is None else options.scale,
        order="bgr" if options.order == "bgr" else "rgb",
    )


def for_device(model: Model, name: str) -> Model:
    """The model as this device takes it: quantized with the default windows where it must be."""
    if model.is_quantized or name.partition(":")[0] not in NEEDS_INT8:
        return model
    say(f"{name} computes in int8: quantizing {model.name} with the default windows")
    return model.quantize()

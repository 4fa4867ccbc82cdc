"""The layers of Caffe's SSD: Normalize, PriorBox and DetectionOutput.

Source: Liu et al., SSD: Single Shot MultiBox Detector, 2016, and the layers' published parameters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto

from accel.errors import UnsupportedError
from accel.importers.caffe.layer import Blob, Layer

MAX_PRIORS = 1 << 20
MAX_IMAGES = 64  # each image of a batch is selected by nodes of its own
LOWEST = float(np.finfo(np.float32).min)

Array = np.ndarray[Any, Any]


def normalize(layer: Layer) -> list[Blob]:
    """x / sqrt(sum of squares + eps) * scale; over channels, or over the whole image."""
    p, x = layer.parameters("norm"), layer.x
    if len(x.shape) != 4:
        raise layer.error(f"has an input of shape {x.shape}; expected (N, C, H, W)")
    axes = [1, 2, 3] if p.across_spatial else [1]
    square = layer.emit("Mul", x.value, x.value)
    total = layer.emit("ReduceSum", square, _ints(layer, axes, "axes"), keepdims=1)
    shifted = layer.emit("Add", total, layer.constant(np.array(p.eps, np.float32), "eps"))
    unit = layer.emit("Div", x.value, layer.emit("Sqrt", shifted))
    channels = 1 if p.channel_shared else x.shape[1]
    scale = layer.constant(layer.weight(0, (channels,)).reshape(-1, 1, 1), "scale")
    return [Blob(layer.emit("Mul", unit, scale), x.shape)]


def prior_box(layer: Layer) -> list[Blob]:
    """Boxes on the grid of a feature map, (1, 2, boxes * 4): corners, then variances."""
    p = layer.parameters("prior_box")
    if len(layer.inputs) != 2 or any(len(b.shape) != 4 for b in layer.inputs):
        raise layer.error("needs a feature map and an image, both (N, C, H, W)")
    rows, columns = layer.inputs[0].shape[2:]
    image_h = p.img_h or p.img_size or layer.inputs[1].shape[2]
    image_w = p.img_w or p.img_size or layer.inputs[1].shape[3]
    step_h, step_w = p.step_h or p.step or image_h / rows, p.step_w or p.step or image_w / columns
    sizes = _prior_sizes(layer, p)
    if min(image_h, image_w, step_h, step_w) <= 0 or rows * columns * len(sizes) > MAX_PRIORS:
        raise layer.error(f"asks for {rows} x {columns} x {len(sizes)} boxes; at most {MAX_PRIORS}")
    cy = (np.arange(rows) + p.offset) * step_h
    cx = (np.arange(columns) + p.offset) * step_w
    centre = np.stack(np.broadcast_arrays(cx[None, :, None], cy[:, None, None]), axis=-1)
    half = sizes[None, None] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    boxes = boxes / np.array([image_w, image_h, image_w, image_h])
    if p.clip:
        boxes = boxes.clip(0, 1)
    variance = np.array(p.variance or [0.1], np.float32)
    if variance.size not in (1, 4) or not (variance > 0).all():
        raise layer.error(f"has variance {variance.tolist()}; expected 1 or 4 positive values")
    flat = boxes.astype(np.float32).reshape(-1)
    spread = np.broadcast_to(variance, (flat.size // 4, 4)).reshape(-1)
    value = layer.constant(np.stack([flat, spread])[None], "priors")
    return layer.result(value, 1, 2, flat.size)


def _prior_sizes(layer: Layer, p: Any) -> Array:
    """Width and height of the boxes of one cell, in Caffe's order."""
    if not p.min_size or (p.max_size and len(p.max_size) != len(p.min_size)):
        raise layer.error(f"has {len(p.min_size)} min_size and {len(p.max_size)} max_size")
    numbers = [*p.min_size, *p.max_size, *p.aspect_ratio]
    if any(not 0 < v < math.inf for v in numbers) or len(numbers) > 1000:
        raise layer.error("has sizes or aspect ratios that are not positive, or too many")
    ratios = [1.0]
    for ratio in p.aspect_ratio:
        if all(abs(ratio - r) >= 1e-6 for r in ratios):
            ratios += [ratio, 1 / ratio] if p.flip else [ratio]
    sizes = []
    for i, least in enumerate(p.min_size):
        sizes.append((least, least))
        if p.max_size:
            sizes.append((math.sqrt(least * p.max_size[i]),) * 2)
        sizes += [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios[1:]]
    return np.array(sizes, np.float64)


def detection_output(layer: Layer) -> list[Blob]:
    """Decode boxes, suppress overlaps, keep the best: (1, 1, found, 7) of image, label, score,
    xmin, ymin, xmax, ymax. Where nothing is found, `found` is 0."""
    p = layer.parameters("detection_output")
    if len(layer.inputs) < 3:
        raise layer.error("needs locations, confidences and priors")
    location, confidence, priors = layer.inputs[:3]
    if len(priors.shape) != 3 or priors.shape[1] != 2 or priors.shape[2] % 4:
        raise layer.error(f"has priors of shape {priors.shape}; expected (1, 2, boxes * 4)")
    n, count, classes = location.shape[0], priors.shape[2] // 4, p.num_classes
    own = 1 if p.share_location else classes
    _check_detection(layer, p, n)
    if math.prod(location.shape[1:]) != count * own * 4:
        raise layer.error(f"has locations {location.shape} for {count} priors, {own} class(es)")
    if math.prod(confidence.shape[1:]) != count * classes or confidence.shape[0] != n:
        raise layer.error(f"has confidences {confidence.shape} for {count} x {classes}")
    layer.net.fixed_batch = True
    labels = [c for c in range(classes) if c != p.background_label_id]
    boxes = _decoded(layer, p, location, priors, own)
    scores = _to(layer, confidence.value, [n, count, classes])
    found = [_image(layer, p, i, boxes, scores, labels, count) for i in range(n)]
    rows = found[0] if n == 1 else layer.emit("Concat", *found, axis=0)
    y = _to(layer, rows, [1, 1, -1, 7])
    return [Blob(y, (1, 1, 1, 7))]


def _check_detection(layer: Layer, p: Any, n: int) -> None:
    if p.nms_param.eta != 1 or p.nms_param.nms_threshold < 0:
        raise UnsupportedError(
            f"model {layer.net.source!r}: layer {layer.name!r}: nms_param {p.nms_param}; "
            "expected eta 1 and a threshold of at least 0"
        )
    if not 1 <= p.num_classes <= 1 << 16 or n > MAX_IMAGES:
        raise layer.error(f"has num_classes {p.num_classes} and {n} images (at most {MAX_IMAGES})")
    if p.num_classes == 1 and p.background_label_id == 0:
        raise layer.error("has the background as its only class")


def _decoded(layer: Layer, p: Any, location: Blob, priors: Blob, own: int) -> str:
    """Boxes (n, count, own, 4) as corners."""
    n, count = location.shape[0], priors.shape[2] // 4
    offsets = _to(layer, location.value, [n, count, own, 4])
    both = _to(layer, priors.value, [2, count, 1, 4])
    prior, variance = (_take(layer, both, [i], 0) for i in (0, 1))
    if not p.variance_encoded_in_target:
        offsets = layer.emit("Mul", offsets, variance)
    low, high = _take(layer, prior, [0, 1], 3), _take(layer, prior, [2, 3], 3)
    size = layer.emit("Sub", high, low)
    first, second = _take(layer, offsets, [0, 1], 3), _take(layer, offsets, [2, 3], 3)
    code = p.DESCRIPTOR.fields_by_name["code_type"].enum_type.values_by_number[p.code_type].name
    if code == "CENTER_SIZE":
        half = layer.constant(np.array(0.5, np.float32), "half")
        centre = layer.emit("Mul", layer.emit("Add", low, high), half)
        centre = layer.emit("Add", layer.emit("Mul", first, size), centre)
        extent = layer.emit("Mul", layer.emit("Mul", layer.emit("Exp", second), size), half)
        low, high = layer.emit("Sub", centre, extent), layer.emit("Add", centre, extent)
    else:
        if code == "CORNER_SIZE":
            first, second = (layer.emit("Mul", v, size) for v in (first, second))
        low, high = layer.emit("Add", low, first), layer.emit("Add", high, second)
    return layer.emit("Concat", low, high, axis=3)


def _image(
    layer: Layer, p: Any, image: int, boxes: str, scores: str, labels: list[int], count: int
) -> str:
    """Detections of one image, (found, 7). Every class is a batch of its own in
    NonMaxSuppression, so classes with and without boxes of their own go the same way."""
    classes = len(labels)
    own = [0] * classes if p.share_location else labels
    mine = layer.emit("Transpose", _take(layer, boxes, [image], 0), perm=[0, 2, 1, 3])
    mine = _take(layer, _to(layer, mine, [-1, count, 4]), own, 0)
    score = layer.emit("Transpose", _take(layer, scores, [image], 0), perm=[2, 0, 1])
    score = _take(layer, score, labels, 0)
    if 0 < p.nms_param.top_k < count:
        score = _masked(layer, score, p.nms_param.top_k, [classes, 1, count])
    threshold = p.confidence_threshold if p.HasField("confidence_threshold") else LOWEST
    threshold = max(threshold, LOWEST)
    picked = layer.emit(
        "NonMaxSuppression", _without_inverted(layer, mine), score,
        _ints(layer, [count], "most"),
        layer.constant(np.array([p.nms_param.nms_threshold], np.float32), "overlap"),
        layer.constant(np.array([threshold], np.float32), "threshold"),
    )  # fmt: skip
    row, box = _take(layer, picked, [0], 1), _take(layer, picked, [2], 1)
    zero = layer.emit("Mul", row, _ints(layer, [0], "zero"))
    kept_score = layer.emit("GatherND", score, layer.emit("Concat", row, zero, box, axis=1))
    kept_box = layer.emit("GatherND", mine, layer.emit("Concat", row, box, axis=1))
    label = layer.constant(np.array(labels, np.float32), "labels")
    kept_label = layer.emit("Gather", label, row)
    number = layer.emit("Cast", zero, to=TensorProto.FLOAT)
    if image:
        number = layer.emit("Add", number, layer.constant(np.array(image, np.float32), "image"))
    column = _to(layer, kept_score, [-1, 1])
    rows = layer.emit("Concat", number, kept_label, column, kept_box, axis=1)
    return rows if p.keep_top_k < 0 else _best(layer, rows, kept_score, p.keep_top_k)


def _without_inverted(layer: Layer, boxes: str) -> str:
    """Boxes whose end lies before their start shrunk to nothing: in Caffe they overlap nothing,
    in ONNX the corners would change places."""
    low, high = _take(layer, boxes, [0, 1], 2), _take(layer, boxes, [2, 3], 2)
    return layer.emit("Concat", low, layer.emit("Max", low, high), axis=2)


def _masked(layer: Layer, score: str, top_k: int, shape: list[int]) -> str:
    """Scores with all but the best `top_k` of every class at the lowest value."""
    graph = layer.net.graph
    values, index = graph.nodes(
        "TopK", [score, _ints(layer, [top_k], "top_k")],
        [f"{layer.name}/values", f"{layer.name}/index"], axis=2,
    )  # fmt: skip
    blank = layer.emit(
        "Expand", layer.constant(np.array(LOWEST, np.float32), "lowest"), _ints(layer, shape, "all")
    )
    return layer.emit("ScatterElements", blank, index, values, axis=2)


def _best(layer: Layer, rows: str, score: str, most: int) -> str:
    """The rows of the `most` highest scores, in their own order."""
    graph, name = layer.net.graph, layer.name
    count = layer.emit("Shape", score)
    k = layer.emit("Min", count, _ints(layer, [most], "keep"))
    _, index = graph.nodes("TopK", [score, k], [f"{name}/best", f"{name}/best_index"], axis=0)
    ordered, _ = graph.nodes(
        "TopK", [index, k], [f"{name}/order", f"{name}/order_index"], axis=0, largest=0
    )
    return layer.emit("Gather", rows, ordered, axis=0)


def _ints(layer: Layer, values: list[int], name: str) -> str:
    return layer.constant(np.array(values, np.int64), name)


def _to(layer: Layer, value: str, shape: list[int]) -> str:
    return layer.emit("Reshape", value, _ints(layer, shape, "shape"))


def _take(layer: Layer, value: str, index: list[int], axis: int) -> str:
    return layer.emit("Gather", value, _ints(layer, index, "index"), axis=axis)

"""Caffe's layer types, each with the function that lowers it to ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accel.importers.caffe.detection import detection_output, normalize, prior_box
from accel.importers.caffe.layer import Blob, Layer
from accel.importers.caffe.normalization import batch_norm, bias, lrn, scale
from accel.importers.caffe.pointwise import eltwise, elu, exp, log, power, prelu, relu, relu6, unary
from accel.importers.caffe.pooling import pooling
from accel.importers.caffe.products import convolution, deconvolution, inner_product
from accel.importers.caffe.shapes import (
    concat,
    crop,
    flatten,
    identity,
    permute,
    reshape,
    slice_,
    softmax,
)

LAYERS: dict[str, Callable[[Layer], Sequence[Blob]]] = {
    "AbsVal": unary("Abs"),
    "BatchNorm": batch_norm,
    "Bias": bias,
    "BNLL": unary("Softplus"),
    "Concat": concat,
    "Convolution": convolution,
    "ConvolutionDepthwise": convolution,
    "Crop": crop,
    "Deconvolution": deconvolution,
    "DepthwiseConvolution": convolution,
    "DetectionOutput": detection_output,
    "Dropout": identity,
    "ELU": elu,
    "Eltwise": eltwise,
    "Exp": exp,
    "Flatten": flatten,
    "InnerProduct": inner_product,
    "LRN": lrn,
    "Log": log,
    "Normalize": normalize,
    "PReLU": prelu,
    "Permute": permute,
    "Pooling": pooling,
    "Power": power,
    "PriorBox": prior_box,
    "ReLU": relu,
    "ReLU6": relu6,
    "Reshape": reshape,
    "Scale": scale,
    "Sigmoid": unary("Sigmoid"),
    "Slice": slice_,
    "Softmax": softmax,
    "Split": identity,
    "TanH": unary("Tanh"),
}

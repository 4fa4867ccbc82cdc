"""Keras's layer classes, each with the function that lowers it to ONNX."""

from __future__ import annotations

from collections.abc import Callable

from accel.importers.keras.activations import activation, elu, leaky_relu, prelu, relu, softmax
from accel.importers.keras.layer import Layer, Tensor
from accel.importers.keras.products import (
    conv2d,
    dense,
    depthwise_conv2d,
    global_pooling,
    pooling,
    separable_conv2d,
)
from accel.importers.keras.shapes import (
    batch_normalization,
    concatenate,
    flatten,
    identity,
    merge,
    rescaling,
    reshape,
    up_sampling2d,
    zero_padding2d,
)

LAYERS: dict[str, Callable[[Layer], Tensor]] = {
    "Activation": activation,
    "ActivityRegularization": identity,
    "Add": merge,
    "AlphaDropout": identity,
    "Average": merge,
    "AveragePooling2D": pooling,
    "BatchNormalization": batch_normalization,
    "Concatenate": concatenate,
    "Conv2D": conv2d,
    "Dense": dense,
    "DepthwiseConv2D": depthwise_conv2d,
    "Dropout": identity,
    "ELU": elu,
    "Flatten": flatten,
    "GaussianDropout": identity,
    "GaussianNoise": identity,
    "GlobalAveragePooling2D": global_pooling,
    "GlobalMaxPooling2D": global_pooling,
    "LeakyReLU": leaky_relu,
    "MaxPooling2D": pooling,
    "Maximum": merge,
    "Minimum": merge,
    "Multiply": merge,
    "PReLU": prelu,
    "ReLU": relu,
    "Rescaling": rescaling,
    "Reshape": reshape,
    "SeparableConv2D": separable_conv2d,
    "Softmax": softmax,
    "SpatialDropout2D": identity,
    "Subtract": merge,
    "UpSampling2D": up_sampling2d,
    "ZeroPadding2D": zero_padding2d,
}

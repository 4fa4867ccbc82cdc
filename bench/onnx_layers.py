"""A layer as an ONNX model for ONNX Runtime and OpenVINO, such that each runs its int8 kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from layer import INPUT_SCALE, MEAN, OUTPUT_SCALE, PIXEL_ZERO, STD, Array, Layer
from onnx import TensorProto, helper, numpy_helper

Run = Callable[[], Any]


def onnxruntime_layer(layer: Layer, threads: int) -> Run:
    """MatMulInteger to int32, or QLinearConv over NHWC to uint8."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    make = integer_product if layer.product else channels_last_conv
    model = (image_conv if layer.has_pixels else make)(layer)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = layer.activations()[0, 0] if layer.product else layer.activations()
    if layer.has_pixels:
        return lambda: session.run(None, {"x": x})[0].transpose(0, 2, 3, 1)
    return lambda: session.run(None, {"x": x})[0]


def openvino_layer(layer: Layer, threads: int) -> Run:
    """A convolution to uint8, NCHW in and out: told of other layouts, the engine computes in float,
    as it does a MatMul from uint8; a product is its 1x1 case. Two changes of layout are included.
    """
    import openvino

    core = openvino.Core()
    made = image_conv(layer) if layer.has_pixels else quantized_conv(layer)
    model = core.read_model(made.SerializeToString(), b"")
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 around the int8 kernel
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    x = layer.activations()
    if not layer.has_pixels:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    request.set_input_tensor(openvino.Tensor(x))

    def run() -> Array:
        request.infer()
        return np.asarray(request.get_output_tensor().data).transpose(0, 2, 3, 1)

    return run


def constants(layer: Layer) -> dict[str, Array]:
    """Scales, zero points and weights by name."""
    return {
        "xs": np.array(INPUT_SCALE, np.float32),
        "zero": np.array(0, np.uint8),
        "w": np.ascontiguousarray(layer.weights().transpose(0, 3, 1, 2)),
        "ws": layer.weight_scales(),
        "wz": np.zeros(layer.oc, np.int8),
        "ys": np.array(OUTPUT_SCALE, np.float32),
    }


def geometry(layer: Layer) -> dict[str, Any]:
    return {
        "pads": [layer.pad] * 4,
        "strides": [layer.stride] * 2,
        "kernel_shape": [layer.kernel] * 2,
        "group": layer.groups,
    }


def integer_product(layer: Layer) -> onnx.ModelProto:
    weights = np.ascontiguousarray(layer.weights().reshape(layer.oc, -1).T)
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    return finish([node], {"w": weights}, *shapes(layer), TensorProto.INT32)


def channels_last_conv(layer: Layer) -> onnx.ModelProto:
    inputs = ["x", "xs", "zero", "w", "ws", "wz", "ys", "zero"]
    node = helper.make_node(
        "QLinearConv", inputs, ["y"], domain="com.microsoft", channels_last=1, **geometry(layer)
    )
    return finish([node], constants(layer), *shapes(layer), TensorProto.UINT8)


def quantized_conv(layer: Layer) -> onnx.ModelProto:
    """NCHW between DequantizeLinear and QuantizeLinear."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["yf"], **geometry(layer)),
        helper.make_node("QuantizeLinear", ["yf", "ys", "zero"], ["y"]),
    ]
    n, h, w, c = layer.shape()
    return finish(nodes, constants(layer), [n, c, h, w], None, TensorProto.UINT8)


def image_conv(layer: Layer) -> onnx.ModelProto:
    """NHWC pixels, normalized, then as `quantized_conv`: what a static int8 network begins with."""
    nodes = [
        helper.make_node("Cast", ["x"], ["xc"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["xc", "mean"], ["xm"]),
        helper.make_node("Mul", ["xm", "per_std"], ["xn"]),
        helper.make_node("Transpose", ["xn"], ["xt"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["xt", "xs", "x_zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "x_zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["yf"], **geometry(layer)),
        helper.make_node("QuantizeLinear", ["yf", "ys", "zero"], ["y"]),
    ]
    arrays = {
        **constants(layer),
        "mean": MEAN,
        "per_std": 1 / STD,
        "x_zero": np.array(PIXEL_ZERO, np.uint8),
    }
    return finish(nodes, arrays, list(layer.shape()), None, TensorProto.UINT8)


def shapes(layer: Layer) -> tuple[list[int], list[int]]:
    """Of the input and the output: (M, K) and (M, N), or NHWC."""
    if layer.product:
        return [layer.size, layer.ic], [layer.size, layer.oc]
    return list(layer.shape()), [1, layer.out, layer.out, layer.oc]


def finish(
    nodes: list[onnx.NodeProto],
    arrays: dict[str, Array],
    x_shape: list[int],
    y_shape: list[int] | None,
    result: int,
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, x_shape)
    y = helper.make_tensor_value_info("y", result, y_shape)
    initializers = [numpy_helper.from_array(v, k) for k, v in arrays.items()]
    graph = helper.make_graph(nodes, "layer", [x], [y], initializers)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)

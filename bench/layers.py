"""One layer, bound for every engine: our kernels, MKL's product inside them, and the peers.

Our kernels take activations that are quantized in windows already, and give float32 (products)
or the windows of the next layer (convolutions). The peers do the nearest thing they have, with
one scale for the whole activation: MatMulInteger to int32, and Conv between DequantizeLinear and
QuantizeLinear, which they fuse, to uint8.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from accel import kernels

Array = np.ndarray[Any, Any]
Run = Callable[[], Any]
PEERS = ("onnxruntime", "openvino")
INPUT_SCALE, OUTPUT_SCALE = 0.02, 0.5


@dataclass(frozen=True)
class Layer:
    """A square convolution over one image; a product (M, N, K) is its 1x1 case."""

    name: str
    size: int  # of the image; M of a product
    ic: int
    oc: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    window: int = 128
    weight_window: int | None = None
    product: bool = False

    @property
    def pad(self) -> int:
        return self.kernel // 2

    @property
    def out(self) -> int:
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    @property
    def macs(self) -> int:
        pixels = self.size if self.product else self.out**2
        return pixels * self.oc * self.ic // self.groups * self.kernel**2

    def shape(self) -> tuple[int, int, int, int]:
        return (1, 1, self.size, self.ic) if self.product else (1, self.size, self.size, self.ic)

    def weights(self) -> Array:
        """(OC, KH, KW, IC / groups) int8."""
        shape = (self.oc, self.kernel, self.kernel, self.ic // self.groups)
        return np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)

    def activations(self) -> Array:
        """NHWC uint8, for the peers."""
        return np.random.default_rng(2).integers(0, 256, self.shape(), np.uint8)


def available() -> list[str]:
    """Engines of this machine."""
    found = [name for name in PEERS if importlib.util.find_spec(name)]
    return ["cpu", *(["mkl"] if mkl_gemm() else []), *found]


def mkl_gemm() -> int | None:
    """Address of MKL's product, if installed."""
    for path in sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*")):
        return ctypes.cast(ctypes.CDLL(str(path)).cblas_gemm_s8u8s32, ctypes.c_void_p).value
    return None


def bind(engine: str, layer: Layer, threads: int) -> tuple[Run, Callable[[], None]]:
    """What to time, and a check of its result."""
    if engine in PEERS:
        return bind_peer(engine, layer, threads)
    return bind_ours(layer, threads, mkl_gemm() if engine == "mkl" else None)


# ---- our kernels ----


def bind_ours(layer: Layer, threads: int, gemm: int | None) -> tuple[Run, Callable[[], None]]:
    conv, values = make_conv(layer, kernels.Pool(threads), gemm)

    def check() -> None:
        conv()
        with kernels.use_isa("scalar"):
            reference, expected = make_conv(layer, kernels.Pool(1), None)
        reference()
        assert all(np.array_equal(a, b) for a, b in zip(values, expected, strict=True))

    return conv, check


def make_conv(layer: Layer, pool: kernels.Pool, gemm: int | None) -> tuple[Run, tuple[Array, ...]]:
    """The bound operator, and the arrays that it fills."""
    if layer.ic <= 4:
        return make_first(layer, pool, gemm)
    rng = np.random.default_rng(0)
    signed = layer.product
    src = kernels.QTensor(layer.shape(), layer.window, signed, (layer.pad,) * 4)
    x = rng.standard_normal(layer.shape(), np.float32)
    kernels.Quantize(x if signed else np.abs(x), src, pool)()
    qw, shape = layer.weights(), (layer.oc,)
    if layer.weight_window:
        shape = (*qw.shape[:3], -(-qw.shape[3] // layer.weight_window))
    packed = kernels.pack_weights(
        qw,
        rng.random(shape, np.float32),
        layer.window,
        weight_window=layer.weight_window,
        signed=signed,
        groups=layer.groups,
    )
    options: dict[str, Any] = {"pool": pool, "gemm": gemm}
    if layer.product:
        y = np.empty((1, 1, layer.size, layer.oc), np.float32)
        return kernels.Conv(src, packed, dst=y, **options), (y,)
    dst = kernels.QTensor((1, layer.out, layer.out, layer.oc), min(layer.oc, 128), False)
    options.update(strides=(layer.stride,) * 2, pads=(layer.pad,) * 4, activation="relu")
    bias = np.ones(layer.oc, np.float32)
    return kernels.Conv(src, packed, bias=bias, dst_q=dst, **options), (dst.q, dst.scale)


def make_first(layer: Layer, pool: kernels.Pool, gemm: int | None) -> tuple[Run, tuple[Array, ...]]:
    """A first layer: raw pixels, copied and multiplied."""
    src = kernels.QTensor(layer.shape(), None, False, (layer.pad,) * 4, border=(128,) * layer.ic)
    scale = np.full(layer.oc, 1e-3, np.float32)
    dst = kernels.QTensor((1, layer.out, layer.out, layer.oc), min(layer.oc, 128), False)
    pixels = kernels.Pixels(layer.activations(), src, pool)
    conv = kernels.Conv(
        src,
        kernels.pack_weights(layer.weights(), scale, None, signed=False),
        bias=np.ones(layer.oc, np.float32),
        strides=(layer.stride,) * 2,
        pads=(layer.pad,) * 4,
        activation="relu",
        dst_q=dst,
        pool=pool,
        gemm=gemm,
    )

    def run() -> None:
        pixels()
        conv()

    return run, (dst.q, dst.scale)


# ---- peers ----


def bind_peer(engine: str, layer: Layer, threads: int) -> tuple[Run, Callable[[], None]]:
    x = layer.activations()
    x = x[0, 0] if layer.product else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    model = (product_model if layer.product else conv_model)(layer).SerializeToString()
    run = (onnxruntime_run if engine == "onnxruntime" else openvino_run)(model, x, threads)

    def check() -> None:
        got, exact = np.asarray(run()), integer_result(layer)
        if layer.product:
            assert np.array_equal(got, exact)
            return
        factor = INPUT_SCALE * weight_scales(layer).astype(np.float64) / OUTPUT_SCALE
        expected = np.clip(np.rint(exact * factor), 0, 255).transpose(0, 3, 1, 2)
        assert np.abs(got.astype(np.int64) - expected).max() <= 1

    return run, check


def weight_scales(layer: Layer) -> Array:
    """Such that sums of independent terms use the range of the output."""
    depth = layer.ic // layer.groups * layer.kernel**2
    return np.full(layer.oc, 0.5 / np.sqrt(depth), np.float32)


def integer_result(layer: Layer) -> Array:
    """Exact sums of q * qw: float64 holds them."""
    x, w = layer.activations().astype(np.float64), layer.weights().astype(np.float64)
    pad, s = layer.pad, layer.stride
    x = np.pad(x, ((0, 0), (0, 0) if layer.product else (pad, pad), (pad, pad), (0, 0)))
    high, wide = (1, layer.size) if layer.product else (layer.out, layer.out)
    y = np.zeros((1, high, wide, layer.oc))
    icg, ocg = layer.ic // layer.groups, layer.oc // layer.groups
    for i, j, g in np.ndindex(layer.kernel, layer.kernel, layer.groups):
        taps = x[:, i::s, j::s][:, :high, :wide, g * icg : (g + 1) * icg]
        y[..., g * ocg : (g + 1) * ocg] += taps @ w[g * ocg : (g + 1) * ocg, i, j].T
    return y[0, 0] if layer.product else y


def product_model(layer: Layer) -> onnx.ModelProto:
    weights = numpy_helper.from_array(
        np.ascontiguousarray(layer.weights().reshape(layer.oc, -1).T), "w"
    )
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    shapes = ([layer.size, layer.ic], [layer.size, layer.oc])
    return finish_model([node], [weights], shapes, TensorProto.INT32)


def conv_model(layer: Layer) -> onnx.ModelProto:
    constants = {
        "xs": np.float32(INPUT_SCALE),
        "zero": np.uint8(0),
        "w": np.ascontiguousarray(layer.weights().transpose(0, 3, 1, 2)),
        "ws": weight_scales(layer),
        "wz": np.zeros(layer.oc, np.int8),
        "ys": np.float32(OUTPUT_SCALE),
    }
    shape: dict[str, Any] = {
        "pads": [layer.pad] * 4,
        "strides": [layer.stride] * 2,
        "group": layer.groups,
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["yf"], **shape),
        helper.make_node("QuantizeLinear", ["yf", "ys", "zero"], ["y"]),
    ]
    arrays = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    shapes = ([1, layer.ic, layer.size, layer.size], [1, layer.oc, layer.out, layer.out])
    return finish_model(nodes, arrays, shapes, TensorProto.UINT8)


def finish_model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    shapes: tuple[list[int], list[int]],
    result: int,
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, shapes[0])
    y = helper.make_tensor_value_info("y", result, shapes[1])
    graph = helper.make_graph(nodes, "layer", [x], [y], constants)
    opset = helper.make_opsetid("", 13)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def onnxruntime_run(model: bytes, x: Array, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def openvino_run(model: bytes, x: Array, threads: int) -> Run:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(model, b""), "CPU", settings)
    infer = request.create_infer_request()
    infer.set_input_tensor(openvino.Tensor(x))

    def run() -> Array:
        infer.infer()
        return np.asarray(infer.get_output_tensor().data)

    return run


# ---- pytest ----


def cases(option: Callable[..., Any], layers: list[Layer]) -> list[tuple[Layer, str, int]]:
    """Layers by engines by threads, as the command line asks for."""
    wanted = option("--backends")
    engines = [e for e in available() if not wanted or e in wanted.split(",")]
    threads = [int(t) for t in str(option("--threads") or "1").split(",")]
    return [(layer, e, t) for layer in layers for t in threads for e in engines]


def case_id(value: object) -> str:
    return value.name if isinstance(value, Layer) else str(value)


def measure(benchmark: Any, layer: Layer, engine: str, threads: int, peak: float) -> None:
    """Checks the result once, then times it; records GOP/s and the share of the peak."""
    run, check = bind(engine, layer, threads)
    check()
    benchmark.group = f"{layer.name}, {threads} threads"
    benchmark(run)
    benchmark.extra_info.update(engine=engine, isa=kernels.isa(), threads=threads)
    if benchmark.stats is not None:  # None where pytest-benchmark is disabled
        rate = 2.0 * layer.macs / benchmark.stats.stats.median
        benchmark.extra_info["gop_per_s"] = round(rate / 1e9, 1)
        benchmark.extra_info["share_of_peak"] = round(rate / peak / threads, 3)

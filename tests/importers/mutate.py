"""Damage model files, each way a function of its seed alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, helper

SIZES = (0, 1, -1, -2, 7, 255, 65_536, 1 << 20, 1 << 31, -(1 << 31), 1 << 40, (1 << 63) - 1,
         -(1 << 63))  # fmt: skip
OPS = ("Conv", "Reshape", "Expand", "Tile", "ConstantOfShape", "Range", "Pad", "Resize", "Gather",
       "Concat", "Transpose", "Slice", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "Loop", "If",
       "MaxPool", "BatchNormalization", "DequantizeLinear", "LSTM", "Upsample",
       "NoSuchOp")  # fmt: skip


def damage(data: bytes, seed: int) -> bytes:
    """Cut, flip, overwrite, repeat or splice some bytes."""
    rng = random.Random(seed)
    ways: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
        _cut, _flip, _flip, _overwrite, _repeat, _remove,
    )  # fmt: skip
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        damaged = rng.choice(ways)(damaged, rng)
    return bytes(damaged)


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere, or near the front, where formats keep their tables."""
    return rng.randrange(max(1, min(len(data), rng.choice((64, 1024, len(data) + 1)))))


def _cut(data: bytearray, rng: random.Random) -> bytearray:
    return data[: _place(data, rng)]


def _flip(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice((1, 2, 8, 64))):
        if data:
            data[_place(data, rng) % len(data)] ^= 1 << rng.randrange(8)
    return data


def _overwrite(data: bytearray, rng: random.Random) -> bytearray:
    start, size = _place(data, rng), rng.choice((1, 2, 4, 8))
    value = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    data[start : start + size] = bytes([value]) * size
    return data


def _repeat(data: bytearray, rng: random.Random) -> bytearray:
    start, size = _place(data, rng), rng.choice((3, 40, 400))
    return data[:start] + data[start : start + size] * rng.choice((2, 50)) + data[start:]


def _remove(data: bytearray, rng: random.Random) -> bytearray:
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice((1, 4, 100)) :]


def change_onnx(data: bytes, seed: int) -> bytes:
    """Change fields of a valid ONNX model: sizes, names (cycles), types, operators, attributes."""
    rng = random.Random(seed)
    model = onnx.load_model_from_string(data)
    try:
        for _ in range(rng.choice((1, 1, 2, 5))):
            rng.choice(_CHANGES)(model, rng)
        return bytes(model.SerializeToString())
    except (DecodeError, EncodeError):  # nested deeper than protobuf itself copies
        return data


def _change_weight_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
        else:
            tensor.dims.append(rng.choice(SIZES))


def _change_weight_type(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.initializer:
        rng.choice(model.graph.initializer).data_type = rng.choice((0, 1, 7, 10, 16, 22, 99))


def _change_weight_place(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        tensor.data_location = TensorProto.EXTERNAL
        place = rng.choice(("/etc/passwd", "../../etc/passwd", "", ".", "a\0b", "x" * 5000))
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key="length", value=rng.choice(("-1", "1e9", str(1 << 60))))


def _change_input(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.input:
        shape = rng.choice(model.graph.input).type.tensor_type.shape
        if shape.dim:
            shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice(SIZES)


def _rename(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    if nodes:
        node, other = rng.choice(nodes), rng.choice(nodes)
        if node.input and other.output:
            node.input[rng.randrange(len(node.input))] = rng.choice(list(other.output))


def _change_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.node:
        node = rng.choice(model.graph.node)
        node.op_type, node.domain = rng.choice(OPS), rng.choice(("", "", "", "ai.other"))


def _change_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    found = [a for node in model.graph.node for a in node.attribute]
    if found:
        attribute = rng.choice(found)
        attribute.i = rng.choice(SIZES)
        attribute.f = rng.choice((0.0, float("nan"), float("inf"), -1e38))
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(SIZES)
        if rng.random() < 0.2:
            attribute.ints.extend([rng.choice(SIZES)] * rng.choice((1, 50)))


def _change_values(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        raw = bytearray(tensor.raw_data)
        for _ in range(rng.choice((1, 8))):
            if raw:
                raw[rng.randrange(len(raw))] = rng.choice((0, 0x7F, 0x80, 0xFF))
        tensor.raw_data = bytes(raw)


def _expand(model: onnx.ModelProto, rng: random.Random) -> None:
    """A constant that unfolds to any size, before the first node."""
    size = rng.choice(SIZES)
    kind = rng.choice(("ConstantOfShape", "Tile", "Range", "Expand"))
    vector = helper.make_tensor("big", TensorProto.INT64, [1], [size])
    scalars = [helper.make_tensor(n, TensorProto.INT64, [], [v])
               for n, v in (("zero", 0), ("end", size), ("one", 1))]  # fmt: skip
    model.graph.initializer.extend([vector, *scalars])
    inputs = {"ConstantOfShape": ["big"], "Range": ["zero", "end", "one"], "Tile": ["big", "big"],
              "Expand": ["one", "big"]}[kind]  # fmt: skip
    made = helper.make_node(kind, inputs, ["unfolded"])
    if model.graph.node and model.graph.node[0].input:
        model.graph.node[0].input[-1] = "unfolded"
    nodes = [made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _nest(model: onnx.ModelProto, rng: random.Random) -> None:
    """Branches within branches."""
    graph = model.graph
    graph.initializer.append(helper.make_tensor("c", TensorProto.BOOL, [], [True]))
    for _ in range(rng.choice((3, 20, 35, 300))):
        node = graph.node.add(op_type="If", input=["c"], output=["deep"])
        for name in ("then_branch", "else_branch"):
            branch = node.attribute.add(name=name, type=onnx.AttributeProto.GRAPH).g
            branch.name = name
            branch.output.append(helper.make_tensor_value_info("deep", TensorProto.BOOL, []))
        branch.node.append(helper.make_node("Identity", ["c"], ["deep"]))
        graph = node.attribute[0].g
    graph.node.append(helper.make_node("Identity", ["c"], ["deep"]))


def _change_opset(model: onnx.ModelProto, rng: random.Random) -> None:
    if model.opset_import:
        rng.choice(model.opset_import).version = rng.choice((*SIZES, 1, 6, 9, 13, 22, 999))
    model.ir_version = rng.choice((model.ir_version, 1, 3, 99, -1))


_CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    _change_weight_shape, _change_weight_type, _change_weight_place, _change_input, _rename,
    _change_operator, _change_attribute, _change_values, _expand, _nest, _change_opset,
)  # fmt: skip

"""Caffe's network description: the message types behind a .prototxt, and reading one.

Only text is read through these types (a .caffemodel gives weights alone, see `weights`), so
names and types matter and field numbers are counted through. Source: Caffe's published interface,
with the layers that SSD and the MobileNet forks added.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from accel.errors import ModelError, UnsupportedError

MAX_PROTOTXT_BYTES = 4 << 20
MAX_DEPTH = 64  # real files nest four deep

# message: field type[*][=default] ...; a star repeats; a type in capitals is an enum
_MESSAGES = """
BlobShape: dim int64*
Filler: type string, value float, min float, max float, mean float, std float, sparse int32
Filler: variance_norm VARIANCE
ParamSpec: name string, lr_mult float, decay_mult float, share_mode SHARE
NetState: phase PHASE=TEST, level int32, stage string*
NetStateRule: phase PHASE, min_level int32, max_level int32, stage string*, not_stage string*
Transform: scale float, mirror bool, crop_size uint32, mean_file string, mean_value float*
Transform: force_color bool, force_gray bool
Convolution: num_output int64, bias_term bool=true, pad int64*, kernel_size int64*, stride int64*
Convolution: dilation int64*, pad_h int64, pad_w int64, kernel_h int64, kernel_w int64
Convolution: stride_h int64, stride_w int64, group int64=1, weight_filler Filler
Convolution: bias_filler Filler, engine ENGINE, axis int32=1, force_nd_im2col bool
InnerProduct: num_output int64, bias_term bool=true, weight_filler Filler, bias_filler Filler
InnerProduct: axis int32=1, transpose bool
Pooling: pool POOL=MAX, pad int64, pad_h int64, pad_w int64, kernel_size int64, kernel_h int64
Pooling: kernel_w int64, stride int64=1, stride_h int64, stride_w int64, engine ENGINE
Pooling: global_pooling bool, round_mode ROUND=CEIL, ceil_mode bool=true
ReLU: negative_slope float, engine ENGINE
PReLU: filler Filler, channel_shared bool
LRN: local_size int64=5, alpha float=1, beta float=0.75, norm_region REGION=ACROSS_CHANNELS
LRN: k float=1, engine ENGINE
BatchNorm: use_global_stats bool, moving_average_fraction float, eps float=1e-5
Scale: axis int32=1, num_axes int32=1, filler Filler, bias_term bool, bias_filler Filler
Bias: axis int32=1, num_axes int32=1, filler Filler
Eltwise: operation ELTWISE=SUM, coeff float*, stable_prod_grad bool
Concat: axis int32=1, concat_dim int32=1
Slice: axis int32=1, slice_dim int32=1, slice_point int64*
Softmax: axis int32=1, engine ENGINE
Dropout: dropout_ratio float, scale_train bool
Permute: order int32*
Reshape: shape BlobShape, axis int32, num_axes int32=-1
Flatten: axis int32=1, end_axis int32=-1
Normalize: across_spatial bool=true, scale_filler Filler, channel_shared bool=true, eps float=1e-10
PriorBox: min_size float*, max_size float*, aspect_ratio float*, flip bool=true, clip bool
PriorBox: variance float*, img_size int64, img_h int64, img_w int64, step float, step_h float
PriorBox: step_w float, offset float=0.5
SaveOutput: output_directory string, output_name_prefix string, output_format string
SaveOutput: label_map_file string, name_size_file string, num_test_image uint32
NonMaximum: nms_threshold float=0.3, top_k int64, eta float=1
DetectionOutput: num_classes int64, share_location bool=true, background_label_id int64
DetectionOutput: nms_param NonMaximum, save_output_param SaveOutput, code_type CODE=CORNER
DetectionOutput: variance_encoded_in_target bool, keep_top_k int64=-1, confidence_threshold float
DetectionOutput: visualize bool, visualize_threshold float, save_file string
Power: power float=1, scale float=1, shift float
Crop: axis int32=2, offset int64*
ELU: alpha float=1
Exp: base float=-1, scale float=1, shift float
Log: base float=-1, scale float=1, shift float
Sigmoid: engine ENGINE
TanH: engine ENGINE
Input: shape BlobShape*
MemoryData: batch_size int64, channels int64, height int64, width int64
DummyData: data_filler Filler*, shape BlobShape*, num int64*, channels int64*, height int64*
DummyData: width int64*
Data: source string, batch_size int64, backend DB, rand_skip uint32, scale float, mean_file string
Data: crop_size uint32, mirror bool, prefetch uint32
Loss: ignore_label int32, normalize bool, normalization NORMALIZATION
Accuracy: top_k uint32=1, axis int32=1, ignore_label int32
"""

_PARAMETERS = {
    "Convolution": "convolution", "InnerProduct": "inner_product", "Pooling": "pooling",
    "ReLU": "relu", "PReLU": "prelu", "LRN": "lrn", "BatchNorm": "batch_norm", "Scale": "scale",
    "Bias": "bias", "Eltwise": "eltwise", "Concat": "concat", "Slice": "slice",
    "Softmax": "softmax", "Dropout": "dropout", "Permute": "permute", "Reshape": "reshape",
    "Flatten": "flatten", "Normalize": "norm", "PriorBox": "prior_box",
    "DetectionOutput": "detection_output", "Power": "power", "Crop": "crop", "ELU": "elu",
    "Exp": "exp", "Log": "log", "Sigmoid": "sigmoid", "TanH": "tanh", "Input": "input",
    "MemoryData": "memory_data", "DummyData": "dummy_data", "Data": "data", "Loss": "loss",
    "Accuracy": "accuracy",
}  # fmt: skip

_LAYER = (
    "name string, bottom string*, top string*, phase PHASE, loss_weight float*, param ParamSpec*, "
    "propagate_down bool*, include NetStateRule*, exclude NetStateRule*, transform_param Transform"
)
_OLD_LAYER = (
    "name string, bottom string*, top string*, type LAYER, blobs_lr float*, weight_decay float*, "
    "loss_weight float*, include NetStateRule*, exclude NetStateRule*, param string*, "
    "transform_param Transform"
)
_NET = (
    "name string, input string*, input_dim int64*, input_shape BlobShape*, state NetState, "
    "force_backward bool, debug_info bool, layer Layer*, layers OldLayer*"
)

_ENUMS = {
    "PHASE": "TRAIN TEST",
    "POOL": "MAX AVE STOCHASTIC",
    "ROUND": "CEIL FLOOR",
    "REGION": "ACROSS_CHANNELS WITHIN_CHANNEL",
    "ELTWISE": "PROD SUM MAX",
    "CODE": "_ CORNER CENTER_SIZE CORNER_SIZE",
    "ENGINE": "DEFAULT CAFFE CUDNN",
    "VARIANCE": "FAN_IN FAN_OUT AVERAGE",
    "SHARE": "STRICT PERMISSIVE",
    "DB": "LEVELDB LMDB",
    "NORMALIZATION": "FULL VALID BATCH_SIZE NONE",
    "LAYER": (
        "NONE ACCURACY BNLL CONCAT CONVOLUTION DATA DROPOUT EUCLIDEAN_LOSS FLATTEN HDF5_DATA "
        "HDF5_OUTPUT IM2COL IMAGE_DATA INFOGAIN_LOSS INNER_PRODUCT LRN MULTINOMIAL_LOGISTIC_LOSS "
        "POOLING RELU SIGMOID SOFTMAX SOFTMAX_LOSS SPLIT TANH WINDOW_DATA ELTWISE POWER "
        "SIGMOID_CROSS_ENTROPY_LOSS HINGE_LOSS MEMORY_DATA ARGMAX THRESHOLD DUMMY_DATA SLICE MVN "
        "ABSVAL SILENCE CONTRASTIVE_LOSS EXP DECONVOLUTION"
    ),
}

_NEW_NAMES = {
    "BNLL": "BNLL", "IM2COL": "Im2col", "INNER_PRODUCT": "InnerProduct", "LRN": "LRN",
    "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH", "MVN": "MVN",
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
}  # fmt: skip


def parse_prototxt(text: bytes, source: str, supported: Collection[str]) -> Any:
    """Read a network description.

    Parameters
    ----------
    supported : layer types that the caller can use, to tell an unknown layer from an error.

    Returns
    -------
    A protobuf message: ``name``, ``input``, ``input_dim``, ``input_shape``, ``layer``; layers of
    the old form lie in ``layers``.

    Raises
    ------
    ModelError
        Too large, nested too deeply, or not a network description.
    UnsupportedError
        A layer of unknown type brings parameters of its own.
    """
    if len(text) > MAX_PROTOTXT_BYTES:
        raise ModelError(
            f"cannot read {source!r}: {len(text)} bytes of prototxt, at most {MAX_PROTOTXT_BYTES}"
        )
    _check_depth(text, source)
    try:
        return _parse(text)
    except _BAD_TEXT as err:
        if "has no field named" in str(err):
            _refuse_unknown_layer(text, source, supported)
        raise ModelError(
            f"cannot read {source!r}: not a Caffe network description: {err}"
        ) from None


def unknown_layer(layer: Any, source: str) -> UnsupportedError:
    """The error for a layer whose type nobody here knows."""
    return UnsupportedError(
        f"model {source!r}: layer {layer.name!r} has type {layer_type(layer)!r}, which the Caffe "
        "importer does not know; convert the model to ONNX with its own framework"
    )


def layer_type(layer: Any) -> str:
    """Type of a layer as the new form writes it: ``InnerProduct`` for ``INNER_PRODUCT``."""
    if isinstance(layer.type, str):
        return str(layer.type)
    name = str(layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name)
    return _NEW_NAMES.get(name, name.title().replace("_", ""))


_BAD_TEXT = (text_format.ParseError, UnicodeDecodeError, RecursionError, ValueError)


def _parse(text: bytes, **options: bool) -> Any:
    return text_format.Parse(text.decode("utf-8"), _net_type()(), **options)


def _check_depth(text: bytes, source: str) -> None:
    depth = 0
    for bracket in re.findall(rb"[{}<>]", text):
        depth += 1 if bracket in b"{<" else -1
        if depth > MAX_DEPTH:
            raise ModelError(f"cannot read {source!r}: messages nest deeper than {MAX_DEPTH}")


def _refuse_unknown_layer(text: bytes, source: str, supported: Collection[str]) -> None:
    try:
        net = _parse(text, allow_unknown_field=True)
    except _BAD_TEXT:
        return
    for layer in [*net.layer, *net.layers]:
        if layer_type(layer) not in supported:
            raise unknown_layer(layer, source)


@cache
def _net_type() -> Any:
    """Class of the top message, made once."""
    file = descriptor_pb2.FileDescriptorProto(name="accel_caffe.proto", package="accel_caffe")
    for name, values in _ENUMS.items():
        # names of values share their enum's scope, and MAX occurs twice: one scope for each
        enum = file.message_type.add(name=name).enum_type.add(name="Value")
        for number, value in enumerate(values.split()):
            enum.value.add(name=value, number=number)
    lines = [line.split(": ", 1) for line in _MESSAGES.strip().splitlines()]
    extra = [f"{field}_param {name}" for name, field in _PARAMETERS.items()]
    lines += [["Layer", ", ".join([_LAYER, "type string", *extra])]]
    lines += [["OldLayer", ", ".join([_OLD_LAYER, *extra])], ["Net", _NET]]
    messages: dict[str, Any] = {}
    for name, fields in lines:
        if name not in messages:
            messages[name] = file.message_type.add(name=name)
        for field in fields.split(", "):
            _add_field(messages[name], field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("accel_caffe.Net"))


def _add_field(message: Any, text: str) -> None:
    name, kind = text.split(" ")
    kind, _, default = kind.partition("=")
    repeated, kind = kind.endswith("*"), kind.rstrip("*")
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=len(message.field) + 1)
    field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
    if default:
        field.default_value = default
    if kind in _ENUMS:
        field.type, field.type_name = kinds.TYPE_ENUM, f".accel_caffe.{kind}.Value"
    elif kind[0].isupper():
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".accel_caffe.{kind}"
    else:
        field.type = getattr(kinds, f"TYPE_{kind.upper()}")

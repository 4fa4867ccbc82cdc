# cython: language_level=3, embedsignature=True
"""The binding of the C kernels: checks every argument once, releases the GIL, computes nothing."""

from __future__ import annotations

import contextlib
import operator
import os

import numpy as np

from accel.errors import KernelError

cimport numpy as cnp
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uintptr_t

cnp.import_array()

cdef extern from "lw.h" nogil:
    enum: LW_SLACK, LW_ALIGN, LW_MAX_CHUNK
    ctypedef enum lw_status:
        LW_OK, LW_NONFINITE, LW_NOMEM, LW_INVALID
    ctypedef enum lw_activation:
        LW_NONE
    ctypedef struct lw_isa
    ctypedef struct lw_pool
    ctypedef struct lw_weights
    ctypedef struct lw_conv
    ctypedef struct lw_tensor:
        uint8_t *q
        float *scale
        int64_t n, h, w, c, top, left, bottom, right, pixel_bytes, window, windows
        int zero_point, shared
    ctypedef void lw_gemm(int, int, int, int, int, int, int, float, const void *, int, int8_t,
                          const void *, int, int8_t, float, int32_t *, int,
                          const int32_t *) noexcept nogil
    ctypedef struct lw_conv_args:
        const lw_tensor *src
        const lw_weights *weights
        const float *bias
        int64_t oh, ow, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
        const float *residual
        int64_t residual_stride[3]
        lw_activation activation
        float alpha, lo, hi
        float *dst
        int64_t dst_stride[3]
        const lw_tensor *dst_q
        lw_gemm *gemm
    const lw_isa *lw_isa_find(const char *)
    const lw_isa *lw_isa_best()
    const lw_isa *lw_isa_at(int)
    const char *lw_isa_name(const lw_isa *)
    void lw_isa_tile(const lw_isa *, int *, int *, int *)
    lw_pool *lw_pool_create(int)
    void lw_pool_destroy(lw_pool *)
    int lw_pool_threads(const lw_pool *)
    void lw_tensor_fill_border(const lw_tensor *, int64_t)
    lw_status lw_quantize_rows(const lw_isa *, lw_pool *, const float *, int64_t, int64_t, int64_t,
                               int, uint8_t *, float *)
    void lw_dequantize_rows(const uint8_t *, const float *, int64_t, int64_t, int64_t, int, float *)
    lw_status lw_quantize_tensor(const lw_isa *, lw_pool *, const float *, const lw_tensor *)
    void lw_to_nhwc(lw_pool *, const float *, float *, int64_t, int64_t, int64_t)
    void lw_to_nchw(lw_pool *, const float *, float *, int64_t, int64_t, int64_t)
    lw_weights *lw_weights_pack(const lw_isa *, const int8_t *, const float *, int64_t, int64_t,
                                int64_t, int64_t, int64_t, int64_t, int64_t, int, int, lw_status *)
    void lw_weights_destroy(lw_weights *)
    size_t lw_weights_bytes(const lw_weights *)
    int lw_weights_is_depthwise(const lw_weights *)
    lw_conv *lw_conv_create(const lw_conv_args *, int, lw_status *)
    lw_status lw_conv_run(lw_conv *, lw_pool *)
    void lw_conv_destroy(lw_conv *)

_ACTIVATIONS = ("none", "relu", "clip", "leaky", "hardswish", "silu")
_MAX_BYTES = 1 << 46  # of one array; keeps all products of sizes inside int64
_MAX_DIM = 2**31 - 1
_GEMM_MERGE = 16  # output columns of a block-diagonal product given to a foreign gemm


# ---- checks -----------------------------------------------------------------------------------

def _int(name, value, low, high=_MAX_DIM):
    number = operator.index(value)
    if not low <= number <= high:
        raise KernelError(f"{name} is {number}; expected {low} to {high}")
    return number


def _ints(name, values, count, low):
    numbers = tuple(values)
    if len(numbers) != count:
        raise KernelError(f"{name} has {len(numbers)} numbers; expected {count}")
    return tuple(_int(name, v, low) for v in numbers)


def _array(name, x, dtype, ndim):
    """Checks a C-contiguous, aligned, native, non-empty array."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} is {type(x).__name__}; expected numpy.ndarray")
    if x.dtype != dtype:
        raise KernelError(f"{name} has dtype {x.dtype}; expected {np.dtype(dtype)}")
    if x.ndim not in (ndim if isinstance(ndim, tuple) else (ndim,)):
        raise KernelError(f"{name} has shape {x.shape}; expected {ndim} dimensions")
    if x.size == 0:
        raise KernelError(f"{name} has shape {x.shape}; expected no dimension of size 0")
    if not (x.flags.c_contiguous and x.flags.aligned):
        raise KernelError(f"{name} is not C-contiguous; use numpy.ascontiguousarray({name})")
    return x


def _shaped(name, x, dtype, shape):
    _array(name, x, dtype, len(shape))
    if x.shape != tuple(shape):
        raise KernelError(f"{name} has shape {x.shape}; expected {tuple(shape)}")
    return x


def _writable(name, x):
    if not x.flags.writeable:
        raise KernelError(f"{name} is read-only; expected an array to write to")
    return x


def _finite(name, x):
    if not np.isfinite(x).all():
        raise KernelError(f"{name} holds NaN or infinity; expected finite numbers")
    return x


def _strided(name, x, shape):
    """Checks float32 NHWC whose channels are adjacent; other axes may be strided."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} is {type(x).__name__}; expected numpy.ndarray")
    if x.dtype != np.float32 or x.shape != tuple(shape):
        raise KernelError(
            f"{name} is {x.dtype} of shape {x.shape}; expected float32 of shape {tuple(shape)}")
    if (x.shape[3] > 1 and x.strides[3] != 4) or any(s % 4 for s in x.strides):
        raise KernelError(f"{name} has byte strides {x.strides}; expected adjacent channels")
    if not x.flags.aligned:
        raise KernelError(f"{name} is not aligned; expected an array aligned to 4 bytes")
    return x


def _where_nonfinite(name, x):
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
    return KernelError(f"{name} holds NaN or infinity at {index}; expected finite numbers")


cdef _raise(lw_status status, what):
    if status == LW_NOMEM:
        raise MemoryError(f"{what}: out of memory")
    raise KernelError(f"{what}: a panel of packed weights or a kernel window exceeds 2^31 bytes")


# ---- instruction sets -------------------------------------------------------------------------

cdef const lw_isa *_current = NULL


def isas():
    names = []
    cdef const lw_isa *one
    while (one := lw_isa_at(len(names))) != NULL:
        names.append(lw_isa_name(one).decode())
    return tuple(names)


def isa():
    return lw_isa_name(_current).decode()


cdef const lw_isa *_find(name) except NULL:
    if not isinstance(name, str):
        raise TypeError(f"isa is {type(name).__name__}; expected str")
    cdef const lw_isa *found = lw_isa_find(name.encode())
    if found == NULL:
        raise KernelError(
            f"instruction set {name!r} is unknown or not supported by this CPU; "
            f"supported: {', '.join(isas())}")
    return found


def _set_isa(name):
    global _current
    _current = _find(name)


class _IsaContext(contextlib.AbstractContextManager):
    def __init__(self, old):
        self._old = old

    def __exit__(self, *exc):
        _set_isa(self._old)


def use_isa(name):
    context = _IsaContext(isa())
    _set_isa(name)
    return context


def table():
    cdef int mr, nr, kr
    rows = []
    for name in isas():
        lw_isa_tile(_find(name), &mr, &nr, &kr)
        for mode in ("a", "aw"):
            rows.append({"name": f"lw_dot_{mode}_{mr}x{nr}c{kr}__{name}", "op": "dot",
                         "mode": mode, "mr": mr, "nr": nr, "kr": kr, "isa": name})
        for mode in ("a", "aw"):
            rows.append({"name": f"lw_depthwise_{mode}_1x{nr}c1__{name}", "op": "depthwise",
                         "mode": mode, "mr": 1, "nr": nr, "kr": 1, "isa": name})
    return rows


_current = lw_isa_best()
if os.environ.get("LW_ISA"):
    _set_isa(os.environ["LW_ISA"])


# ---- pool -------------------------------------------------------------------------------------

cdef class Pool:
    cdef lw_pool *p

    def __cinit__(self, threads=1):
        self.p = lw_pool_create(_int("threads", threads, 1, 256))
        if self.p == NULL:
            raise MemoryError("pool: out of memory")

    def __dealloc__(self):
        with nogil:
            lw_pool_destroy(self.p)

    @property
    def threads(self):
        return lw_pool_threads(self.p)

    def __reduce__(self):
        return Pool, (self.threads,)


_pools = {}


def _pool(threads):
    count = _int("threads", threads, 1, 256)
    if count not in _pools:
        _pools[count] = Pool(count)
    return _pools[count]


# ---- rows -------------------------------------------------------------------------------------

def quantize_windows(x, window, object signed=True, *, out=None, threads=1):
    _array("x", x, np.float32, tuple(range(1, 33)))
    cdef int64_t c = x.shape[x.ndim - 1], rows = x.size // c, w = _int("window", window, 1)
    scale_shape = x.shape[:-1] + ((c - 1) // w + 1,)
    if out is None:
        out = np.empty(x.shape, np.uint8), np.empty(scale_shape, np.float32)
    q = _writable("out[0]", _shaped("out[0]", out[0], np.uint8, x.shape))
    scale = _writable("out[1]", _shaped("out[1]", out[1], np.float32, scale_shape))
    cdef Pool pool = _pool(threads)
    cdef int zero_point = 128 if signed else 0
    cdef const float *xp = <const float *>cnp.PyArray_DATA(x)
    cdef uint8_t *qp = <uint8_t *>cnp.PyArray_DATA(q)
    cdef float *sp = <float *>cnp.PyArray_DATA(scale)
    cdef lw_status status
    cdef const lw_isa *current = _current
    with nogil:
        status = lw_quantize_rows(current, pool.p, xp, rows, c, w, zero_point, qp, sp)
    if status != LW_OK:
        raise _where_nonfinite("x", x)
    return q, scale


def dequantize_windows(q, scale, window, object signed):
    _array("q", q, np.uint8, tuple(range(1, 33)))
    cdef int64_t c = q.shape[q.ndim - 1], rows = q.size // c, w = _int("window", window, 1)
    _shaped("scale", scale, np.float32, q.shape[:-1] + ((c - 1) // w + 1,))
    x = np.empty(q.shape, np.float32)
    lw_dequantize_rows(<const uint8_t *>cnp.PyArray_DATA(q),
                       <const float *>cnp.PyArray_DATA(scale), rows, c, w,
                       128 if signed else 0, <float *>cnp.PyArray_DATA(x))
    return x


# ---- tensors ----------------------------------------------------------------------------------

cdef class QTensor:
    cdef lw_tensor t
    cdef readonly object q, scale, memory

    @staticmethod
    def nbytes_for(shape, window, halo=(0, 0, 0, 0)):
        return _tensor_layout(shape, window, halo)[2]

    def __init__(self, shape, window, object signed, halo=(0, 0, 0, 0), memory=None):
        n, h, w, c = _ints("shape", shape, 4, 1)
        top, left, bottom, right = _ints("halo", halo, 4, 0)
        q_bytes, windows, nbytes = _tensor_layout(shape, window, halo)
        self.t.shared = memory is not None
        if memory is None:
            memory = _aligned(nbytes)
        _writable("memory", _array("memory", memory, np.uint8, 1))
        if memory.size < nbytes or memory.ctypes.data % LW_ALIGN:
            raise KernelError(f"memory has {memory.size} bytes at {memory.ctypes.data:#x}; "
                              f"expected at least {nbytes}, aligned to {LW_ALIGN}")
        high, wide, pixel = top + h + bottom, left + w + right, (c + 3) // 4 * 4
        plane = memory[:n * high * wide * pixel].reshape(n, high, wide, pixel)
        plane[...] = 128 if signed else 0
        scales = memory[q_bytes:q_bytes + n * high * wide * windows * 4].view(np.float32)
        scales[...] = 0.0
        scales = scales.reshape(n, high, wide, windows)
        self.memory = memory
        self.q = plane[:, top:top + h, left:left + w, :c]
        self.scale = scales[:, top:top + h, left:left + w]
        self.t.q = <uint8_t *>cnp.PyArray_DATA(plane)
        self.t.scale = <float *>cnp.PyArray_DATA(scales)
        self.t.n, self.t.h, self.t.w, self.t.c = n, h, w, c
        self.t.top, self.t.left, self.t.bottom, self.t.right = top, left, bottom, right
        self.t.pixel_bytes, self.t.windows = pixel, windows
        self.t.window = min(_int("window", window, 1), c)
        self.t.zero_point = 128 if signed else 0

    @property
    def shape(self):
        return self.t.n, self.t.h, self.t.w, self.t.c

    @property
    def window(self):
        return self.t.window

    @property
    def signed(self):
        return self.t.zero_point != 0

    @property
    def halo(self):
        return self.t.top, self.t.left, self.t.bottom, self.t.right

    @property
    def nbytes(self):
        return QTensor.nbytes_for(self.shape, self.window, self.halo)


def _tensor_layout(shape, window, halo):
    """Bytes of q with slack, windows of a pixel, bytes of all."""
    n, h, w, c = _ints("shape", shape, 4, 1)
    top, left, bottom, right = _ints("halo", halo, 4, 0)
    windows = (c - 1) // _int("window", window, 1) + 1
    pixels = n * (h + top + bottom) * (w + left + right)
    q_bytes = (pixels * ((c + 3) // 4 * 4) + LW_SLACK + LW_ALIGN - 1) // LW_ALIGN * LW_ALIGN
    nbytes = (q_bytes + pixels * windows * 4 + LW_ALIGN - 1) // LW_ALIGN * LW_ALIGN
    if nbytes > _MAX_BYTES:
        raise KernelError(f"tensor of shape {tuple(shape)} with halo {tuple(halo)} needs {nbytes} "
                          f"bytes; expected at most {_MAX_BYTES}")
    return q_bytes, windows, nbytes


def _aligned(nbytes):
    raw = np.empty(nbytes + LW_ALIGN, np.uint8)
    start = -raw.ctypes.data % LW_ALIGN
    return raw[start:start + nbytes]


# ---- weights ----------------------------------------------------------------------------------

cdef class PackedWeights:
    cdef lw_weights *p
    cdef readonly tuple shape
    cdef readonly int window, groups
    cdef readonly object weight_window, isa
    cdef readonly object signed
    cdef object source  # of depthwise weights, to pack them again for a foreign product

    def __dealloc__(self):
        lw_weights_destroy(self.p)

    def __init__(self):
        raise TypeError("PackedWeights is made by pack_weights()")

    @property
    def mode(self):
        return "A" if self.weight_window is None else "AW"

    @property
    def nbytes(self):
        return lw_weights_bytes(self.p)

    @property
    def depthwise(self):
        return lw_weights_is_depthwise(self.p) != 0


cdef PackedWeights _pack(qw, scale, window, weight_window, object signed, groups, merge, name):
    oc, kh, kw, icg = qw.shape if qw.ndim == 4 else (qw.shape[0], 1, 1, qw.shape[1])
    cdef PackedWeights w = PackedWeights.__new__(PackedWeights)
    cdef lw_status status
    w.p = lw_weights_pack(_find(name), <const int8_t *>cnp.PyArray_DATA(qw),
                          <const float *>cnp.PyArray_DATA(scale), oc, kh, kw, icg * groups,
                          groups, window, weight_window or 0, 128 if signed else 0, merge,
                          &status)
    if w.p == NULL:
        _raise(status, f"weights of shape {qw.shape}")
    w.shape, w.window, w.groups = qw.shape, min(window, icg * groups), groups
    w.weight_window, w.signed, w.isa = weight_window, signed, name
    return w


def pack_weights(qw, scale, window, *, weight_window=None, object signed=True, groups=1):
    _array("qw", qw, np.int8, (2, 4))
    if int(qw.min()) < -127:
        raise KernelError("qw holds -128; expected values from -127 to 127")
    groups = _int("groups", groups, 1)
    oc, icg = qw.shape[0], qw.shape[qw.ndim - 1]
    if oc % groups or (qw.ndim == 2 and groups != 1):
        raise KernelError(f"groups is {groups} for qw of shape {qw.shape}; expected a divisor of "
                          f"{oc} output channels, and 1 for a matrix")
    window = _int("window", window, 1)
    shape = (oc,)
    if weight_window is not None:
        weight_window = min(_int("weight_window", weight_window, 1), icg)
        shape = qw.shape[:-1] + ((icg - 1) // weight_window + 1,)
    _finite("scale", _shaped("scale", scale, np.float32, shape))
    if float(scale.min()) < 0:
        raise KernelError("scale holds negative numbers; expected scale >= 0")
    longest = min(window, icg, weight_window or icg)
    if longest > LW_MAX_CHUNK:
        raise KernelError(f"window {window} gives chunks of {longest} channels; expected at most "
                          f"{LW_MAX_CHUNK}, so that int32 sums are exact as float32")
    depthwise = icg == 1 and oc == groups
    cdef PackedWeights w = _pack(qw, scale, window, weight_window, bool(signed), groups, 0, isa())
    w.source = (qw.copy(), scale.copy()) if depthwise else None
    return w


# ---- bound operators --------------------------------------------------------------------------

cdef class Quantize:
    cdef QTensor dst
    cdef Pool pool
    cdef object src
    cdef const float *x
    cdef const lw_isa *isa

    def __init__(self, src, QTensor dst not None, Pool pool not None):
        self.src = _shaped("src", src, np.float32, dst.shape)
        self.x = <const float *>cnp.PyArray_DATA(src)
        self.dst, self.pool, self.isa = dst, pool, _current

    def __call__(self):
        cdef lw_status status
        with nogil:
            status = lw_quantize_tensor(self.isa, self.pool.p, self.x, &self.dst.t)
        if status != LW_OK:
            raise _where_nonfinite("src", self.src)


cdef class Conv:
    cdef lw_conv *p
    cdef QTensor src, dst_q
    cdef PackedWeights weights
    cdef Pool pool
    cdef object residual, dst
    cdef readonly tuple shape

    def __dealloc__(self):
        lw_conv_destroy(self.p)

    def __init__(self, QTensor src not None, PackedWeights weights not None, *, strides=(1, 1),
                 pads=(0, 0, 0, 0), dilations=(1, 1), bias=None, residual=None,
                 activation="none", alpha=0.0, lo=-np.inf, hi=np.inf, dst=None,
                 QTensor dst_q=None, Pool pool not None, gemm=None):
        if self.p != NULL:
            raise KernelError("conv is already bound; make a new one")
        cdef lw_conv_args a
        cdef lw_status status
        strides, dilations = _ints("strides", strides, 2, 1), _ints("dilations", dilations, 2, 1)
        pads = _ints("pads", pads, 4, 0)
        self.shape = _conv_shape(src, weights, strides, pads, dilations)
        if gemm is not None and weights.depthwise:
            qw, scale = weights.source
            weights = _pack(qw, scale, weights.window, weights.weight_window,
                            weights.signed, weights.groups, _GEMM_MERGE, weights.isa)
        a.src, a.weights = &src.t, weights.p
        a.oh, a.ow = self.shape[1], self.shape[2]
        a.stride_h, a.stride_w = strides
        a.pad_top, a.pad_left = pads[0], pads[1]
        a.dilation_h, a.dilation_w = dilations
        a.bias = a.residual = a.dst = NULL
        a.dst_q, a.gemm = NULL, NULL
        if bias is not None:
            _shaped("bias", bias, np.float32, (self.shape[3],))
            a.bias = <const float *>cnp.PyArray_DATA(bias)
        if residual is not None:
            _strided("residual", residual, self.shape)
            a.residual = <const float *>cnp.PyArray_DATA(residual)
            for i in range(3):
                a.residual_stride[i] = residual.strides[i] // 4
        if dst is None and dst_q is None:
            raise KernelError("conv has neither dst nor dst_q; expected at least one")
        if dst is not None:
            _writable("dst", _strided("dst", dst, self.shape))
            a.dst = <float *>cnp.PyArray_DATA(dst)
            for i in range(3):
                a.dst_stride[i] = dst.strides[i] // 4
        if dst_q is not None:
            if dst_q.shape != self.shape:
                raise KernelError(f"dst_q has shape {dst_q.shape}; expected {self.shape}")
            a.dst_q = &dst_q.t
        _check_overlap(src, dst, dst_q)
        if activation not in _ACTIVATIONS:
            raise KernelError(f"activation is {activation!r}; expected one of {_ACTIVATIONS}")
        a.activation = <lw_activation><int>_ACTIVATIONS.index(activation)
        a.alpha, a.lo, a.hi = alpha, lo, hi
        if gemm is not None:
            a.gemm = <lw_gemm *><uintptr_t>_int("gemm", gemm, 1, 2**63 - 1)
        self.src, self.weights, self.pool = src, weights, pool
        self.residual, self.dst, self.dst_q = residual, dst, dst_q
        self.p = lw_conv_create(&a, lw_pool_threads(pool.p), &status)
        if self.p == NULL:
            _raise(status, f"conv of {src.shape} with weights {weights.shape}")

    def __call__(self):
        cdef lw_status status
        with nogil:
            status = lw_conv_run(self.p, self.pool.p)
        if status != LW_OK:
            raise KernelError("the output of a convolution holds NaN or infinity, which has no "
                              "int8 value; check the scales, bias and residual")


def _check_overlap(QTensor src, dst, QTensor dst_q):
    inputs = [src.memory] + ([dst] if dst is not None else [])
    outputs = ([dst] if dst is not None else []) + ([dst_q.memory] if dst_q is not None else [])
    for x in inputs:
        for y in outputs:
            if x is not y and np.may_share_memory(x, y):
                raise KernelError("src, dst and dst_q overlap in memory; expected separate arrays")
    if dst_q is src:
        raise KernelError("dst_q is src; expected separate tensors")


def _conv_shape(QTensor src, PackedWeights weights, strides, pads, dilations):
    oc, kh, kw, icg = weights.shape if len(weights.shape) == 4 else (
        weights.shape[0], 1, 1, weights.shape[1])
    if src.t.c != icg * weights.groups:
        raise KernelError(f"src has {src.t.c} channels; expected {icg * weights.groups} for "
                          f"weights of shape {weights.shape} in {weights.groups} groups")
    if src.window != weights.window or src.signed != weights.signed:
        raise KernelError(
            f"src has window {src.window}, signed={src.signed}; expected window "
            f"{weights.window}, signed={weights.signed} as the weights were packed")
    if any(p > h for p, h in zip(pads, src.halo)):
        raise KernelError(f"pads {pads} exceed the halo {src.halo} of src; make a larger halo")
    high = src.t.h + pads[0] + pads[2] - (kh - 1) * dilations[0]
    wide = src.t.w + pads[1] + pads[3] - (kw - 1) * dilations[1]
    if high < 1 or wide < 1:
        raise KernelError(f"kernel {kh}x{kw} with dilations {dilations} exceeds src {src.shape} "
                          f"with pads {pads}")
    return src.t.n, (high - 1) // strides[0] + 1, (wide - 1) // strides[1] + 1, oc


cdef class _Transpose:
    cdef object src, dst
    cdef Pool pool
    cdef int64_t n, c, pixels
    cdef const float *x
    cdef float *y

    cdef bind(self, src, dst, Pool pool, bint to_nhwc):
        _array("src", src, np.float32, 4)
        n, a, b, c = src.shape
        _writable("dst", _shaped("dst", dst, np.float32,
                                 (n, b, c, a) if to_nhwc else (n, c, a, b)))
        if np.may_share_memory(src, dst):
            raise KernelError("src and dst overlap in memory; expected separate arrays")
        self.src, self.dst, self.pool, self.n = src, dst, pool, n
        self.c, self.pixels = (a, b * c) if to_nhwc else (c, a * b)
        self.x, self.y = <const float *>cnp.PyArray_DATA(src), <float *>cnp.PyArray_DATA(dst)


cdef class ToNHWC(_Transpose):
    def __init__(self, src, dst, Pool pool not None):
        self.bind(src, dst, pool, True)

    def __call__(self):
        with nogil:
            lw_to_nhwc(self.pool.p, self.x, self.y, self.n, self.c, self.pixels)


cdef class ToNCHW(_Transpose):
    def __init__(self, src, dst, Pool pool not None):
        self.bind(src, dst, pool, False)

    def __call__(self):
        with nogil:
            lw_to_nchw(self.pool.p, self.x, self.y, self.n, self.c, self.pixels)


# ---- functions --------------------------------------------------------------------------------

def qconv2d(q, scale, PackedWeights weights not None, bias=None, *, strides=(1, 1),
            pads=(0, 0, 0, 0), dilations=(1, 1), residual=None, activation="none", alpha=0.0,
            lo=-np.inf, hi=np.inf, threads=1, out=None, gemm=None):
    _array("q", q, np.uint8, 4)
    src = QTensor(q.shape, weights.window, weights.signed, _ints("pads", pads, 4, 0))
    _shaped("scale", scale, np.float32, src.scale.shape)
    if not (np.isfinite(scale).all() and float(scale.min()) >= 0):
        raise KernelError("scale holds negative or non-finite numbers; expected scale >= 0")
    src.q[...] = q
    src.scale[...] = scale
    if out is None:
        out = np.empty(_conv_shape(src, weights, _ints("strides", strides, 2, 1), pads,
                                   _ints("dilations", dilations, 2, 1)), np.float32)
    Conv(src, weights, strides=strides, pads=pads, dilations=dilations, bias=bias,
         residual=residual, activation=activation, alpha=alpha, lo=lo, hi=hi, dst=out,
         pool=_pool(threads), gemm=gemm)()
    return out


def qgemm(q, scale, PackedWeights weights not None, bias=None, *, residual=None,
          activation="none", alpha=0.0, lo=-np.inf, hi=np.inf, threads=1, out=None, gemm=None):
    _array("q", q, np.uint8, 2)
    _array("scale", scale, np.float32, 2)
    if len(weights.shape) != 2:
        raise KernelError(f"weights have shape {weights.shape}; expected a packed matrix (N, K)")
    if residual is not None:
        residual = _array("residual", residual, np.float32, 2)[None, None]
    if out is not None:
        out = _array("out", out, np.float32, 2)[None, None]
    y = qconv2d(q[None, None], scale[None, None], weights, bias, residual=residual,
                activation=activation, alpha=alpha, lo=lo, hi=hi, threads=threads, out=out,
                gemm=gemm)
    return y[0, 0]


def check_gemm(address):
    cdef lw_gemm *gemm = <lw_gemm *><uintptr_t>_int("address", address, 1, 2**63 - 1)
    m, n, k = 9, 33, LW_MAX_CHUNK
    rng = np.random.default_rng(0)
    cdef int32_t zero = 0
    for low, high in ((127, 128), (-127, -126), (-127, 128)):
        a = np.full((m, k), 255, np.uint8)
        b = rng.integers(low, high, (k, n)).astype(np.int8)
        c = np.full((m, n), -1, np.int32)
        gemm(101, 111, 111, 173, m, n, k, 1.0, cnp.PyArray_DATA(a), k, 0, cnp.PyArray_DATA(b), n,
             0, 0.0, <int32_t *>cnp.PyArray_DATA(c), n, &zero)
        if not np.array_equal(c, a.astype(np.int32) @ b.astype(np.int32)):
            return False
    return True

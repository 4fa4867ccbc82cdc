# The small bound operators, and the test of a foreign product.

cdef class Quantize(Operator):
    """Bound operator: quantizes a float32 NHWC array into a QTensor at every call.

    Parameters
    ----------
    src : (N, H, W, C) float32, C-contiguous
    dst : QTensor of the same shape
    pool : Pool

    Raises
    ------
    KernelError
        When bound, for a wrong dtype, shape or layout; when called, if src holds NaN or infinity.
    """
    cdef QTensor dst
    cdef object src
    cdef const float *x
    cdef const lw_isa *isa

    def __init__(self, src, QTensor dst not None, Pool pool not None):
        _check_unbound(self.x == NULL)
        _whole("dst", dst)
        self.src = _shaped("src", src, np.float32, dst.shape)
        self.x = <const float *>cnp.PyArray_DATA(src)
        self.dst, self.pool, self.isa = dst, pool, _current

    cdef lw_status run(self) noexcept nogil:
        return lw_quantize_tensor(self.isa, self.pool.p, self.x, &self.dst.t)

    cdef object failure(self):
        return _where_nonfinite("src", self.src)


cdef class QuantizePlanes(Operator):
    """Bound operator: quantizes float32 images into a QTensor of one scale per image.

    The first layer of a network has so few channels that a window of them would be cut at every
    kernel tap. With m = max abs(x) over an image: scale = m / 127 and q = 128 + rint(x * (127 / m)),
    ties to even; an image with m < 2**-100 has scale 0 and q = 128.

    Parameters
    ----------
    src : (N, C, H, W) float32, C-contiguous, C <= 3
    dst : QTensor of shape (N, H, W, C)
        Signed, with window None.
    pool : Pool

    Raises
    ------
    KernelError
        When bound, for a wrong dtype, shape or layout; when called, if src holds NaN or infinity.
    """
    cdef QTensor dst
    cdef object src
    cdef const float *x
    cdef const lw_isa *isa

    def __init__(self, src, QTensor dst not None, Pool pool not None):
        _check_unbound(self.x == NULL)
        n, h, w, c = dst.shape
        if dst.scale is not None or dst.signed is not True or c > LW_MAX_PLANES:
            raise KernelError(f"dst has {c} channels, window {dst.window}, signed={dst.signed}; "
                              f"expected at most {LW_MAX_PLANES}, window None, signed=True")
        self.src = _shaped("src", src, np.float32, (n, c, h, w))
        if np.may_share_memory(src, dst.memory):
            raise KernelError("src and dst overlap in memory; expected separate arrays")
        self.x = <const float *>cnp.PyArray_DATA(src)
        self.dst, self.pool, self.isa = dst, pool, _current

    cdef lw_status run(self) noexcept nogil:
        return lw_quantize_planes(self.isa, self.pool.p, self.x, &self.dst.t)

    cdef object failure(self):
        return _where_nonfinite("src", self.src)


cdef class Pixels(Operator):
    """Bound operator: copies raw pixels into a QTensor of one scale at every call.

    The first layer of a network reads bytes as they come, without rounding. For an input
    x = (q / 255 - mean) / std of each channel, divide the weights by 255 * std before they are
    rounded to sb * qw, subtract the sum of 255 * mean * sb * qw from the bias, and let border
    pixels be 255 * mean, rounded.

    Parameters
    ----------
    src : (N, H, W, C) uint8, C-contiguous
    dst : QTensor of the same shape
        With window None, so that it has one scale, and a border of its own.
    pool : Pool

    Raises
    ------
    KernelError
        For a wrong dtype, shape or layout.
    """
    cdef QTensor dst
    cdef object src
    cdef const uint8_t *x

    def __init__(self, src, QTensor dst not None, Pool pool not None):
        _check_unbound(self.x == NULL)
        if dst.scale is not None:
            raise KernelError(f"dst has windows of {dst.window}; expected one scale (window None)")
        self.src = _shaped("src", src, np.uint8, dst.shape)
        if np.may_share_memory(src, dst.memory):
            raise KernelError("src and dst overlap in memory; expected separate arrays")
        self.x = <const uint8_t *>cnp.PyArray_DATA(src)
        self.dst, self.pool = dst, pool

    cdef lw_status run(self) noexcept nogil:
        lw_copy_pixels(self.pool.p, self.x, &self.dst.t)
        return LW_OK


cdef class _Transpose(Operator):
    cdef object src, dst
    cdef int64_t n, c, pixels
    cdef const float *x
    cdef float *y

    cdef bind(self, src, dst, Pool pool, bint to_nhwc):
        _check_unbound(self.x == NULL)
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
    """Bound operator: copies src (N, C, H, W) float32 into dst (N, H, W, C) at every call."""
    def __init__(self, src, dst, Pool pool not None):
        self.bind(src, dst, pool, True)

    cdef lw_status run(self) noexcept nogil:
        lw_to_nhwc(self.pool.p, self.x, self.y, self.n, self.c, self.pixels)
        return LW_OK


cdef class ToNCHW(_Transpose):
    """Bound operator: copies src (N, H, W, C) float32 into dst (N, C, H, W) at every call."""
    def __init__(self, src, dst, Pool pool not None):
        self.bind(src, dst, pool, False)

    cdef lw_status run(self) noexcept nogil:
        lw_to_nchw(self.pool.p, self.x, self.y, self.n, self.c, self.pixels)
        return LW_OK


def check_gemm(address):
    """Whether the function at `address` multiplies u8 by s8 exactly, with no saturation.

    Parameters
    ----------
    address : int
        Of a function with the interface of MKL's cblas_gemm_s8u8s32 with 32 bit integers. Nothing
        can check that it is one: a wrong address ends the process.

    Returns
    -------
    bool
    """
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

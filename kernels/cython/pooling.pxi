# Maximum and average pooling.

_POOLINGS = ("max", "average")


cdef class Pooling(Operator):
    """Bound operator: pools an image at every call.

    Parameters
    ----------
    src : (N, H, W, C) float32, channels contiguous, or a QTensor
    op : {"max", "average"}
    kernel, strides, dilations : (int, int)
    pads : (top, left, bottom, right)
        Never counts for a maximum; counts for an average if `count_pads`.
    count_pads : bool
    out_shape : (OH, OW)
        Given by the caller, as rounding up or down is a matter of the model. Every output pixel
        must see at least one pixel of the image.
    dst : (N, OH, OW, C) float32, channels contiguous, optional
    dst_q : QTensor of that shape, optional
    pool : Pool

    Raises
    ------
    KernelError
        When bound, for a wrong dtype, shape or layout; when called, if a result has no int8 value.
    """
    cdef lw_pooling_plan *p
    cdef object src, dst
    cdef QTensor dst_q

    def __cinit__(self):
        self.p = NULL

    def __dealloc__(self):
        lw_pooling_destroy(self.p)

    def __init__(self, src, op, *, kernel, out_shape, strides=(1, 1), pads=(0, 0, 0, 0),
                 dilations=(1, 1), count_pads=False, dst=None, QTensor dst_q=None,
                 Pool pool not None):
        _check_unbound(self.p == NULL)
        cdef lw_pooling_args a
        if op not in _POOLINGS:
            raise KernelError(f"op is {op!r}; expected one of {_POOLINGS}")
        a.average, a.count_pads = op == "average", bool(count_pads)
        a.kh, a.kw = _ints("kernel", kernel, 2, 1)
        a.stride_h, a.stride_w = _ints("strides", strides, 2, 1)
        a.dilation_h, a.dilation_w = _ints("dilations", dilations, 2, 1)
        a.pad_top, a.pad_left, a.pad_bottom, a.pad_right = _ints("pads", pads, 4, 0)
        oh, ow = _ints("out_shape", out_shape, 2, 1)
        a.src, a.src_q = NULL, NULL
        if isinstance(src, QTensor):
            _whole("src", src)
            a.src_q = &(<QTensor>src).t
        else:
            if getattr(src, "size", 1) == 0:
                raise KernelError(f"src has shape {src.shape}; expected no dimension of size 0")
            _strided("src", src, src.shape if getattr(src, "ndim", 4) == 4 else (1, 1, 1, 1))
            a.src = <const float *>cnp.PyArray_DATA(src)
            for i in range(3):
                a.src_stride[i] = src.strides[i] // 4
        a.n, a.h, a.w, a.c = src.shape
        shape = (a.n, oh, ow, a.c)
        _check_seen(oh, a.stride_h, a.pad_top, a.kh, a.dilation_h, a.h)
        _check_seen(ow, a.stride_w, a.pad_left, a.kw, a.dilation_w, a.w)
        a.dst, a.dst_q = NULL, NULL
        if dst is not None:
            _writable("dst", _strided("dst", dst, shape))
            a.dst = <float *>cnp.PyArray_DATA(dst)
            for i in range(3):
                a.dst_stride[i] = dst.strides[i] // 4
        if dst_q is not None:
            if dst_q.shape != shape:
                raise KernelError(f"dst_q has shape {dst_q.shape}; expected {shape}")
            _whole("dst_q", dst_q)
            a.dst_q = &dst_q.t
        if dst is None and dst_q is None:
            raise KernelError("neither dst nor dst_q is given; expected at least one")
        _check_separate(src, dst, dst_q)
        self.src, self.dst, self.dst_q = src, dst, dst_q
        self.p = lw_pooling_create(_current, &a, oh, ow, lw_pool_threads(pool.p))
        if self.p == NULL:
            raise MemoryError(f"pooling of {tuple(src.shape)}: out of memory")
        self.pool = pool

    cdef lw_status run(self) noexcept nogil:
        return lw_pooling_run(self.p, self.pool.p)

    cdef object failure(self):
        return KernelError("the output of a pooling holds NaN or infinity, which has no int8 value; "
                           "check its input")


def _check_separate(src, dst, QTensor dst_q):
    source = src.memory if isinstance(src, QTensor) else src
    if isinstance(src, QTensor) and dst_q is not None:
        if dst_q.overlaps(src):
            raise KernelError("src and dst_q overlap in memory; expected separate arrays")
        dst_q = None
    for name, target in (("dst", dst), ("dst_q", None if dst_q is None else dst_q.memory)):
        # exact: slices of one array by channel have overlapping bounds but no common element
        if target is not None and np.shares_memory(source, target):
            raise KernelError(f"src and {name} overlap in memory; expected separate arrays")


def _check_seen(out, stride, pad, kernel, dilation, size):
    """Raises unless the first and the last window touch the image."""
    reach = (kernel - 1) * dilation
    for i in (0, out - 1):
        first = i * stride - pad
        inside = range(first, first + reach + 1, dilation)
        if not any(0 <= y < size for y in (inside if len(inside) < 4096 else (first, size - 1))):
            raise KernelError(f"output pixel {i} sees no pixel of {size}: kernel {kernel}, stride "
                              f"{stride}, pad {pad}, dilation {dilation}")

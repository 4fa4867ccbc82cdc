# Images of another size, by nearest neighbours.

cdef class Nearest(Operator):
    """Bound operator: makes every output pixel a copy of a pixel of the image.

    Parameters
    ----------
    src : (N, H, W, C) float32, channels contiguous, or a QTensor
    dst : (N, OH, OW, C), the same kind of image
        Of two QTensors, window and sign must be alike; nothing is rounded.
    rows : OH numbers below H
        The row of the image that each output row shows.
    columns : OW numbers below W
    pool : Pool

    Raises
    ------
    KernelError
        For a wrong dtype, shape or layout, or a number outside the image.
    """
    cdef lw_nearest_args a
    cdef object src, dst, rows, columns

    def __init__(self, src, dst, rows, columns, Pool pool not None):
        _check_unbound(self.a.rows == NULL)
        if isinstance(src, QTensor) != isinstance(dst, QTensor):
            raise KernelError(f"src is {type(src).__name__} and dst {type(dst).__name__}; expected "
                              "two arrays or two QTensors")
        n, h, w, c = _image_shape("src", src)
        self.rows, self.columns = _places("rows", rows, h), _places("columns", columns, w)
        shape = (n, len(self.rows), len(self.columns), c)
        if isinstance(src, QTensor):
            self._bind_windows(src, dst, shape)
        else:
            self._bind_floats(src, dst, shape)
        _check_separate(src, None if isinstance(dst, QTensor) else dst,
                        dst if isinstance(dst, QTensor) else None)
        self.a.n, self.a.oh, self.a.ow, self.a.c = shape
        self.src, self.dst = src, dst
        self.a.columns = <const int32_t *>cnp.PyArray_DATA(self.columns)
        self.a.rows = <const int32_t *>cnp.PyArray_DATA(self.rows)
        self.pool = pool

    cdef _bind_windows(self, QTensor src, QTensor dst, shape):
        _whole("src", src)
        _whole("dst", dst)
        given, wanted = (dst.shape, dst.window, dst.signed), (shape, src.window, src.signed)
        if given != wanted:
            raise KernelError(f"dst has shape, window and sign {given}; expected {wanted}")
        self.a.src_q, self.a.dst_q = &src.t, &dst.t

    cdef _bind_floats(self, src, dst, shape):
        _strided("src", src, src.shape)
        _writable("dst", _strided("dst", dst, shape))
        self.a.src = <const float *>cnp.PyArray_DATA(src)
        self.a.dst = <float *>cnp.PyArray_DATA(dst)
        for i in range(3):
            self.a.src_stride[i] = src.strides[i] // 4
            self.a.dst_stride[i] = dst.strides[i] // 4

    cdef lw_status run(self) noexcept nogil:
        lw_nearest(self.pool.p, &self.a)
        return LW_OK


def _image_shape(name, x):
    shape = getattr(x, "shape", ())
    if len(shape) != 4 or 0 in shape:
        raise KernelError(f"{name} has shape {shape}; expected (N, H, W, C), none of them 0")
    return shape


def _places(name, numbers, size):
    """int32, all of them inside of `size`."""
    places = np.array([_int(name, i, 0, size - 1) for i in numbers], np.int32)
    if places.size == 0:
        raise KernelError(f"{name} is empty; expected a number for each output")
    return places

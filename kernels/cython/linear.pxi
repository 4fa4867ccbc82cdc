# Images of another size, by linear interpolation.

cdef class Linear(Operator):
    """Bound operator: makes every output pixel of the four around its place in the image.

    Parameters
    ----------
    src : (N, H, W, C) float32, channels contiguous
    dst : (N, OH, OW, C) float32, channels contiguous
    rows : OH numbers of 0 to H - 1
        The place between rows of the image that each output row shows.
    columns : OW numbers of 0 to W - 1
    pool : Pool

    Raises
    ------
    KernelError
        For a wrong dtype, shape or layout, or a place outside the image.
    """
    cdef lw_linear_args a
    cdef const lw_isa *isa
    cdef object src, dst, kept

    def __init__(self, src, dst, rows, columns, Pool pool not None):
        _check_unbound(self.a.row == NULL)
        n, h, w, c = _image_shape("src", src)
        row, row_part = _between("rows", rows, h)
        column, column_part = _between("columns", columns, w)
        shape = (n, len(row), len(column), c)
        _strided("src", src, src.shape)
        _writable("dst", _strided("dst", dst, shape))
        _check_separate(src, dst, None)
        self.src, self.dst, self.isa = src, dst, _current
        self.kept = row, row_part, column, column_part
        self.a.src = <const float *>cnp.PyArray_DATA(src)
        self.a.dst = <float *>cnp.PyArray_DATA(dst)
        for i in range(3):
            self.a.src_stride[i] = src.strides[i] // 4
            self.a.dst_stride[i] = dst.strides[i] // 4
        self.a.n, self.a.oh, self.a.ow, self.a.c = shape
        self.a.row_part = <const float *>cnp.PyArray_DATA(row_part)
        self.a.column = <const int32_t *>cnp.PyArray_DATA(column)
        self.a.column_part = <const float *>cnp.PyArray_DATA(column_part)
        self.a.row = <const int32_t *>cnp.PyArray_DATA(row)
        self.pool = pool

    cdef lw_status run(self) noexcept nogil:
        lw_linear(self.isa, self.pool.p, &self.a)
        return LW_OK


def _between(name, places, size):
    """The whole parts of places inside of `size`, and the rest of them."""
    given = np.array(tuple(places), np.float32)
    if given.size == 0:
        raise KernelError(f"{name} is empty; expected a place for each output")
    inside = (given >= 0) & (given <= size - 1)
    if not inside.all():
        raise KernelError(f"{name} holds {given[~inside][0]}; expected 0 to {size - 1}")
    whole = np.minimum(np.floor(given), size - 1).astype(np.int32)
    return whole, given - whole.astype(np.float32)

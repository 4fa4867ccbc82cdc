# The maximum that a convolution takes before it stores anything.

cdef class MaxPool:
    """The maximum of each kernel of pixels of a convolution; what lies outside does not count.

    Parameters
    ----------
    kernel : (int, int)
        Of at most 4 rows and columns.
    out_shape : (OH, OW)
        Of the maxima, each of at least one pixel.
    strides : (int, int)
    pads : (top, left, bottom, right)
        Less than the kernel; `out_shape` says what the last two do.

    Raises
    ------
    KernelError
        For a value out of range.
    """
    cdef lw_max_pool m

    def __init__(self, kernel, out_shape, strides=(1, 1), pads=(0, 0, 0, 0)):
        kernel, strides = _ints("kernel", kernel, 2, 1), _ints("strides", strides, 2, 1)
        pads = _ints("pads", pads, 4, 0)
        if max(kernel) > LW_MAX_POOL or any(pads[i] >= kernel[i % 2] for i in range(4)):
            raise KernelError(
                f"the maximum behind a convolution has kernel {kernel} and pads {pads}; expected a "
                f"kernel of at most {LW_MAX_POOL} and smaller pads")
        self.m.kh, self.m.kw = kernel
        self.m.stride_h, self.m.stride_w = strides
        self.m.pad_top, self.m.pad_left = pads[:2]
        self.m.oh, self.m.ow = _ints("out_shape", out_shape, 2, 1)


cdef tuple _max_pool(lw_conv_args *a, MaxPool max_pool, src, PackedWeights weights,
                     residual, tuple shape):
    """Sets the maximum behind a convolution; returns the shape of the result."""
    cdef lw_max_pool *m = &max_pool.m
    n, h, w, oc = shape
    _check_seen(m.oh, m.stride_h, m.pad_top, m.kh, 1, h)
    _check_seen(m.ow, m.stride_w, m.pad_left, m.kw, 1, w)
    if residual is not None or isinstance(src, Dense):
        raise KernelError("a convolution with a maximum behind it has a residual or reads another "
                          "convolution; expected neither")
    if w < 2 or weights.groups != 1:
        raise KernelError(f"a convolution with a maximum behind it has a result of shape {shape} in "
                          f"{weights.groups} groups; expected several columns and one group")
    a.max_pool = m
    return n, m.oh, m.ow, oc

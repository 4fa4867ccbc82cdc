# Product of two activations: the bound operator and the plain function.

cdef class MatMul(Operator):
    """Bound operator: y = scale * (a @ b), both factors quantized anew at every call.

    The rows of a and the columns of b get windows along K, as `quantize_windows` makes them; the
    products are those of mode AW. Nothing is allocated by a call.

    Parameters
    ----------
    a : (..., M, K) float32
    b : (..., K, N) float32
        Leading axes broadcast. Any strides: a transposition is a view.
    y : (..., M, N) float32
        Columns adjacent; other axes may be strided.
    window : int
        Elements along K that share a scale, 1 to 512.
    signed : bool
        False for an `a` known to be >= 0; b is signed.
    scale : float
        Finite.
    softmax : bool
        The first factor is softmax(a + mask) along K instead of a; it needs no sign.
    mask : float32, optional
        Broadcasts to the leading axes of y, M and K; adjacent along K. May hold -inf, but not
        throughout a row.
    pool : Pool
    gemm : int, optional
        As in `Conv`.

    Raises
    ------
    KernelError
        When bound, for a wrong dtype, shape, layout or value; when called, if a + mask or b holds NaN
        or infinity, but for -inf under a softmax.
    """
    cdef lw_matmul *p
    cdef object a, b, y, mask

    def __dealloc__(self):
        lw_matmul_destroy(self.p)

    def __init__(self, a, b, y, *, window, object signed=True, scale=1.0,
                 bint softmax=False, mask=None, Pool pool not None, gemm=None):
        _check_unbound(self.p == NULL)
        cdef lw_matmul_args g
        cdef lw_status status
        for name, x in (("a", a), ("b", b), ("y", y)):
            _matrices(name, x)
        lead = _lead(a, b)
        m, k, n = a.shape[a.ndim - 2], a.shape[a.ndim - 1], b.shape[b.ndim - 1]
        if b.shape[b.ndim - 2] != k or y.shape != (*lead, m, n):
            raise KernelError(f"a has shape {a.shape}, b {b.shape}, y {y.shape}; expected "
                              "(..., M, K), (..., K, N) and (..., M, N)")
        _writable("y", y)
        if (n > 1 and y.strides[y.ndim - 1] != 4) or _shares_elements(y):
            raise KernelError(f"y has byte strides {y.strides}; expected adjacent columns, and "
                              "elements of their own")
        if any(x is not None and np.may_share_memory(x, y) for x in (a, b, mask)):
            raise KernelError("y overlaps a, b or mask in memory; expected separate arrays")
        g.m, g.n, g.k = _ints("M, N, K", (m, n, k), 3, 1)
        g.window = _int("window", window, 1, LW_MAX_CHUNK)
        g.scale = scale
        if not math.isfinite(g.scale):
            raise KernelError(f"scale is {scale}; expected a finite float32")
        a_at, y_at = _starts(a, lead), _starts(y, lead)
        b_at, pack = np.unique(_starts(b, lead), return_inverse=True)
        pack = pack.reshape(-1).astype(np.int64)
        g.items, g.packs = a_at.size, b_at.size
        g.a, g.b = <const float *>cnp.PyArray_DATA(a), <const float *>cnp.PyArray_DATA(b)
        g.y = <float *>cnp.PyArray_DATA(y)
        g.a_at, g.y_at = <int64_t *>cnp.PyArray_DATA(a_at), <int64_t *>cnp.PyArray_DATA(y_at)
        g.b_at, g.pack = <int64_t *>cnp.PyArray_DATA(b_at), <int64_t *>cnp.PyArray_DATA(pack)
        for i in range(2):
            g.a_stride[i] = a.strides[a.ndim - 2 + i] // 4
            g.b_stride[i] = b.strides[b.ndim - 2 + i] // 4
        g.y_stride = y.strides[y.ndim - 2] // 4
        g.zero_point, g.gemm = 128 if signed and not softmax else 0, NULL
        g.softmax, g.mask, g.mask_at, g.mask_stride = softmax, NULL, NULL, 0
        if mask is not None:
            mask = _mask(mask, (*lead, m, k), softmax)
            mask_at = _starts(mask, lead)
            g.mask = <const float *>cnp.PyArray_DATA(mask)
            g.mask_at = <int64_t *>cnp.PyArray_DATA(mask_at)
            g.mask_stride = mask.strides[mask.ndim - 2] // 4
        if gemm is not None:
            g.gemm = <lw_gemm *><uintptr_t>_int("gemm", gemm, 1, 2**63 - 1)
        self.a, self.b, self.y, self.mask = a, b, y, mask
        self.p = lw_matmul_create(_current, &g, lw_pool_threads(pool.p), &status)
        if self.p == NULL:
            _raise(status, f"product of {a.shape} and {b.shape}")
        self.pool = pool

    cdef lw_status run(self) noexcept nogil:
        return lw_matmul_run(self.p, self.pool.p)

    cdef object failure(self):
        for name, x in (("b", self.b), ("a", self.a)):
            if not np.isfinite(x).all():
                return _where_nonfinite(name, x)
        return KernelError("a + mask holds NaN or infinity, or -inf throughout a row, which has no "
                           "softmax; expected a finite number in every row")


cdef _matrices(name, x):
    """Checks float32 (..., rows, columns) of any strides."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} is {type(x).__name__}; expected numpy.ndarray")
    if x.dtype != np.float32 or x.ndim < 2 or x.size == 0:
        raise KernelError(f"{name} is {x.dtype} of shape {x.shape}; expected float32 matrices "
                          "(..., rows, columns), no dimension of size 0")
    if not x.flags.aligned or any(s % 4 for s in x.strides):
        raise KernelError(f"{name} has byte strides {x.strides}; expected multiples of 4, aligned")


cdef _mask(mask, shape, bint softmax):
    """A mask as a view of the shape of the first factor."""
    if not softmax:
        raise KernelError("mask is given without softmax=True; expected both")
    _matrices("mask", mask)
    try:
        mask = np.broadcast_to(mask, shape)
    except ValueError:
        raise KernelError(f"mask has shape {mask.shape}; expected one that broadcasts to "
                          f"{shape}") from None
    if shape[len(shape) - 1] > 1 and mask.strides[mask.ndim - 1] != 4:
        raise KernelError(f"mask has byte strides {mask.strides}; expected adjacent columns")
    return mask


cdef _lead(a, b):
    """The leading axes of a product."""
    try:
        return np.broadcast_shapes(a.shape[:a.ndim - 2], b.shape[:b.ndim - 2])
    except ValueError:
        raise KernelError(f"a has shape {a.shape}, b {b.shape}; expected leading axes that "
                          "broadcast") from None


cdef _shares_elements(y):
    """Whether two indices may mean one element."""
    reach = 4
    for stride, size in sorted((abs(s), d) for s, d in zip(y.strides, y.shape) if d > 1):
        if stride < reach:
            return True
        reach = stride * size
    return False


cdef _starts(x, lead):
    """Floats from the first element to every matrix, (matrices,) int64."""
    starts = np.zeros(1, np.int64)
    axes = x.ndim - 2
    for i, size in enumerate(lead):
        axis = i - (len(lead) - axes)
        step = x.strides[axis] // 4 if axis >= 0 and x.shape[axis] > 1 else 0
        starts = (starts[:, None] + np.arange(size, dtype=np.int64) * step).reshape(-1)
    return starts


def qmatmul(a, b, window, *, object signed=True, scale=1.0, bint softmax=False, mask=None,
            threads=1, gemm=None):
    """scale * (a @ b) with both factors in int8 windows; see `MatMul`.

    Parameters
    ----------
    a : (..., M, K) float32
    b : (..., K, N) float32
    window, signed, scale, softmax, mask, threads, gemm

    Returns
    -------
    (..., M, N) float32

    Raises
    ------
    KernelError
        For a wrong dtype, shape, layout or value, or NaN or infinity in a or b.
    """
    _matrices("a", a)
    _matrices("b", b)
    y = np.empty((*_lead(a, b), a.shape[a.ndim - 2], b.shape[b.ndim - 1]), np.float32)
    MatMul(a, b, y, window=window, signed=signed, scale=scale, softmax=softmax, mask=mask,
           pool=_pool(threads), gemm=gemm)()
    return y

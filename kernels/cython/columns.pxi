# Arithmetic with the columns of narrow matrices.

_COLUMN_OPS = ("add", "sub", "mul", "div", "max", "exp")  # as lw_column_op counts them


cdef class Columns(Operator):
    """Bound operator: computes a matrix of few columns from others, row by row, at every call.

    Columns are numbered: those that are loaded, then the constants, then the result of each step.

    Parameters
    ----------
    loads : matrices (M, k) of one M
        Each a sequence of arrays (images, rows, k), float32 and C-contiguous, whose rows follow
        each other in every image.
    constants : (constants, rows) float32, C-contiguous
        The same in every image.
    steps : of (op, a, b)
        op is "add", "sub", "mul", "div", "max" or "exp", which takes a alone; a and b are columns
        before its own.
    result : numbers of columns, 1 to 64
    dst : (images, rows, len(result)) float32, C-contiguous
    pool : Pool

    Raises
    ------
    KernelError
        For a wrong dtype, shape or layout, an unknown op, or a column that is not there.
    """
    cdef lw_columns *p
    cdef object kept

    def __cinit__(self):
        self.p = NULL

    def __dealloc__(self):
        lw_columns_destroy(self.p)

    def __init__(self, loads, constants, steps, result, dst, Pool pool not None):
        _check_unbound(self.p == NULL)
        cdef lw_columns_args a
        images, rows, n = _writable("dst", _array("dst", dst, np.float32, 3)).shape
        _array("constants", constants, np.float32, 2) if constants.size else None
        if constants.shape[1:] != (rows,):
            raise KernelError(f"constants has shape {constants.shape}; expected (any, {rows})")
        parts, loaded = _column_parts(loads, images, rows)
        table, count = _column_steps(steps, loaded + len(constants))
        columns = np.array([_int("result", c, 0, count - 1) for c in result], np.int32)
        if len(columns) != n or n > LW_MAX_COLUMNS:
            raise KernelError(f"result has {len(columns)} columns and dst {n}; expected the same "
                              f"number, 1 to {LW_MAX_COLUMNS}")
        for load in loads:
            for x in load:
                _check_separate(x, dst, None)
        a.images, a.rows, a.n, a.parts = images, rows, n, len(parts)
        a.constants, a.steps = len(constants), len(table)
        a.part = <const lw_columns_part *>cnp.PyArray_DATA(parts)
        a.constant = <const float *>cnp.PyArray_DATA(constants)
        a.step = <const lw_columns_step *>cnp.PyArray_DATA(table)
        a.result = <const int32_t *>cnp.PyArray_DATA(columns)
        a.y = <float *>cnp.PyArray_DATA(dst)
        self.kept = loads, dst
        self.p = lw_columns_create(_current, &a, lw_pool_threads(pool.p))
        if self.p == NULL:
            raise MemoryError(f"columns of {rows} rows: out of memory")
        self.pool = pool

    cdef lw_status run(self) noexcept nogil:
        lw_columns_run(self.p, self.pool.p)
        return LW_OK


def _column_parts(loads, images, rows):
    """As rows of lw_columns_part, and how many columns there are."""
    parts, column = [], 0
    for load in loads:
        first, width = 0, None
        for x in load:
            _array("a loaded matrix", x, np.float32, 3)
            width = x.shape[2] if width is None else width
            if x.shape[0] != images or x.shape[2] != width:
                raise KernelError(f"a loaded matrix has shape {x.shape}; expected "
                                  f"({images}, rows, {width})")
            parts.append((<uintptr_t>cnp.PyArray_DATA(x), first, x.shape[1], width, column))
            first += x.shape[1]
        if first != rows:
            raise KernelError(f"a load has {first} rows; expected {rows}, those of dst")
        column += width
    return np.array(parts, np.int64).reshape(-1, 5), column


def _column_steps(steps, columns):
    """As rows of lw_columns_step, and how many columns there are then."""
    table = []
    for op, x, y in steps:
        if op not in _COLUMN_OPS:
            raise KernelError(f"op is {op!r}; expected one of {_COLUMN_OPS}")
        table.append((_COLUMN_OPS.index(op), _int("a", x, 0, columns - 1),
                      _int("b", y, 0, columns - 1)))
        columns += 1
    return np.array(table, np.int32).reshape(-1, 3), columns

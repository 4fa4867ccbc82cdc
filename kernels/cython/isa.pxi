# Which instruction set is in use.

cdef const lw_isa *_current = NULL


def isas():
    """Instruction sets that this CPU supports, weakest first.

    Where the CPU has AVX512-VNNI but not AVX-VNNI, the 256-bit kernels of the latter are there in
    the encoding of AVX512VL, under the name avxvnni_evex.
    """
    names = []
    cdef const lw_isa *one
    while (one := lw_isa_at(len(names))) != NULL:
        names.append(lw_isa_name(one).decode())
    return tuple(names)


def isa():
    """Instruction set in use: the best one, or the one named by the variable LW_ISA."""
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
    """Uses another instruction set for what is packed or bound from now on.

    Parameters
    ----------
    name : str
        One of `isas()`.

    Returns
    -------
    context manager
        Leaving it restores the former set. Weights and operators keep the set they were made with.

    Raises
    ------
    KernelError
        If the set is unknown, or not supported by this CPU.
    """
    context = _IsaContext(isa())
    _set_isa(name)
    return context


def table():
    """One row per micro-kernel of every supported instruction set.

    Returns
    -------
    list of dict
        Keys ``name`` (``lw_<op>_<mode>_<MR>x<NR>c<KR>__<isa>``), ``op``, ``mode`` ("a": one weight
        scale per output channel; "aw": weight windows; "c": one activation scale too), ``mr``, ``nr``, ``kr`` and ``isa``,
        of which "avxvnni_evex" stands for "avxvnni" where the CPU lacks it: see `isas`.
    """
    cdef int mr, nr, kr
    rows = []
    for name in isas():
        lw_isa_tile(_find(name), &mr, &nr, &kr)
        for mode in ("a", "aw", "c"):
            rows.append({"name": f"lw_dot_{mode}_{mr}x{nr}c{kr}__{name}", "op": "dot",
                         "mode": mode, "mr": mr, "nr": nr, "kr": kr, "isa": name})
        rows.append({"name": f"lw_depthwise_a_2x{nr}c1__{name}", "op": "depthwise", "mode": "a",
                     "mr": 2, "nr": nr, "kr": 1, "isa": name})
    return rows


def run_dots(steps):
    """
    Runs the dot instruction of the set in use alone, on registers, to measure its peak.

    Parameters
    ----------
    steps : int
        Register tiles, 1 to 10**9.

    Returns
    -------
    int
        Multiplications done.
    """
    cdef int64_t count = _int("steps", steps, 1, 10**9)
    with nogil:
        count = lw_isa_peak(_current, count)
    return count


def run_reads(x, times):
    """
    Loads an array by the vectors of the set in use, to measure the bandwidth of where it lies.

    Parameters
    ----------
    x : (bytes,) uint8, C-contiguous
        Aligned to 4 bytes. What exceeds a multiple of eight vectors is left out.
    times : int
        1 to 10**9.

    Returns
    -------
    int
        Bytes read.
    """
    _words("x", x)
    cdef int64_t n = x.size // 4, count = _int("times", times, 1, 10**9)
    cdef const int32_t *p = <const int32_t *>cnp.PyArray_DATA(x)
    with nogil:
        count = lw_isa_read(_current, p, n, count)
    return count


def run_copies(x, y, times):
    """
    Copies an array by the vectors of the set in use, to measure the bandwidth of where it lies.

    Parameters
    ----------
    x, y : (bytes,) uint8, C-contiguous
        Aligned to 4 bytes. What exceeds a multiple of eight vectors is left out.
    times : int
        1 to 10**9.

    Returns
    -------
    int
        Bytes read and written.
    """
    _words("x", x)
    _writable("y", _shaped("y", _words("y", y), np.uint8, x.shape))
    cdef int64_t n = x.size // 4, count = _int("times", times, 1, 10**9)
    cdef const int32_t *p = <const int32_t *>cnp.PyArray_DATA(x)
    cdef int32_t *q = <int32_t *>cnp.PyArray_DATA(y)
    with nogil:
        count = lw_isa_copy(_current, p, q, n, count)
    return count


def _words(name, x):
    if _array(name, x, np.uint8, 1).ctypes.data % 4:
        raise KernelError(f"{name} begins at {x.ctypes.data:#x}; expected a multiple of 4")
    return x


_current = lw_isa_best()
if os.environ.get("LW_ISA"):
    _set_isa(os.environ["LW_ISA"])

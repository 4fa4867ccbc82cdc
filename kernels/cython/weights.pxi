# Packed weights.

cdef class PackedWeights:
    """int8 weights in the order of the kernels of one instruction set; made by `pack_weights`.

    Attributes
    ----------
    shape : (N, K) or (OC, KH, KW, IC / groups)
    window, weight_window, signed, groups
        As given to `pack_weights`.
    mode : str
        "A" (one scale per output channel), "AW" (weight windows) or "C" (one scale per output
        channel, and one for the whole activation).
    isa : str
    depthwise : bool
    nbytes : int
    """
    cdef lw_weights *p
    cdef readonly tuple shape
    cdef readonly int groups
    cdef readonly object window, weight_window, isa
    cdef readonly object signed
    cdef object source  # of depthwise weights, to pack them again for a foreign product

    def __dealloc__(self):
        lw_weights_destroy(self.p)

    def __init__(self):
        raise TypeError("PackedWeights is made by pack_weights()")

    @property
    def mode(self):
        if self.window is None:
            return "C"
        return "A" if self.weight_window is None else "AW"

    @property
    def nbytes(self):
        _check_bound(self.p != NULL)
        return lw_weights_bytes(self.p)

    @property
    def depthwise(self):
        _check_bound(self.p != NULL)
        return lw_weights_is_depthwise(self.p) != 0


cdef PackedWeights _pack(qw, scale, window, weight_window, object signed, groups, merge, name):
    oc, kh, kw, icg = qw.shape if qw.ndim == 4 else (qw.shape[0], 1, 1, qw.shape[1])
    cdef PackedWeights w = PackedWeights.__new__(PackedWeights)
    cdef lw_status status
    w.p = lw_weights_pack(_find(name), <const int8_t *>cnp.PyArray_DATA(qw),
                          <const float *>cnp.PyArray_DATA(scale), oc, kh, kw, icg * groups,
                          groups, window or 0, weight_window or 0, 128 if signed else 0, merge,
                          &status)
    if w.p == NULL:
        _raise(status, f"weights of shape {qw.shape}")
    w.shape, w.groups = qw.shape, groups
    w.window = None if window is None else min(window, icg * groups)
    w.weight_window, w.signed, w.isa = weight_window, signed, name
    return w


def pack_weights(qw, scale, window, *, weight_window=None, object signed=True, groups=1):
    """Packs int8 weights for the instruction set in use.

    Parameters
    ----------
    qw : (N, K) or (OC, KH, KW, IC / groups) int8, C-contiguous
        Values from -127 to 127.
    scale : float32
        (N,) or, with `weight_window`, (N, ceil(K / weight_window)) or
        (OC, KH, KW, ceil(IC / groups / weight_window)). Finite, >= 0.
    window : int or None
        Window of the activations, counted from channel 0 of all IC channels. None: the whole
        activation has one scale, which is a factor of `scale` (mode C).
    weight_window : int, optional
        Input channels that share a weight scale, counted inside the group's own channels.
    signed : bool
        Whether the activations are signed (zero point 128).
    groups : int

    Returns
    -------
    PackedWeights

    Raises
    ------
    KernelError
        For a wrong dtype, shape, layout or value, or if a chunk (the run of channels inside one
        window of each kind) exceeds 512: 512 * 255 * 127 < 2**24 keeps int32 sums exact as float32.
        In mode C, if KH * KW * IC / groups exceeds 66311, beyond which int32 sums overflow.
    """
    _array("qw", qw, np.int8, (2, 4))
    if int(qw.min()) < -127:
        raise KernelError("qw holds -128; expected values from -127 to 127")
    groups = _int("groups", groups, 1)
    oc, icg = qw.shape[0], qw.shape[qw.ndim - 1]
    if oc % groups or (qw.ndim == 2 and groups != 1):
        raise KernelError(f"groups is {groups} for qw of shape {qw.shape}; expected a divisor of "
                          f"{oc} output channels, and 1 for a matrix")
    if window is not None:
        window = _int("window", window, 1)
    shape = (oc,)
    if weight_window is not None:
        if window is None:
            raise KernelError(f"weight_window is {weight_window} but window is None; expected "
                              "windows of the activations too")
        weight_window = min(_int("weight_window", weight_window, 1), icg)
        shape = qw.shape[:-1] + ((icg - 1) // weight_window + 1,)
    _finite("scale", _shaped("scale", scale, np.float32, shape))
    if float(scale.min()) < 0:
        raise KernelError("scale holds negative numbers; expected scale >= 0")
    longest = min(window or icg, icg, weight_window or icg)
    if window is None and qw.size // oc > LW_MAX_DEPTH:
        raise KernelError(f"weights of shape {qw.shape} add up {qw.size // oc} products; expected "
                          f"at most {LW_MAX_DEPTH}, so that int32 sums cannot overflow")
    if window is not None and longest > LW_MAX_CHUNK:
        raise KernelError(f"window {window} gives chunks of {longest} channels; expected at most "
                          f"{LW_MAX_CHUNK}, so that int32 sums are exact as float32")
    depthwise = icg == 1 and oc == groups and window is not None
    cdef PackedWeights w = _pack(qw, scale, window, weight_window, bool(signed), groups, 0, isa())
    w.source = (qw.copy(), scale.copy()) if depthwise else None
    return w

# Packed weights.

cdef class PackedWeights:
    """int8 weights in the order of the kernels of one instruction set; made by `pack_weights`
    or `map_weights`.

    Attributes
    ----------
    shape : (N, K) or (OC, KH, KW, IC / groups)
    window, weight_window, signed, groups
        As given to `pack_weights`.
    fine : bool
        Whether the weights were int16.
    winograd : bool
        Whether they were transformed.
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
    cdef readonly object signed, fine, winograd
    cdef object memory  # of mapped weights
    cdef object __weakref__

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


    @property
    def blob(self):
        """All numbers in their packed order, (nbytes,) uint8, read only: what `map_weights` takes."""
        _check_bound(self.p != NULL)
        cdef cnp.npy_intp length = <cnp.npy_intp>lw_weights_bytes(self.p)
        view = cnp.PyArray_SimpleNewFromData(1, &length, cnp.NPY_UINT8,
                                             <void *>lw_weights_blob(self.p))
        cnp.set_array_base(view, self)
        view.flags.writeable = False
        return view


cdef PackedWeights _create(qw, scale, blob, shape, window, weight_window, object signed, groups,
                           bint fine, bint winograd, name):
    """From arrays, or from a blob; all checked by the caller."""
    oc, kh, kw, icg = shape if len(shape) == 4 else (shape[0], 1, 1, shape[1])
    cdef PackedWeights w = PackedWeights.__new__(PackedWeights)
    cdef lw_status status
    cdef lw_weights_args a
    cdef const void *data = NULL
    cdef size_t length = 0
    a.qw, a.scale = NULL, NULL
    if blob is None:
        a.qw = cnp.PyArray_DATA(qw)
        a.scale = <const float *>cnp.PyArray_DATA(scale)
    else:
        data, length = cnp.PyArray_DATA(blob), blob.size
    a.oc, a.kh, a.kw, a.ic, a.groups = oc, kh, kw, icg * groups, groups
    a.window, a.weight_window = window or 0, weight_window or 0
    a.zero_point, a.fine, a.winograd = _zero_point(signed), fine, winograd
    w.p = lw_weights_create(_find(name), &a, data, length, &status)
    if w.p == NULL:
        _raise(status, f"weights of shape {shape}")
    w.shape, w.groups, w.memory = tuple(shape), groups, blob
    w.window = None if window is None else min(window, icg * groups)
    w.weight_window, w.signed, w.isa = weight_window, _signed(a.zero_point), name
    w.fine, w.winograd = fine, winograd
    return w


def pack_weights(qw, scale, window, *, weight_window=None, object signed=True, groups=1,
                 bint winograd=False):
    """Packs int8 weights for the instruction set in use.

    Parameters
    ----------
    qw : (N, K) or (OC, KH, KW, IC / groups) int8 or int16, C-contiguous
        Values from -127 to 127; int16: from -2032 to 2032, which takes two products of each, but in
        depthwise layers one.
    scale : float32
        (N,) or, with `weight_window`, (N, ceil(K / weight_window)) or
        (OC, KH, KW, ceil(IC / groups / weight_window)). Finite, >= 0.
    window : int or None
        Window of the activations, counted from channel 0 of all IC channels. None: the whole
        activation has one scale, which is a factor of `scale` (mode C).
    weight_window : int, optional
        Input channels that share a weight scale, counted inside the group's own channels.
    signed : bool or int
        Whether the activations are signed (zero point 128), or another zero point up to 127, which
        depthwise weights cannot have.
    groups : int
    winograd : bool
        3 x 3 weights as Winograd's F(2, 3) takes them (kernels/include/lw.h): qw is
        (4, OC, 3, IC) int8 and scale (4, OC), of kernel rows g[0], (g[0] + g[1] + g[2]) / 2,
        (g[0] - g[1] + g[2]) / 2 and -g[2]; `shape` becomes (OC, 3, 3, IC). No weight windows; the
        window is a multiple of 32 and divides IC, or IC is one of 16; at most 256.

    Returns
    -------
    PackedWeights

    Raises
    ------
    KernelError
        For a wrong dtype, shape, layout or value, or if a chunk (the run of channels inside one
        window of each kind) exceeds 512: 512 * 255 * 127 < 2**24 keeps int32 sums exact as float32.
        In mode C, if KH * KW * IC / groups exceeds 66311, beyond which int32 sums overflow. For
        int16 weights with weight windows or in mode C, or depthwise with more than 32 taps.
    """
    cdef bint fine = isinstance(qw, np.ndarray) and qw.dtype == np.int16
    cdef int most = LW_FINE_LEVELS if fine else 127
    _array("qw", qw, np.int16 if fine else np.int8, (2, 4))
    if int(qw.min()) < -most or int(qw.max()) > most:
        raise KernelError(f"qw holds {qw.min()} to {qw.max()}; expected values from -{most} to {most}")
    groups, window, weight_window, shape = _weights_layout(qw.shape, groups, window, weight_window)
    _check_kind(qw.shape, window, weight_window, _zero_point(signed), groups, fine)
    layer = qw.shape
    if winograd:
        layer, shape = _winograd_layout(qw.shape, window, weight_window, _zero_point(signed), groups, fine)
    _finite("scale", _shaped("scale", scale, np.float32, shape))
    if float(scale.min()) < 0:
        raise KernelError("scale holds negative numbers; expected scale >= 0")
    return _create(qw, scale, None, layer, window, weight_window, signed, groups, fine, winograd,
                   isa())


def map_weights(blob, shape, window, *, weight_window=None, object signed=True, groups=1,
                bint fine=False, bint winograd=False):
    """Weights that were packed before, used where they lie: nothing is copied.

    Parameters
    ----------
    blob : (nbytes,) uint8, C-contiguous, aligned to 64 bytes
        `PackedWeights.blob` of the instruction set in use, for example in a mapped file. It must not
        change while the weights are in use.
    shape : (N, K) or (OC, KH, KW, IC / groups)
    window, weight_window, signed, groups
        As they were given to `pack_weights`.
    fine, winograd : bool
        Whether they were int16, or transformed.

    Returns
    -------
    PackedWeights

    Raises
    ------
    KernelError
        For a blob of another length than these arguments need, or as `pack_weights`.
    """
    _array("blob", blob, np.uint8, 1)
    if blob.ctypes.data % LW_ALIGN:
        raise KernelError(f"blob begins at {blob.ctypes.data:#x}; expected a multiple of {LW_ALIGN}")
    if len(shape) not in (2, 4):
        raise KernelError(f"shape is {tuple(shape)}; expected (N, K) or (OC, KH, KW, IC / groups)")
    shape = _ints("shape", shape, len(shape), 1)
    groups, window, weight_window, _ = _weights_layout(shape, groups, window, weight_window)
    _check_kind(shape, window, weight_window, _zero_point(signed), groups, fine)
    if math.prod(shape) > blob.size:
        raise KernelError(f"blob has {blob.size} bytes for weights of shape {shape}")
    if winograd:
        transformed = (LW_LINES, shape[0], 3, shape[3]) if shape[1:3] == (3, 3) else shape
        _winograd_layout(transformed, window, weight_window, _zero_point(signed), groups, fine)
    return _create(None, None, blob, shape, window, weight_window, signed, groups, fine, winograd,
                   isa())


def _winograd_layout(shape, window, weight_window, int zero_point, groups, bint fine):
    """The shapes of the layer and of the scales of transformed weights."""
    ic = shape[len(shape) - 1]
    step = LW_LINE_STEP if window is None or window >= ic else 2 * LW_LINE_STEP
    if len(shape) != 4 or shape[0] != LW_LINES or shape[2] != 3:
        raise KernelError(f"transformed weights have shape {tuple(shape)}; expected "
                          f"({LW_LINES}, OC, 3, IC), of 3 x 3 kernels")
    if window is None or weight_window is not None or fine or groups != 1:
        raise KernelError(f"transformed weights with window {window}, weight_window {weight_window}, "
                          f"{groups} groups, int16={fine}; expected int8 weights of one group and "
                          "windows of the activations alone")
    window = min(window, ic)
    if ic % window or window % step or window > LW_LINE_WINDOW:
        raise KernelError(f"transformed weights of {ic} channels with window {window}; expected a "
                          f"multiple of {step} of at most {LW_LINE_WINDOW} that divides them")
    if zero_point not in (0, LW_MIDDLE):
        raise KernelError(f"zero point {zero_point} for transformed weights; expected signed=True or "
                          "signed=False")
    return (shape[1], 3, 3, ic), (LW_LINES, shape[1])


def _check_kind(shape, window, weight_window, int zero_point, groups, bint fine):
    """Whether the kernels have such products."""
    depthwise = groups > 1 and window is not None and shape[0] == groups and shape[len(shape) - 1] == 1
    taps = math.prod(shape[1:])
    if depthwise and zero_point not in (0, LW_MIDDLE) and taps <= LW_DEPTHWISE_TAPS:
        raise KernelError(f"zero point {zero_point} for depthwise weights; expected signed=True or "
                          "signed=False")
    if fine and (window is None or weight_window is not None):
        raise KernelError(f"int16 weights with window {window} and weight_window {weight_window}; "
                          "expected windows of the activations alone, or int8 weights")
    if fine and depthwise and taps > _MAX_FINE_TAPS:
        raise KernelError(f"int16 depthwise weights of {taps} taps; expected at most "
                          f"{_MAX_FINE_TAPS}, so that int32 sums cannot overflow")


_MAX_FINE_TAPS = _MAX_DIM // (LW_FINE_LEVELS * LW_DEPTHWISE_LEVELS)


def _weights_layout(shape, groups, window, weight_window):
    """The checked arguments, and the shape of the scales."""
    groups = _int("groups", groups, 1)
    oc, icg = shape[0], shape[len(shape) - 1]
    if oc % groups or (len(shape) == 2 and groups != 1):
        raise KernelError(f"groups is {groups} for weights of shape {tuple(shape)}; expected a "
                          f"divisor of {oc} output channels, and 1 for a matrix")
    if window is not None:
        window = _int("window", window, 1)
    scales = (oc,)
    if weight_window is not None:
        if window is None:
            raise KernelError(f"weight_window is {weight_window} but window is None; expected "
                              "windows of the activations too")
        weight_window = min(_int("weight_window", weight_window, 1), icg)
        scales = (*shape[:len(shape) - 1], (icg - 1) // weight_window + 1)
    depth = math.prod(shape[1:])
    if window is None and depth > LW_MAX_DEPTH:
        raise KernelError(f"weights of shape {tuple(shape)} add up {depth} products; expected at "
                          f"most {LW_MAX_DEPTH}, so that int32 sums cannot overflow")
    longest = min(window or icg, icg, weight_window or icg)
    if window is not None and longest > LW_MAX_CHUNK:
        raise KernelError(f"window {window} gives chunks of {longest} channels; expected at most "
                          f"{LW_MAX_CHUNK}, so that int32 sums are exact as float32")
    return groups, window, weight_window, scales

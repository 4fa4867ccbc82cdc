# Convolution: the bound operator and the plain functions.

cdef class Dense:
    """A convolution y = activation(conv(src, weights) + bias) that another `Conv` makes as it needs
    it: a depthwise one, which reads it in 16 bits, or one that adds it. It is not run by itself, and
    its result never exists as a whole.

    Parameters
    ----------
    src, weights, strides, pads, dilations, bias, activation, alpha, lo, hi, gemm
        As in `Conv`; one group. Ahead of a depthwise one, a result that is wider than one pixel, and
        "clip" from 0 to 2**-100..2**100 is fastest: the values have a bound.

    Attributes
    ----------
    shape : (N, OH, OW, OC)

    Raises
    ------
    KernelError
        For a wrong dtype, shape, layout or value.
    """
    cdef lw_conv_args a
    cdef QTensor src
    cdef PackedWeights weights
    cdef object bias
    cdef readonly tuple shape

    def __init__(self, QTensor src not None, PackedWeights weights not None, *, strides=(1, 1),
                 pads=(0, 0, 0, 0), dilations=(1, 1), bias=None, activation="none", alpha=0.0,
                 lo=-np.inf, hi=np.inf, gemm=None):
        _check_unbound(self.src is None)
        _check_source(src, weights, pads)
        self.shape = _geometry(&self.a, src.shape, weights, strides, pads, dilations)
        if weights.winograd:
            raise KernelError("a convolution that another one makes has transformed weights; expected "
                              "others")
        if weights.groups != 1:
            raise KernelError(f"a dense convolution that another one makes has {weights.groups} "
                              "groups; expected one")
        self.a.src = &src.t
        _set_bias(&self.a, bias, self.shape)
        _set_gemm(&self.a, gemm)
        _set_activation(&self.a, activation, alpha, lo, hi)
        self.src, self.weights, self.bias = src, weights, bias


cdef class Conv(Operator):
    """Bound operator: convolution or matrix product, with everything that follows it in one pass.

    y = activation(conv(src, weights) + bias + residual), stored as float32 in `dst`, quantized
    into `dst_q`, or both. A product (M, K) by (K, N) is a convolution over a QTensor of shape
    (1, 1, M, K). Depthwise weights have a kernel of their own. Nothing is allocated by a call.

    Parameters
    ----------
    src : QTensor or Dense
        The window and signedness of a tensor are those that the weights were packed for. What a
        `Dense` makes has none; weights are depthwise then, strides 1 or 2 and dilations 1.
    weights : PackedWeights
    strides, dilations : (int, int)
    pads : (top, left, bottom, right)
        At most the halo of src.
    bias : (OC,) float32, optional
        Copied.
    residual, dst : (N, OH, OW, OC) float32, optional
        Channels adjacent; other axes may be strided. The residual may be a QTensor instead, whose
        window is a power of two of 16 or more, or all its channels. It may lie where the result of
        its own kind goes, if shape, window and halo are the same. Or a `Dense` without activation,
        neither convolution being depthwise or in mode C.
    activation : {"none", "relu", "clip", "leaky", "hardswish", "silu", "gelu"}
    alpha, lo, hi : float
    dst_q : QTensor, optional
    pool : Pool
    max_pool : MaxPool, optional
        Behind the activation; `dst` and `dst_q` then hold the maxima. One group, several columns,
        and no `Dense` or residual.
    gemm : int, optional
        Address of MKL's cblas_gemm_s8u8s32 (32 bit integers): it does the integer products, and the
        result keeps the same bits. Depthwise layers, which are none, keep their own kernel. Check it
        with `check_gemm`.

    Attributes
    ----------
    shape : (N, OH, OW, OC)
        Of the result.

    Raises
    ------
    KernelError
        When bound, for a wrong dtype, shape, layout or value; when called, if a value to be
        quantized is NaN or infinite.
    """
    cdef lw_conv *p
    cdef QTensor dst_q
    cdef object src
    cdef PackedWeights weights
    cdef object residual, dst
    cdef readonly tuple shape

    def __dealloc__(self):
        lw_conv_destroy(self.p)

    def __init__(self, src not None, PackedWeights weights not None, *, strides=(1, 1),
                 pads=(0, 0, 0, 0), dilations=(1, 1), bias=None, residual=None,
                 activation="none", alpha=0.0, lo=-np.inf, hi=np.inf, dst=None,
                 QTensor dst_q=None, MaxPool max_pool=None, Pool pool not None, gemm=None):
        _check_unbound(self.p == NULL)
        cdef lw_conv_args a
        cdef lw_status status
        memset(&a, 0, sizeof(a))
        self.shape = _geometry(&a, src.shape, weights, strides, pads, dilations)
        if isinstance(src, Dense):
            _check_fusable(&a, src, weights, pads)
            a.producer = &(<Dense>src).a
            inner = (<Dense>src).src
        else:
            _check_source(src, weights, pads)
            a.src = &(<QTensor>src).t
            inner = src
        _set_bias(&a, bias, self.shape)
        if max_pool is not None:
            self.shape = _max_pool(&a, max_pool, src, weights, residual, self.shape)
        if isinstance(residual, Dense):
            _check_addable(residual, self.shape, weights)
            a.shortcut = &(<Dense>residual).a
        elif isinstance(residual, QTensor):
            a.residual_q = _residual(residual, self.shape)
        elif residual is not None:
            _strided("residual", residual, self.shape)
            a.residual = <const float *>cnp.PyArray_DATA(residual)
            for i in range(3):
                a.residual_stride[i] = residual.strides[i] // 4
        if dst is None and dst_q is None:
            raise KernelError("conv has neither dst nor dst_q; expected at least one")
        if dst is not None:
            _writable("dst", _strided("dst", dst, self.shape))
            a.dst = <float *>cnp.PyArray_DATA(dst)
            for i in range(3):
                a.dst_stride[i] = dst.strides[i] // 4
        if dst_q is not None:
            made = self.shape[:3] + (self.shape[3] * (2 if dst_q.t.rests else 1),)
            if dst_q.shape != made:
                raise KernelError(f"dst_q has shape {dst_q.shape}; expected {made}")
            _windowed("dst_q", dst_q)
            a.dst_q = &dst_q.t
        _check_overlap(inner, dst, dst_q)
        if a.shortcut != NULL:
            _check_overlap((<Dense>residual).src, dst, dst_q)
        if a.residual_q != NULL:
            _check_overlap(residual, dst, None if _lie_alike(residual, dst_q) else dst_q)
        _set_activation(&a, activation, alpha, lo, hi)
        _set_gemm(&a, gemm)
        if weights.winograd:
            _check_lines(&a, src, residual, strides, dilations, max_pool)
        self.src, self.weights = src, weights
        self.residual, self.dst, self.dst_q = residual, dst, dst_q
        self.p = lw_conv_create(&a, lw_pool_threads(pool.p), &status)
        if self.p == NULL:
            _raise(status, f"conv of {src.shape} with weights {weights.shape}")
        self.pool = pool

    cdef lw_status run(self) noexcept nogil:
        return lw_conv_run(self.p, self.pool.p)

    cdef object failure(self):
        return KernelError("the output of a convolution holds NaN or infinity, which has no "
                           "int8 value; check the scales, bias and residual")


cdef _check_lines(const lw_conv_args *a, src, residual, strides, dilations, MaxPool max_pool):
    """Whether transformed weights can have such a layer."""
    if isinstance(src, Dense) or isinstance(residual, Dense):
        raise KernelError("a convolution with transformed weights reads or adds another convolution; "
                          "expected tensors")
    if tuple(strides) != (1, 1) or tuple(dilations) != (1, 1) or a.ow < 2:
        raise KernelError(f"transformed weights with strides {strides}, dilations {dilations} and "
                          f"{a.ow} columns; expected 1, 1 and several")
    if max_pool is None:
        return
    m = max_pool.m
    floored = a.activation == LW_RELU or (a.activation == LW_CLIP and a.lo >= 0 and a.hi >= 0)
    if not floored or (m.kh, m.kw, m.stride_h, m.stride_w, m.pad_top, m.pad_left) != (2, 2, 2, 2, 0, 0):
        raise KernelError("the maximum behind a convolution with transformed weights is of 2 x 2 at "
                          "stride 2 without padding behind an activation that has no values below 0")


cdef const lw_tensor *_residual(QTensor residual, shape) except NULL:
    if residual.shape != shape:
        raise KernelError(f"residual has shape {residual.shape}; expected {shape}")
    _whole("residual", residual)
    if lw_residual_shift(&residual.t) < 0:
        raise KernelError(f"residual has window {residual.window}; expected a power of two of 16 or "
                          f"more, or all {shape[3]} channels")
    return &residual.t


cdef _check_addable(Dense residual, tuple shape, PackedWeights weights):
    if residual.shape != shape:
        raise KernelError(f"residual has shape {residual.shape}; expected {shape}")
    if residual.a.activation != LW_NONE:
        raise KernelError("residual is a convolution with an activation; expected none")
    if weights.groups != 1 or weights.window is None or residual.weights.window is None or (
            lw_weights_is_depthwise(weights.p) or lw_weights_is_depthwise(residual.weights.p)):
        raise KernelError("a convolution that adds another has several groups or one scale for an "
                          "image; expected one group and windows of both")


cdef bint _lie_alike(QTensor a, QTensor b):
    """Whether both are one tensor's memory, pixel by pixel and window by window."""
    return b is not None and a.t.q == b.t.q and a.t.scale == b.t.scale and (
        a.shape, a.t.window, a.halo, a.t.pixel_bytes, a.t.pixel_windows) == (
        b.shape, b.t.window, b.halo, b.t.pixel_bytes, b.t.pixel_windows)


def _check_overlap(QTensor src, dst, QTensor dst_q):
    overlap = dst_q is not None and src.overlaps(dst_q)
    if dst is not None:
        overlap = overlap or np.may_share_memory(src.memory, dst)
        overlap = overlap or (dst_q is not None and np.may_share_memory(dst_q.memory, dst))
    if overlap:
        raise KernelError("src, dst and dst_q overlap in memory; expected separate arrays")


def _check_source(QTensor src not None, PackedWeights weights, pads):
    if src.window != weights.window or src.signed != weights.signed:
        raise KernelError(
            f"src has window {src.window}, signed={src.signed}; expected window "
            f"{weights.window}, signed={weights.signed} as the weights were packed")
    if any(p > h for p, h in zip(pads, src.halo)):
        raise KernelError(f"pads {pads} exceed the halo {src.halo} of src; make a larger halo")


cdef _check_fusable(const lw_conv_args *a, Dense src, PackedWeights weights, pads):
    if src.shape[2] < 2:
        raise KernelError(f"a dense convolution ahead of a depthwise one has a result of shape "
                          f"{src.shape}; expected several columns")
    strides, dilations = (a.stride_h, a.stride_w), (a.dilation_h, a.dilation_w)
    if not lw_weights_is_depthwise(weights.p) or max(strides) > 2 or max(dilations) > 1 or max(
            pads) >= min(weights.shape[1:3]):
        raise KernelError(
            f"a convolution behind a dense one has weights {weights.shape} in {weights.groups} "
            f"groups, strides {strides}, dilations {dilations} and pads {pads}; expected "
            "depthwise weights, strides of 1 or 2, dilations of 1 and pads below the kernel's size")


cdef tuple _geometry(lw_conv_args *a, tuple source, PackedWeights weights, strides, pads, dilations):
    """Sets the fields of weights and geometry; returns the shape of the result."""
    strides, dilations = _ints("strides", strides, 2, 1), _ints("dilations", dilations, 2, 1)
    pads = _ints("pads", pads, 4, 0)
    shape = _conv_shape(source, weights, strides, pads, dilations)
    a.weights = weights.p
    a.oh, a.ow = shape[1], shape[2]
    a.stride_h, a.stride_w = strides
    a.pad_top, a.pad_left = pads[0], pads[1]
    a.dilation_h, a.dilation_w = dilations
    return shape


cdef _set_bias(lw_conv_args *a, bias, tuple shape):
    if bias is not None:
        _shaped("bias", bias, np.float32, (shape[3],))
        a.bias = <const float *>cnp.PyArray_DATA(bias)


cdef _set_activation(lw_conv_args *a, activation, alpha, lo, hi):
    if activation not in _ACTIVATIONS:
        raise KernelError(f"activation is {activation!r}; expected one of {_ACTIVATIONS}")
    a.activation = <lw_activation><int>_ACTIVATIONS.index(activation)
    a.alpha, a.lo, a.hi = alpha, lo, hi


cdef _set_gemm(lw_conv_args *a, gemm):
    if gemm is not None:
        a.gemm = <lw_gemm *><uintptr_t>_int("gemm", gemm, 1, 2**63 - 1)


cdef tuple _conv_shape(tuple source, PackedWeights weights, strides, pads, dilations):
    oc, kh, kw, icg = weights.shape if len(weights.shape) == 4 else (
        weights.shape[0], 1, 1, weights.shape[1])
    n, h, w, c = source
    if c != icg * weights.groups:
        raise KernelError(f"src has {c} channels; expected {icg * weights.groups} for "
                          f"weights of shape {weights.shape} in {weights.groups} groups")
    high = h + pads[0] + pads[2] - (kh - 1) * dilations[0]
    wide = w + pads[1] + pads[3] - (kw - 1) * dilations[1]
    if high < 1 or wide < 1:
        raise KernelError(f"kernel {kh}x{kw} with dilations {dilations} exceeds src {source} "
                          f"with pads {pads}")
    return n, (high - 1) // strides[0] + 1, (wide - 1) // strides[1] + 1, oc


def qconv2d(q, scale, PackedWeights weights not None, bias=None, *, strides=(1, 1),
            pads=(0, 0, 0, 0), dilations=(1, 1), residual=None, activation="none", alpha=0.0,
            lo=-np.inf, hi=np.inf, threads=1, out=None, gemm=None):
    """Convolution of quantized activations, float32 out: y = activation(conv + bias + residual).

    Copies its input and plans anew at every call; programs bind a `Conv` once instead.

    Parameters
    ----------
    q : (N, H, W, C) uint8, C-contiguous
    scale : (N, H, W, ceil(C / window)) float32, or None in mode C
        Finite, >= 0.
    weights : PackedWeights
    bias : (OC,) float32, optional
    strides, dilations : (int, int)
    pads : (top, left, bottom, right)
    residual : (N, OH, OW, OC) float32, optional
    activation : {"none", "relu", "clip", "leaky", "hardswish", "silu", "gelu"}
    alpha, lo, hi : float
        Slope of "leaky"; bounds of "clip".
    threads : int
    out : (N, OH, OW, OC) float32, optional
    gemm : int, optional
        As in `Conv`.

    Returns
    -------
    (N, OH, OW, OC) float32

    Raises
    ------
    KernelError
        For a wrong dtype, shape, layout or value.
    """
    _array("q", q, np.uint8, 4)
    src = QTensor(q.shape, weights.window, weights.signed, _ints("pads", pads, 4, 0))
    if (scale is None) != (weights.window is None):
        raise KernelError(f"scale is {type(scale).__name__} for weights of mode {weights.mode}; "
                          "expected None in mode C and an array otherwise")
    src.q[...] = q
    if scale is not None:
        _shaped("scale", scale, np.float32, src.scale.shape)
        if not (np.isfinite(scale).all() and float(scale.min()) >= 0):
            raise KernelError("scale holds negative or non-finite numbers; expected scale >= 0")
        src.scale[...] = scale
    if out is None:
        out = np.empty(_conv_shape(src.shape, weights, _ints("strides", strides, 2, 1), pads,
                                   _ints("dilations", dilations, 2, 1)), np.float32)
    Conv(src, weights, strides=strides, pads=pads, dilations=dilations, bias=bias,
         residual=residual, activation=activation, alpha=alpha, lo=lo, hi=hi, dst=out,
         pool=_pool(threads), gemm=gemm)()
    return out


def qgemm(q, scale, PackedWeights weights not None, bias=None, *, residual=None,
          activation="none", alpha=0.0, lo=-np.inf, hi=np.inf, threads=1, out=None, gemm=None):
    """Product of quantized activations (M, K) and weights (N, K), float32 out (M, N).

    Parameters
    ----------
    q : (M, K) uint8, C-contiguous
    scale : (M, ceil(K / window)) float32, or None in mode C
    weights : PackedWeights
        Of a matrix (N, K).
    bias : (N,) float32, optional
    residual : (M, N) float32, optional
    activation, alpha, lo, hi, threads, out, gemm
        As in `qconv2d`.

    Returns
    -------
    (M, N) float32

    Raises
    ------
    KernelError
        For a wrong dtype, shape, layout or value.
    """
    _array("q", q, np.uint8, 2)
    if scale is not None:
        scale = _array("scale", scale, np.float32, 2)[None, None]
    if len(weights.shape) != 2:
        raise KernelError(f"weights have shape {weights.shape}; expected a packed matrix (N, K)")
    if residual is not None:
        residual = _array("residual", residual, np.float32, 2)[None, None]
    if out is not None:
        out = _array("out", out, np.float32, 2)[None, None]
    y = qconv2d(q[None, None], scale, weights, bias, residual=residual,
                activation=activation, alpha=alpha, lo=lo, hi=hi, threads=threads, out=out,
                gemm=gemm)
    return y[0, 0]

# Quantized rows and tensors.

def quantize_windows(x, window, object signed=True, *, out=None, threads=1):
    """Quantizes the last axis in windows, each with its own scale.

    With m = max abs(x) over a window: scale = m / L and q = z + rint(x * (L / m)), ties to even;
    L, z = 127, 128 if signed, else 255, 0, where negative x give 0 and do not count in m. With a
    number for z, L = z and positive x count in m as x * (z / (255 - z)). A window with m < 2**-100
    has scale 0 and q = z.

    Parameters
    ----------
    x : (..., K) float32, C-contiguous
    window : int
        Elements along K that share a scale; the last window may be shorter.
    signed : bool or int
        False for x known to be >= 0; z, from 1 to 127, where few x are below 0, and small.
    out : pair of arrays, optional
        Where to write q and scale.
    threads : int

    Returns
    -------
    q : (..., K) uint8
    scale : (..., ceil(K / window)) float32

    Raises
    ------
    KernelError
        For a wrong dtype, shape or layout, window < 1, or an x that holds NaN or infinity.

    Notes
    -----
    Dynamic per-block scales as in Dai et al., VS-Quant, MLSys 2021.
    """
    _array("x", x, np.float32, tuple(range(1, 33)))
    cdef int64_t c = x.shape[x.ndim - 1], rows = x.size // c, w = _int("window", window, 1)
    scale_shape = x.shape[:-1] + ((c - 1) // w + 1,)
    if out is None:
        out = np.empty(x.shape, np.uint8), np.empty(scale_shape, np.float32)
    q = _writable("out[0]", _shaped("out[0]", out[0], np.uint8, x.shape))
    scale = _writable("out[1]", _shaped("out[1]", out[1], np.float32, scale_shape))
    cdef Pool pool = _pool(threads)
    cdef int zero_point = _zero_point(signed)
    cdef const float *xp = <const float *>cnp.PyArray_DATA(x)
    cdef uint8_t *qp = <uint8_t *>cnp.PyArray_DATA(q)
    cdef float *sp = <float *>cnp.PyArray_DATA(scale)
    cdef lw_status status
    cdef const lw_isa *current = _current
    with nogil:
        status = lw_quantize_rows(current, pool.p, xp, rows, c, w, zero_point, qp, sp)
    if status != LW_OK:
        raise _where_nonfinite("x", x)
    return q, scale


def dequantize_windows(q, scale, window, object signed):
    """Inverse of `quantize_windows`: scale * (q - z).

    Parameters
    ----------
    q : (..., K) uint8
    scale : (..., ceil(K / window)) float32
    window : int
    signed : bool or int

    Returns
    -------
    x : (..., K) float32
    """
    _array("q", q, np.uint8, tuple(range(1, 33)))
    cdef int64_t c = q.shape[q.ndim - 1], rows = q.size // c, w = _int("window", window, 1)
    _shaped("scale", scale, np.float32, q.shape[:-1] + ((c - 1) // w + 1,))
    x = np.empty(q.shape, np.float32)
    lw_dequantize_rows(<const uint8_t *>cnp.PyArray_DATA(q),
                       <const float *>cnp.PyArray_DATA(scale), rows, c, w,
                       _zero_point(signed), <float *>cnp.PyArray_DATA(x))
    return x


cdef class QTensor:
    cdef lw_tensor t
    cdef readonly object q, scale, image_scale, memory
    cdef int64_t first  # channel of the whole tensor

    """Quantized activations, NHWC, with a border of zeros around every image.

    Parameters
    ----------
    shape : (N, H, W, C)
    window : int or None
        Channels that share a scale, counted from channel 0; at most C is used. None: a whole image
        has one scale (mode C).
    signed : bool or int
        Zero point 128 if true, 0 if false, else the number.
    halo : (top, left, bottom, right)
        Pixels of border, at least the padding of every consumer.
    memory : (nbytes,) uint8, optional
        Where to live, aligned to 64 bytes, at least `nbytes_for(shape, window, halo)` long. Other
        tensors may use the same memory at other times: producers then write the border again.
    border : C values of uint8, optional
        Border pixel of a tensor of one scale and at most four channels; default: the zero point.
    rests : bool
        The second half of the channels holds what rounding takes off the first, in steps of a
        sixteenth: q = z + rint(16 (v - rint(v))) for a v in levels. Only a `Conv` makes it, of half as
        many output channels. One window, and a z of 8 to 127.

    Attributes
    ----------
    q : (N, H, W, C) uint8
        View without the border.
    scale : (N, H, W, ceil(C / window)) float32, or None
        View without the border.
    image_scale : (N,) float32, or None
        In mode C: one scale per image. 1 where the scales of the weights contain it.
    memory : (nbytes,) uint8
        All of it, also of a range of channels.
    """
    @staticmethod
    def nbytes_for(shape, window, halo=(0, 0, 0, 0)):
        """Bytes of memory that such a tensor needs."""
        return _tensor_layout(shape, window, halo)[2]

    def __init__(self, shape, window, object signed, halo=(0, 0, 0, 0), memory=None, *,
                 border=None, bint rests=False):
        _check_unbound(self.t.q == NULL)
        n, h, w, c = _ints("shape", shape, 4, 1)
        top, left, bottom, right = _ints("halo", halo, 4, 0)
        q_bytes, windows, nbytes = _tensor_layout(shape, window, halo)
        self.t.shared = memory is not None
        if memory is None:
            memory = _aligned(nbytes)
        _writable("memory", _array("memory", memory, np.uint8, 1))
        if memory.size < nbytes or memory.ctypes.data % LW_ALIGN:
            raise KernelError(f"memory has {memory.size} bytes at {memory.ctypes.data:#x}; "
                              f"expected at least {nbytes}, aligned to {LW_ALIGN}")
        high, wide, pixel = top + h + bottom, left + w + right, _pixel_bytes(c, window)
        plane = memory[:n * high * wide * pixel].reshape(n, high, wide, pixel)
        zero_point = _zero_point(signed)
        least = LW_REST // 2
        if rests and (c % 2 or window is None or window < c or not least <= zero_point < LW_MIDDLE):
            raise KernelError(f"rests of {c} channels, window {window} and zero point {zero_point};"
                              f" expected two halves, one window and {least}..{LW_MIDDLE - 1}")
        pattern = np.full(min(pixel, 4), zero_point, np.uint8)
        if border is not None:
            if window is not None or c > 4:
                raise KernelError(f"border is given for {c} channels and window {window}; expected "
                                  "at most 4 channels and window None")
            pattern[:c] = [_int("border", v, 0, 255) for v in _ints("border", border, c, 0)]
        plane[...] = np.tile(pattern, pixel // pattern.size)
        for i in range(pattern.size):
            self.t.border[i] = pattern[i]
        self.memory = memory
        self.q = plane[:, top:top + h, left:left + w, :c]
        if windows:
            scales = memory[q_bytes:q_bytes + n * high * wide * windows * 4].view(np.float32)
            scales[...] = 0.0
            scales = scales.reshape(n, high, wide, windows)
            self.scale = scales[:, top:top + h, left:left + w]
            self.t.scale = <float *>cnp.PyArray_DATA(scales)
        else:
            self.image_scale = memory[q_bytes:q_bytes + n * 4].view(np.float32)
            self.image_scale[...] = 1.0
            self.t.image_scale = <float *>cnp.PyArray_DATA(self.image_scale)
        self.t.q = <uint8_t *>cnp.PyArray_DATA(plane)
        self.t.n, self.t.h, self.t.w, self.t.c = n, h, w, c
        self.t.top, self.t.left, self.t.bottom, self.t.right = top, left, bottom, right
        self.t.pixel_bytes, self.t.pixel_windows, self.t.windows = pixel, windows, windows
        self.t.window = c if window is None else min(window, c)
        self.t.zero_point, self.t.rests = zero_point, rests

    def channels(self, c0, c1):
        """Channels [c0, c1) as a tensor of its own that shares this memory.

        Parts of a concatenation are written in place: whoever makes a part writes the border of
        its own channels only.

        Parameters
        ----------
        c0, c1 : int
            Multiples of the window; c1 may also be the last channel's end.

        Returns
        -------
        QTensor

        Raises
        ------
        KernelError
            If the range is empty, exceeds the channels, or cuts a window.
        """
        _check_bound(self.t.q != NULL)
        _windowed("the tensor", self)
        cdef QTensor part = QTensor.__new__(QTensor)
        cdef int64_t start = _int("c0", c0, 0, self.t.c - 1)
        cdef int64_t end = _int("c1", c1, start + 1, self.t.c), window = self.t.window
        if start % window or (end % window and end != self.t.c):
            raise KernelError(f"channels {start} to {end} cut a window of {window}; expected "
                              f"multiples of {window}, or the end at {self.t.c}")
        part.t = self.t
        part.t.q += start
        part.t.scale += start // window
        part.t.c = end - start
        part.t.windows = (part.t.c - 1) // window + 1
        part.t.window = min(window, part.t.c)
        part.first = self.first + start
        part.memory = self.memory
        part.q = self.q[..., start:end]
        part.scale = self.scale[..., start // window:start // window + part.t.windows]
        return part

    def images(self, count):
        """All of its bytes image by image, border included.

        Parameters
        ----------
        count : int
            Of the images; N, or what one of several rows of pixels stands for.

        Returns
        -------
        list of (count, nbytes) uint8 views

        Raises
        ------
        KernelError
            If the number does not divide the tensor, or it is a range of channels.
        """
        _check_bound(self.t.q != NULL)
        n, h, w, c = self.shape
        q_bytes, windows, _ = _tensor_layout(self.shape, self.window, self.halo)
        pixels = n * (h + self.t.top + self.t.bottom) * (w + self.t.left + self.t.right)
        scales = pixels * windows or n
        if pixels % _int("count", count, 1) or scales % count or self.t.pixel_windows != windows:
            raise KernelError(f"a tensor of shape {self.shape} has no {count} images of its own")
        q = self.memory[:pixels * self.t.pixel_bytes]
        scale = self.memory[q_bytes:q_bytes + scales * 4]
        return [q.reshape(count, -1), scale.reshape(count, -1)]

    @property
    def shape(self):
        return self.t.n, self.t.h, self.t.w, self.t.c

    @property
    def window(self):
        return None if self.scale is None else self.t.window

    @property
    def signed(self):
        return _signed(self.t.zero_point)

    @property
    def halo(self):
        return self.t.top, self.t.left, self.t.bottom, self.t.right

    @property
    def nbytes(self):
        """Bytes of the memory in use; of all channels."""
        _check_bound(self.t.q != NULL)
        n, h, w, _ = self.shape
        pixels = n * (h + self.t.top + self.t.bottom) * (w + self.t.left + self.t.right)
        return _tensor_bytes(pixels, self.t.pixel_bytes, self.t.pixel_windows, n)[1]

    cdef bint overlaps(self, QTensor other):
        """Whether the two share an element; ranges of channels of one tensor may not."""
        cdef lw_tensor *a = &self.t
        cdef lw_tensor *b = &other.t
        if (a.q - self.first != b.q - other.first or a.pixel_bytes != b.pixel_bytes
                or a.pixel_windows != b.pixel_windows):
            return np.may_share_memory(self.memory, other.memory)
        return self.first < other.first + b.c and other.first < self.first + a.c


def _tensor_layout(shape, window, halo):
    """Bytes of q with slack, windows of a pixel, bytes of all."""
    n, h, w, c = _ints("shape", shape, 4, 1)
    top, left, bottom, right = _ints("halo", halo, 4, 0)
    windows = 0 if window is None else (c - 1) // _int("window", window, 1) + 1
    pixels = n * (h + top + bottom) * (w + left + right)
    q_bytes, nbytes = _tensor_bytes(pixels, _pixel_bytes(c, window), windows, n)
    if nbytes > _MAX_BYTES:
        raise KernelError(f"tensor of shape {tuple(shape)} with halo {tuple(halo)} needs {nbytes} "
                          f"bytes; expected at most {_MAX_BYTES}")
    return q_bytes, windows, nbytes


def _whole(name, QTensor x):
    if x.t.rests:
        raise KernelError(f"{name} has rests, which only a Conv makes")
    return _windowed(name, x)


def _windowed(name, QTensor x):
    if x.scale is None:
        raise KernelError(f"{name} has one scale for the whole tensor; expected windows")
    return x


def _pixel_bytes(c, window):
    """Bytes from one pixel to the next."""
    return c if window is None and c < 4 else (c + 3) // 4 * 4


def _tensor_bytes(pixels, pixel_bytes, windows, images):
    """Bytes of q with slack, bytes of all."""
    q_bytes = (pixels * pixel_bytes + LW_SLACK + LW_ALIGN - 1) // LW_ALIGN * LW_ALIGN
    scales = pixels * windows or images
    return q_bytes, (q_bytes + scales * 4 + LW_ALIGN - 1) // LW_ALIGN * LW_ALIGN


def _aligned(nbytes):
    raw = np.empty(nbytes + LW_ALIGN, np.uint8)
    start = -raw.ctypes.data % LW_ALIGN
    return raw[start:start + nbytes]

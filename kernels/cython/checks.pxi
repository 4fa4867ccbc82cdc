# Checks of arguments; every message says what was given and what was expected.

_ACTIVATIONS = ("none", "relu", "clip", "leaky", "hardswish", "silu", "gelu")
_MAX_BYTES = 1 << 46  # of one array; keeps all products of sizes inside int64
_MAX_DIM = 2**31 - 1


def _int(name, value, low, high=_MAX_DIM):
    number = operator.index(value)
    if not low <= number <= high:
        raise KernelError(f"{name} is {number}; expected {low} to {high}")
    return number


def _ints(name, values, count, low):
    numbers = tuple(values)
    if len(numbers) != count:
        raise KernelError(f"{name} has {len(numbers)} numbers; expected {count}")
    return tuple(_int(name, v, low) for v in numbers)


def _zero_point(object signed):
    """Of what is called signed: 128 for True, 0 for False, else the number itself."""
    if isinstance(signed, (bool, np.bool_)):
        return LW_MIDDLE if signed else 0
    return _int("signed", signed, 0, LW_MIDDLE)


def _signed(zero_point):
    """Back from `_zero_point`."""
    return zero_point == LW_MIDDLE if zero_point in (0, LW_MIDDLE) else zero_point


def _array(name, x, dtype, ndim):
    """Checks a C-contiguous, aligned, native, non-empty array."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} is {type(x).__name__}; expected numpy.ndarray")
    if x.dtype != dtype:
        raise KernelError(f"{name} has dtype {x.dtype}; expected {np.dtype(dtype)}")
    if x.ndim not in (ndim if isinstance(ndim, tuple) else (ndim,)):
        raise KernelError(f"{name} has shape {x.shape}; expected {ndim} dimensions")
    if x.size == 0:
        raise KernelError(f"{name} has shape {x.shape}; expected no dimension of size 0")
    if not (x.flags.c_contiguous and x.flags.aligned):
        raise KernelError(f"{name} is not C-contiguous; use numpy.ascontiguousarray({name})")
    return x


def _shaped(name, x, dtype, shape):
    _array(name, x, dtype, len(shape))
    if x.shape != tuple(shape):
        raise KernelError(f"{name} has shape {x.shape}; expected {tuple(shape)}")
    return x


def _writable(name, x):
    if not x.flags.writeable:
        raise KernelError(f"{name} is read-only; expected an array to write to")
    return x


def _finite(name, x):
    if not np.isfinite(x).all():
        raise KernelError(f"{name} holds NaN or infinity; expected finite numbers")
    return x


def _strided(name, x, shape):
    """Checks float32 NHWC whose channels are adjacent; other axes may be strided."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} is {type(x).__name__}; expected numpy.ndarray")
    if x.dtype != np.float32 or x.shape != tuple(shape):
        raise KernelError(
            f"{name} is {x.dtype} of shape {x.shape}; expected float32 of shape {tuple(shape)}")
    if (x.shape[3] > 1 and x.strides[3] != 4) or any(s % 4 for s in x.strides):
        raise KernelError(f"{name} has byte strides {x.strides}; expected adjacent channels")
    if not x.flags.aligned:
        raise KernelError(f"{name} is not aligned; expected an array aligned to 4 bytes")
    return x


def _where_nonfinite(name, x):
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
    return KernelError(f"{name} holds NaN or infinity at {index}; expected finite numbers")


cdef _check_bound(bint bound):
    if not bound:
        raise KernelError("the object was made without its constructor; make it by calling its class")


cdef _check_unbound(bint unbound):
    if not unbound:
        raise KernelError("the object is already bound; make a new one")


cdef _raise(lw_status status, what):
    if status == LW_NOMEM:
        raise MemoryError(f"{what}: out of memory")
    raise KernelError(f"{what}: a panel of packed weights or a kernel window exceeds 2^31 bytes")

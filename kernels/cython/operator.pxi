# What all bound operators share.

cdef class Operator:
    """Bound to its arrays once, executed by every call.

    Raises
    ------
    KernelError
        When called, if a value to be quantized is NaN or infinite.
    """
    cdef Pool pool  # set last: whether it is bound

    cdef lw_status run(self) noexcept nogil:
        return LW_INVALID

    cdef object failure(self):
        """What to raise after a run that did not give LW_OK."""
        return KernelError("an operator failed")

    def __call__(self):
        cdef lw_status status
        _check_bound(self.pool is not None)
        with nogil:
            status = self.run()
        if status != LW_OK:
            raise self.failure()


cdef class Chain(Operator):
    """Operators of one pool, called one after the other without a way back to Python.

    Parameters
    ----------
    operators : at least one

    Raises
    ------
    KernelError
        When made, for none, or for different pools; when called, what an operator raises.
    """
    cdef tuple operators
    cdef object addresses
    cdef uintptr_t *call
    cdef Py_ssize_t count, failed

    def __init__(self, operators):
        _check_unbound(self.pool is None)
        self.operators = tuple(operators)
        self.count = len(self.operators)
        if not self.count:
            raise KernelError("a chain has no operators; expected at least one")
        pools = [_pool_of(one) for one in self.operators]
        if any(pool is not pools[0] for pool in pools):
            raise KernelError("the operators of a chain have different pools; expected one pool")
        self.addresses = np.array([<uintptr_t><void *>one for one in self.operators], np.uintp)
        self.call = <uintptr_t *>cnp.PyArray_DATA(self.addresses)
        self.pool = pools[0]

    cdef lw_status run(self) noexcept nogil:
        cdef lw_status status
        cdef Py_ssize_t k
        for k in range(self.count):
            status = (<Operator><void *>self.call[k]).run()
            if status != LW_OK:
                self.failed = k
                return status
        return LW_OK

    cdef object failure(self):
        return (<Operator>self.operators[self.failed]).failure()


def _pool_of(Operator one not None):
    _check_bound(one.pool is not None)
    return one.pool

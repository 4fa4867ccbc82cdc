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

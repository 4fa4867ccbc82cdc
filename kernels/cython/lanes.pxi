# Whole images of a batch, each through many operators by one thread.

cdef class Lanes:
    """The same operator, usually a `Chain`, for several threads, bound to memory of each thread's own
    for one image: a thread takes an image through all of it before its next.

    Nothing waits between two operators of a chain, and what one writes is in the thread's own cache
    when the next one reads it. Nothing is allocated by a call.

    Parameters
    ----------
    operators : one for each thread of the pool, itself of a pool of one thread
    inputs : for each thread, where its operator expects an image: (nbytes,) uint8 arrays
    outputs : for each thread, what it leaves of it: (nbytes,) uint8 arrays
    results : where that goes, of all images: (images, nbytes) uint8 arrays, one for each output
    pool : Pool

    Raises
    ------
    KernelError
        When bound, for a wrong number, shape or layout; when called, what an operator raises.
    """
    cdef Pool pool
    cdef tuple operators, inputs, outputs, results
    cdef object tables, failed
    cdef Py_ssize_t reads, writes
    cdef uintptr_t *call      # (threads)
    cdef uintptr_t *place     # (threads, reads + writes), in the memory of a thread
    cdef uintptr_t *batch     # (reads + writes), of all images
    cdef uintptr_t *size      # (reads + writes), bytes of an image
    cdef int64_t *failure     # (threads): whether the operator failed

    def __init__(self, operators, inputs, outputs, results, Pool pool not None):
        _check_unbound(self.pool is None)
        self.operators, self.results = tuple(operators), tuple(results)
        self.inputs, self.outputs = tuple(map(tuple, inputs)), tuple(map(tuple, outputs))
        for one in self.operators:
            if _pool_of(one).threads != 1:
                raise KernelError(f"an operator of a lane has {_pool_of(one).threads} threads; expected "
                                  "a pool of one")
        for lanes in ([[one] for one in self.operators], self.inputs, self.outputs):
            if len(lanes) != pool.threads or len(set(map(len, lanes))) != 1:
                raise KernelError(f"lanes of {[len(lane) for lane in lanes]} things; expected as "
                                  f"many for each of {pool.threads} threads")
        places = [[*i, *o] for i, o in zip(self.inputs, self.outputs)]
        sizes = [_writable("a place", _array("a place", x, np.uint8, 1)).size for x in places[0]]
        self.reads, self.writes = len(self.inputs[0]), len(self.results)
        for lane in places:
            for x, size in zip(lane, sizes):
                _shaped("a place", x, np.uint8, (size,))
        if not self.results or len(self.outputs[0]) != self.writes:
            raise KernelError(f"{self.writes} results; expected one for each output, at least one")
        for y, size in zip(self.results, sizes[self.reads:]):
            _writable("a result", _shaped("a result", y, np.uint8, (len(self.results[0]), size)))
        batch = [0] * self.reads + [y.ctypes.data for y in self.results]
        self.tables = [
            np.array(numbers, np.uintp).reshape(-1)
            for numbers in ([<uintptr_t><void *>one for one in self.operators],
                            [[x.ctypes.data for x in lane] for lane in places], batch, sizes)]
        self.call, self.place, self.batch, self.size = (
            _address(self.tables[0]), _address(self.tables[1]), _address(self.tables[2]),
            _address(self.tables[3]))
        self.failed = np.zeros(pool.threads, np.int64)
        self.failure = <int64_t *>cnp.PyArray_DATA(self.failed)
        self.pool = pool

    cdef void image(self, int64_t i, int worker) noexcept nogil:
        cdef Py_ssize_t k, moves = self.reads + self.writes
        cdef uintptr_t *place = self.place + worker * moves
        if self.failure[worker]:
            return  # what the operator read stays as it is
        for k in range(self.reads):
            memcpy(<void *>place[k], <void *>(self.batch[k] + i * self.size[k]), self.size[k])
        if (<Operator><void *>self.call[worker]).run() != LW_OK:
            self.failure[worker] = 1
            return
        for k in range(self.reads, moves):
            memcpy(<void *>(self.batch[k] + i * self.size[k]), <void *>place[k], self.size[k])

    def __call__(self, images):
        """Take all images.

        Parameters
        ----------
        images : for each input, a C-contiguous array of that many images
        """
        _check_bound(self.pool is not None)
        cdef int64_t count = len(self.results[0])
        if len(images) != self.reads:
            raise KernelError(f"{len(images)} arrays of images; expected {self.reads}")
        for k, x in enumerate(images):
            if not x.flags.c_contiguous or x.nbytes != count * self.size[k]:
                raise KernelError(f"images have {x.nbytes} bytes; expected a C-contiguous array of "
                                  f"{count} times {self.size[k]}")
            self.batch[k] = x.ctypes.data
        self.failed[...] = 0
        with nogil:
            lw_pool_run(self.pool.p, count, _take_image, <void *>self)
        for one, failed in zip(self.operators, self.failed):
            if failed:
                raise (<Operator>one).failure()


cdef void _take_image(void *lanes, int64_t i, int worker) noexcept nogil:
    (<Lanes>lanes).image(i, worker)


cdef uintptr_t *_address(table):
    return <uintptr_t *>cnp.PyArray_DATA(table)

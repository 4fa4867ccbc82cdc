# The worker pool.

cdef class Pool:
    cdef lw_pool *p

    """Worker threads that bound operators share; the calling thread is worker 0.

    Workers start at the first run, spin for about 50 us after each run and then sleep. Runs from
    several threads take turns. A child of `os.fork` starts workers of its own.

    Parameters
    ----------
    threads : int
        1 to 256, the caller included.
    """
    def __cinit__(self, threads=1):
        self.p = lw_pool_create(_int("threads", threads, 1, 256))
        if self.p == NULL:
            raise MemoryError("pool: out of memory")

    def __dealloc__(self):
        with nogil:
            lw_pool_destroy(self.p)

    @property
    def threads(self):
        return lw_pool_threads(self.p)

    def __reduce__(self):
        return Pool, (self.threads,)


_pools = {}


def _pool(threads):
    count = _int("threads", threads, 1, 256)
    if count not in _pools:
        _pools[count] = Pool(count)
    return _pools[count]

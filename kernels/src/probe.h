/* probe.h - the speed of memory: loads alone, and loads with stores. A part of kern.c. */
#ifndef LW_SRC_PROBE_H
#define LW_SRC_PROBE_H

enum { PROBE = 8 * VW }; /* ints of one step: eight vectors, so that latencies overlap */

static int64_t probe_read(const int32_t *x, int64_t n, int64_t times) {
    vi seen[8];
    UNROLLED (i, 8) seen[i] = vi_set(0);
    for (int64_t t = 0; t < times; t++)
        for (int64_t j = 0; j + PROBE <= n; j += PROBE)
            UNROLLED (i, 8) seen[i] = vi_max(seen[i], vi_load(x + j + i * VW));
    UNROLLED (i, 8) seen[0] = vi_max(seen[0], seen[i]);
    HIDE(seen); /* or nothing would be read */
    return times * (n / PROBE * PROBE) * (int64_t)sizeof *x;
}

static int64_t probe_copy(const int32_t *x, int32_t *y, int64_t n, int64_t times) {
    for (int64_t t = 0; t < times; t++) {
        for (int64_t j = 0; j + PROBE <= n; j += PROBE)
            UNROLLED (i, 8) vi_store(y + j + i * VW, vi_load(x + j + i * VW));
        HIDE(y);
    }
    return 2 * times * (n / PROBE * PROBE) * (int64_t)sizeof *x;
}

#endif

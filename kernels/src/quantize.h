/* quantize.h - rows of values to windows. A part of kern.c. */
#ifndef LW_SRC_QUANTIZE_H
#define LW_SRC_QUANTIZE_H

#include "finish.h"

/* Any rows, as they are finished behind a product. */
INLINE int quantize_rows(const range range, const lw_post *p, const float *x, lw_step step) {
    int bad = 0;
    maxima m;
    m.most = -1;
    for (int64_t w = 0, j = 0; j < p->n; w++, j += p->window) {
        int64_t n = p->n - j < p->window ? p->n - j : p->window;
        levels job = {p, range == CLAMPED, 0, x + j, step, m.factor, j, n};
        find_tops(0, range, p, x + j, step, n, &m);
        bad |= find_scales(&m, p, w);
        write_levels(&job);
    }
    return bad;
}

/* Windows of nv vectors that follow each other, as many at once as a vector has lanes. The values
 * of the next ones are fetched while these become levels. */
INLINE void quantize_short(const range range, const int nv, const int zero_point, const float *x,
                           uint8_t *q, float *scale, vi *any) {
    float factor[VW];
    vi top[VW], below = vi_set(0);
    vf above = above_of(range, zero_point);
    for (int i = 0; i < VW; i++) {
        top[i] = vi_set(0);
        UNROLLED (v, nv)
            track(range, weighed(range, vf_load(x + (i * nv + v) * VW), above), top + i, &below);
    }
    vi largest = vi_hmax_rows(top);
    scales_of(largest, zero_point, scale, factor);
    *any = vi_max(*any, vi_max(largest, vi_and(below, vi_set(0x7fffffff))));
    for (int i = 0; i < VW * nv; i += 4, x += 4 * VW, q += 4 * VW) {
        vi l[4];
        UNROLLED (v, 4) {
            vf by = vf_set(factor[nv < 4 ? i / nv + v / nv : i / nv]);
            l[v] = to_levels(0, zero_point, vf_load(x + v * VW), by);
            __builtin_prefetch(x + (VW * nv + v) * VW);
        }
        vi_store4_u8(q, l);
    }
}

/* As many of `rows` windows of nv vectors as fill lanes; the rest is left. */
INLINE int64_t quantize_shorts(const range range, const int nv, const int zero_point, int64_t rows,
                               const float *x, uint8_t *q, float *scale, vi *any) {
    int64_t i = 0;
    for (; i + VW <= rows; i += VW)
        quantize_short(range, nv, zero_point, x + i * nv * VW, q + i * nv * VW, scale + i, any);
    return i;
}

/* Each range and length that is usual compiles to its own loop. */
static int64_t quantize_usual(int64_t rows, int64_t window, int zero_point, const float *x,
                              uint8_t *q, float *scale, vi *any) {
#define SHORTS(nv)                                                                                 \
    if (window == (nv) * VW) {                                                                     \
        if (zero_point == LW_MIDDLE)                                                               \
            return quantize_shorts(SIGNED, nv, LW_MIDDLE, rows, x, q, scale, any);                 \
        if (zero_point) return quantize_shorts(SKEWED, nv, zero_point, rows, x, q, scale, any);    \
        return quantize_shorts(CLAMPED, nv, 0, rows, x, q, scale, any);                            \
    }
    SHORTS(2)
    SHORTS(4)
    SHORTS(8)
#undef SHORTS
    return 0;
}

static lw_status quantize(int64_t rows, const float *x, ptrdiff_t ldx, int64_t n, int64_t window,
                          int zero_point, uint8_t *q, ptrdiff_t ldq, float *scale, ptrdiff_t lds) {
    int bad = 0;
    int64_t done = 0;
    if (n % window == 0 && ldx == n && ldq == n && lds == n / window) {
        rows *= lds, n = ldx = ldq = window, lds = 1; /* windows follow each other */
        vi any = vi_set(0);
        if (VW >= 4) /* VW windows hold the four vectors that are written at once */
            done = quantize_usual(rows, window, zero_point, x, q, scale, &any);
        bad = is_bad(any);
    }
    lw_step step = {0, ldx};
    lw_post p = {.lines = 1,
                 .n = n,
                 .window = window,
                 .zero_point = zero_point,
                 .q_step = {0, ldq},
                 .scale_step = {0, lds}};
    for (int64_t i = done; i < rows; i += LW_FINISH_ROWS) {
        p.count = (int)(rows - i < LW_FINISH_ROWS ? rows - i : LW_FINISH_ROWS);
        p.q = q + i * ldq;
        p.scale = scale + i * lds;
        if (zero_point == LW_MIDDLE)
            bad |= quantize_rows(SIGNED, &p, x + i * ldx, step);
        else if (zero_point)
            bad |= quantize_rows(SKEWED, &p, x + i * ldx, step);
        else
            bad |= quantize_rows(CLAMPED, &p, x + i * ldx, step);
    }
    return bad ? LW_NONFINITE : LW_OK;
}

#endif

/* finish.h - what follows the sums: activation, and quantization into the windows of the next layer.
 * A part of kern.c. */
#ifndef LW_SRC_FINISH_H
#define LW_SRC_FINISH_H

#include "isa.h"

/* ---- activation --------------------------------------------------------------------------- */

/* exp on [-87, 88]: x = n ln 2 + r, |r| <= ln(2)/2, Taylor to the seventh power (error of the
 * cut < 2^-24), times 2^n by the exponent field. ln 2 in two parts, the first of few bits. */
INLINE vf exp_v(vf x) {
    x = vf_min(vf_max(x, vf_set(-87.0f)), vf_set(88.0f));
    vf n = vf_rint(vf_mul(x, vf_set(0x1.715476p+0f)));
    vf r = vf_fma(n, vf_set(-0x1.62e4p-1f), x);
    r = vf_fma(n, vf_set(-0x1.7f7d1cp-20f), r);
    vf p = vf_set(1.0f / 5040);
    p = vf_fma(p, r, vf_set(1.0f / 720));
    p = vf_fma(p, r, vf_set(1.0f / 120));
    p = vf_fma(p, r, vf_set(1.0f / 24));
    p = vf_fma(p, r, vf_set(1.0f / 6));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    return vi_bits(vi_add(vf_bits(p), vi_shl23(vf_round(n))));
}

INLINE vf activate(const lw_activation activation, vf y, vf alpha, vf lo, vf hi) {
    vf zero = vf_set(0.0f), one = vf_set(1.0f);
    switch (activation) {
    case LW_RELU: return vf_max(y, zero);
    case LW_CLIP: return vf_min(vf_max(y, lo), hi);
    case LW_LEAKY: return vf_positive(y, y, vf_mul(y, alpha));
    case LW_HARDSWISH: {
        vf gate = vf_fma(y, vf_set(1.0f / 6), vf_set(0.5f));
        return vf_mul(y, vf_min(vf_max(gate, zero), one));
    }
    case LW_SILU: return vf_div(y, vf_add(one, exp_v(vf_mul(y, vf_set(-1.0f)))));
    default: return y;
    }
}

/* ---- quantization ------------------------------------------------------------------------- */

enum { INFINITY_BITS = 0x7f800000, TOGETHER = 4 /* rows that share the loads of bias */ };

/* What a window holds: any values, as signed levels; any values, of which the negative ones
 * become 0; or values that are >= 0 already, where less is to be done. */
typedef enum range { SIGNED, CLAMPED, NONNEGATIVE } range;

/* Maxima of one window of several rows, and what takes their values to levels. */
typedef struct maxima {
    vi top[LW_FINISH_ROWS]; /* lane by lane: largest |x| if SIGNED, else largest x or 0 */
    vi any;                 /* of all rows: largest |x| */
    float factor[LW_FINISH_ROWS];
} maxima;

/* n values of each row of x, ldx apart, that become levels at q[i] + at. */
typedef struct levels {
    int rows, zero_point;
    int floor; /* negative values become 0 */
    const float *x;
    ptrdiff_t ldx;
    const float *factor;
    uint8_t *const *q;
    int64_t at, n;
} levels;

/* As integers, the bits of floats >= 0 order as the floats do; negative floats are negative. */
INLINE void track(const range range, vf x, vi *top, vi *any) {
    vi bits = vf_bits(x), absolute = vi_and(bits, vi_set(0x7fffffff));
    *top = vi_max(*top, range == SIGNED ? absolute : bits);
    if (range == CLAMPED) *any = vi_max(*any, absolute);
}

INLINE range range_of(lw_activation activation, float lo, float hi, int zero_point) {
    /* the clip of a NaN is lo */
    int nonnegative = activation == LW_RELU || (activation == LW_CLIP && lo >= 0 && hi >= 0);
    return zero_point ? SIGNED : nonnegative ? NONNEGATIVE : CLAMPED;
}

/* Bits of infinity and of NaN exceed those of all numbers. Below 2^-100 the scale is 0. */
static NOINLINE int find_scales(maxima *m, int rows, int zero_point, float *const *scale,
                                int64_t at) {
    float found[LW_FINISH_ROWS];
    vf most = vf_set(zero_point ? 127.0f : 255.0f), zero = vf_set(0.0f);
    vi any = m->any;
    for (int i = rows; i % VW; i++) m->top[i] = vi_set(0);
    for (int i = 0; i < rows; i += VW) {
        vi top = vi_hmax_rows(m->top + i);
        vf x = vi_bits(top), above = vf_add(x, vf_set(-0x1.fffffep-101f));
        vf_store(found + i, vf_positive(above, vf_div(x, most), zero));
        vf_store(m->factor + i, vf_positive(above, vf_div(most, x), zero));
        any = vi_max(any, top);
    }
    for (int i = 0; i < rows; i++) scale[i][at] = found[i];
    return vi_hmax(any) >= INFINITY_BITS;
}

/* |x| * factor <= levels * (1 + 2^-23), which rounds to levels. */
INLINE vi to_levels(const int floor, const int zero_point, vf x, vf factor) {
    vf v = vf_mul(x, factor);
    if (floor) v = vf_max(v, vf_set(0.0f));
    return zero_point ? vi_add(vf_round(v), vi_set(zero_point)) : vf_round(v);
}

INLINE void write_row(const int floor, const int zero_point, const int64_t n, const float *x,
                      vf by, uint8_t *q) {
    int64_t j = 0;
    for (; j + 4 * VW <= n; j += 4 * VW) {
        vi l[4];
        UNROLLED (v, 4) /* the store is a floor of its own for unsigned levels */
            l[v] = to_levels(floor && zero_point, zero_point, vf_load(x + j + v * VW), by);
        vi_store4_u8(q + j, l);
    }
    for (; j + VW <= n; j += VW)
        vi_store_u8(q + j, to_levels(floor, zero_point, vf_load(x + j), by));
    if (j < n)
        vi_store_u8_n(q + j, to_levels(floor, zero_point, vf_load_n(x + j, n - j), by), n - j);
}

INLINE void write_rows(const int floor, const int zero_point, const int64_t n,
                       const levels *w) {
    const levels l = *w; /* stores of bytes may alias *w */
    for (int i = 0; i < l.rows; i++)
        write_row(floor, zero_point, n, l.x + i * l.ldx, vf_set(l.factor[i]), l.q[i] + l.at);
}

/* Usual lengths compile to their own loops. */
INLINE void write_lengths(const int floor, const int zero_point, const levels *w) {
    switch (w->n) {
    case 32: write_rows(floor, zero_point, 32, w); break;
    case 64: write_rows(floor, zero_point, 64, w); break;
    case 128: write_rows(floor, zero_point, 128, w); break;
    default: write_rows(floor, zero_point, w->n, w);
    }
}

static NOINLINE void write_levels(const levels *w) {
    if (w->floor)
        w->zero_point ? write_lengths(1, 128, w) : write_lengths(1, 0, w);
    else
        w->zero_point ? write_lengths(0, 128, w) : write_lengths(0, 0, w);
}

/* The maxima of n values of each row, ldx apart. */
INLINE void find_tops(const range range, int rows, const float *x, ptrdiff_t ldx, int64_t n,
                      maxima *m) {
    vi any = vi_set(0);
    for (int i = 0; i < rows; i++, x += ldx) {
        vi top = vi_set(0);
        int64_t j = 0;
        for (; j + VW <= n; j += VW) track(range, vf_load(x + j), &top, &any);
        if (j < n) track(range, vf_load_n(x + j, n - j), &top, &any);
        m->top[i] = top;
    }
    m->any = any;
}

/* At most LW_FINISH_ROWS rows. */
INLINE int quantize_rows(const range range, int rows, const float *x, ptrdiff_t ldx, int64_t n,
                         int64_t window, uint8_t *const *q, float *const *scale) {
    int bad = 0, zero_point = range == SIGNED ? 128 : 0;
    maxima m;
    for (int64_t w = 0, at = 0; at < n; w++, at += window) {
        int64_t length = n - at < window ? n - at : window;
        levels to = {.floor = range == CLAMPED,
                        .rows = rows,
                        .x = x + at,
                        .ldx = ldx,
                        .factor = m.factor,
                        .q = q,
                        .at = at,
                        .n = length,
                        .zero_point = zero_point};
        find_tops(range, rows, x + at, ldx, length, &m);
        bad |= find_scales(&m, rows, zero_point, scale, w);
        write_levels(&to);
    }
    return bad;
}

static lw_status quantize(int64_t rows, const float *x, ptrdiff_t ldx, int64_t n, int64_t window,
                          int zero_point, uint8_t *q, ptrdiff_t ldq, float *scale, ptrdiff_t lds) {
    int bad = 0;
    uint8_t *q_row[LW_FINISH_ROWS];
    float *scale_row[LW_FINISH_ROWS];
    for (int64_t i = 0; i < rows; i += LW_FINISH_ROWS) {
        int count = (int)(rows - i < LW_FINISH_ROWS ? rows - i : LW_FINISH_ROWS);
        for (int r = 0; r < count; r++)
            q_row[r] = q + (i + r) * ldq, scale_row[r] = scale + (i + r) * lds;
        bad |= zero_point
                   ? quantize_rows(SIGNED, count, x + i * ldx, ldx, n, window, q_row, scale_row)
                   : quantize_rows(CLAMPED, count, x + i * ldx, ldx, n, window, q_row, scale_row);
    }
    return bad ? LW_NONFINITE : LW_OK;
}

/* ---- what follows the sums ---------------------------------------------------------------- */

/* The vector at channel j of a few rows from `row` on, of which n lanes count. */
INLINE void finish_vectors(const int rows, const lw_activation activation, const lw_post *p,
                           int row, int64_t n, int64_t j, const float *f, ptrdiff_t ldf, vf *y) {
    UNROLLED (i, rows) y[i] = vf_load(f + i * ldf + j);
    if (p->sb) {
        vf sb = vf_load_n(p->sb + j, n), bias = vf_load_n(p->bias + j, n);
        UNROLLED (i, rows) y[i] = vf_fma(y[i], sb, bias);
    }
    if (p->residual)
        UNROLLED (i, rows) y[i] = vf_add(y[i], vf_load_n(p->residual[row + i] + j, n));
    if (p->residual_q) {
        vi minus = vi_set(-p->residual_zero);
        int64_t window = (p->first + j) >> p->residual_shift;
        UNROLLED (i, rows) {
            vf x = vf_from(vi_add(vi_from_u8(p->residual_q[row + i] + j), minus));
            y[i] = vf_fma(x, vf_set(p->residual_scale[row + i][window]), y[i]);
        }
    }
    UNROLLED (i, rows)
        y[i] = activate(activation, y[i], vf_set(p->alpha), vf_set(p->lo), vf_set(p->hi));
    if (p->dst)
        UNROLLED (i, rows) vf_store_n(p->dst[row + i] + j, y[i], n);
}

/* y of a few rows from `row` on, channels [first, end), in place of f unless `direct`; and their
 * maxima. */
INLINE void finish_values(const int rows, const lw_activation activation, const range range,
                          const int direct, const lw_post *p, int row, float *f, ptrdiff_t ldf,
                          int64_t first, int64_t end, maxima *m) {
    vi top[TOGETHER], any = m->any;
    vf y[TOGETHER];
    int64_t j = first;
    UNROLLED (i, rows) top[i] = vi_set(0);
    for (; j + VW <= end; j += VW) {
        finish_vectors(rows, activation, p, row, VW, j, f, ldf, y);
        UNROLLED (i, rows) {
            if (!direct) vf_store(f + i * ldf + j, y[i]);
            track(range, y[i], top + i, &any);
        }
    }
    if (j < end) {
        finish_vectors(rows, activation, p, row, end - j, j, f, ldf, y);
        UNROLLED (i, rows) {
            if (!direct) vf_store_n(f + i * ldf + j, y[i], end - j);
            track(range, vf_first_n(y[i], end - j), top + i, &any);
        }
    }
    UNROLLED (i, rows) m->top[row + i] = top[i];
    m->any = any;
}

/* Window w, channels [first, end), of all rows: values, scales, levels. */
INLINE int finish_window(const lw_activation activation, const range range, const int direct,
                         const lw_post *p, int rows, float *f, ptrdiff_t ldf, int64_t w,
                         int64_t first, int64_t end) {
    maxima m;
    levels to = {.floor = range == CLAMPED || (direct && activation == LW_RELU),
                    .rows = rows,
                    .x = f + first,
                    .ldx = ldf,
                    .factor = m.factor,
                    .q = p->q,
                    .at = first,
                    .n = end - first,
                    .zero_point = p->zero_point};
    int i = 0;
    m.any = vi_set(0);
    for (; i + TOGETHER <= rows; i += TOGETHER)
        finish_values(TOGETHER, activation, range, direct, p, i, f + i * ldf, ldf, first, end, &m);
    for (; i < rows; i++)
        finish_values(1, activation, range, direct, p, i, f + i * ldf, ldf, first, end, &m);
    int bad = find_scales(&m, rows, p->zero_point, p->scale, w);
    write_levels(&to);
    return bad;
}

INLINE void finish_plain(const lw_activation activation, const lw_post *p, int rows, float *f,
                         ptrdiff_t ldf) {
    vf y;
    for (int i = 0; i < rows; i++, f += ldf) {
        int64_t j = 0;
        for (; j + VW <= p->n; j += VW) finish_vectors(1, activation, p, i, VW, j, f, 0, &y);
        if (j < p->n) finish_vectors(1, activation, p, i, p->n - j, j, f, 0, &y);
    }
}

INLINE int finish_windows(const lw_activation activation, const range range, const int direct,
                          const lw_post *p, int rows, float *f, ptrdiff_t ldf) {
    int bad = 0;
    for (int64_t w = 0, j = 0; j < p->n; w++, j += p->window) {
        int64_t end = p->n - j < p->window ? p->n : j + p->window;
        bad |= finish_window(activation, range, direct, p, rows, f, ldf, w, j, end);
    }
    return bad;
}

/* Each range compiles to its own loops. Where a floor of 0 is all that happens to the sums, levels
 * are found from them directly: values need not be stored. */
INLINE lw_status finish_rows(const lw_activation activation, const lw_post *p, int rows, float *f,
                             ptrdiff_t ldf) {
    int bad = 0, direct = activation <= LW_RELU && !p->sb && !p->residual && !p->residual_q;
    range range = range_of(p->activation, p->lo, p->hi, p->zero_point);
    if (!p->q)
        finish_plain(activation, p, rows, f, ldf);
    else if (range == SIGNED)
        bad = direct ? finish_windows(activation, SIGNED, activation <= LW_RELU, p, rows, f, ldf)
                     : finish_windows(activation, SIGNED, 0, p, rows, f, ldf);
    else if (range == NONNEGATIVE)
        bad = direct
                  ? finish_windows(activation, NONNEGATIVE, activation <= LW_RELU, p, rows, f, ldf)
                  : finish_windows(activation, NONNEGATIVE, 0, p, rows, f, ldf);
    else
        bad = direct ? finish_windows(activation, CLAMPED, activation <= LW_RELU, p, rows, f, ldf)
                     : finish_windows(activation, CLAMPED, 0, p, rows, f, ldf);
    return bad ? LW_NONFINITE : LW_OK;
}

static lw_status finish(const lw_post *p, int rows, float *f, ptrdiff_t ldf) {
    switch (p->activation) { /* each case compiles to its own loop */
    case LW_RELU: return finish_rows(LW_RELU, p, rows, f, ldf);
    case LW_CLIP: return finish_rows(LW_CLIP, p, rows, f, ldf);
    case LW_LEAKY: return finish_rows(LW_LEAKY, p, rows, f, ldf);
    case LW_HARDSWISH: return finish_rows(LW_HARDSWISH, p, rows, f, ldf);
    case LW_SILU: return finish_rows(LW_SILU, p, rows, f, ldf);
    default: return finish_rows(LW_NONE, p, rows, f, ldf);
    }
}

#endif

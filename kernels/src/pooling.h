/* pooling.h - maxima and sums of pixels. A part of kern.c. */
#ifndef LW_SRC_POOLING_H
#define LW_SRC_POOLING_H

/* ---- any pixels --------------------------------------------------------------------------- */

INLINE vf tap_load(const int quantized, const lw_tap *tap, int64_t j, int64_t n, vf scale,
                   vi minus) {
    if (!quantized) return vf_load_n(tap->x + j, n - j);
    return vf_mul(vf_from(vi_add(vi_from_u8(tap->q + j), minus)), scale);
}

INLINE void pool_taps(const int average, const int quantized, int taps, const lw_tap *tap,
                      int64_t n, int64_t window, int zero_point, float factor, float *f) {
    vi minus = vi_set(-zero_point);
    vf by = vf_set(factor), one = vf_set(1.0f);
    for (int64_t c = 0, i = 0; c < n; c += window, i++) {
        int64_t end = c + window < n ? c + window : n;
        for (int64_t j = c; j < end; j += VW) {
            vf y = tap_load(quantized, tap, j, n, quantized ? vf_set(tap->s[i]) : one, minus);
            for (int t = 1; t < taps; t++) {
                vf s = quantized ? vf_set(tap[t].s[i]) : one;
                vf x = tap_load(quantized, tap + t, j, n, s, minus);
                y = average ? vf_add(y, x) : vf_max(y, x);
            }
            vf_store(f + j, average ? vf_mul(y, by) : y);
        }
    }
}

static void pool(int average, int taps, const lw_tap *tap, int64_t n, int64_t window,
                 int zero_point, float factor, float *f) {
    if (tap->q && average)
        pool_taps(1, 1, taps, tap, n, window, zero_point, factor, f);
    else if (tap->q)
        pool_taps(0, 1, taps, tap, n, window, zero_point, factor, f);
    else if (average)
        pool_taps(1, 0, taps, tap, n, n, 0, factor, f);
    else
        pool_taps(0, 0, taps, tap, n, n, 0, factor, f);
}

/* ---- rows of maxima ----------------------------------------------------------------------- */

/* nv vectors of one pixel. */
INLINE void load_pixel(const int nv, const int zero_point, const uint8_t *q, const float *s,
                       vf x[]) {
    vi minus = vi_set(-zero_point);
    vf scale = vf_set(*s);
    UNROLLED (i, nv) {
        vi level = vi_from_u8(q + i * VW);
        if (zero_point) level = vi_add(level, minus);
        x[i] = vf_mul(vf_from(level), scale);
    }
}

/* nv vectors of the maximum of one column. */
INLINE void max_column(const int nv, const int zero_point, const lw_max_args *a, const uint8_t *q,
                       const float *s, vf v[]) {
    load_pixel(nv, zero_point, q, s, v);
    for (int64_t r = 1; r < a->rows; r++) {
        vf x[4];
        q += a->q_row, s += a->s_row;
        load_pixel(nv, zero_point, q, s, x);
        UNROLLED (i, nv) v[i] = vf_max(v[i], x[i]);
    }
}

/* nv vectors from channel j on of all outputs: a column that two outputs see is looked at once. */
INLINE void max_strip(const int nv, const int kw, const int stride, const int zero_point,
                      const lw_max_args *a, int64_t j, float *f) {
    const int kept = kw > stride ? kw - stride : 0;
    const uint8_t *q = a->q + j;
    const float *s = a->s + j / a->window;
    vf v[3][4];
    UNROLLED (c, kept) max_column(nv, zero_point, a, q + c * a->q_step, s + c * a->s_step, v[c]);
    for (int64_t x = 0; x < a->count; x++, f += a->ldf) {
        for (int c = kept; c < kw; c++)
            max_column(nv, zero_point, a, q + c * a->q_step, s + c * a->s_step, v[c]);
        UNROLLED (i, nv) {
            vf y = v[0][i];
            for (int c = 1; c < kw; c++) y = vf_max(y, v[c][i]);
            vf_store(f + i * VW, y);
        }
        for (int c = 0; c < kept; c++)
            UNROLLED (i, nv) v[c][i] = v[c + stride][i];
        q += stride * a->q_step, s += stride * a->s_step;
    }
}

INLINE void max_strips(const int kw, const int stride, const int zero_point, const lw_max_args *a) {
    for (int64_t first = 0; first < a->n; first += a->window) {
        int64_t end = first + a->window < a->n ? first + a->window : a->n, j = first;
        for (; j + 4 * VW <= end; j += 4 * VW) max_strip(4, kw, stride, zero_point, a, j, a->f + j);
        for (; j < end; j += VW) max_strip(1, kw, stride, zero_point, a, j, a->f + j);
    }
}

static void max_row(const lw_max_args *a) {
    const int zero = a->zero_point;
    if (a->kw == 2)
        zero ? max_strips(2, 2, zero, a) : max_strips(2, 2, 0, a);
    else if (a->stride == 1)
        zero ? max_strips(3, 1, zero, a) : max_strips(3, 1, 0, a);
    else
        zero ? max_strips(3, 2, zero, a) : max_strips(3, 2, 0, a);
}

/* ---- lines of maxima ---------------------------------------------------------------------- */

/* As integers, floats >= 0 order as they do, and negative ones are below them. */
INLINE vf larger(const int floored, vf a, vf b) {
    return floored ? vi_bits(vi_max(vf_bits(a), vf_bits(b))) : vf_max(a, b);
}

/* nv vectors of the maximum of the column that lies `at` floats behind the first. */
INLINE void line_column(const int nv, const int floored, const lw_max_lines_args *a, ptrdiff_t at,
                        vf v[]) {
    UNROLLED (i, nv) v[i] = vf_load(a->line[0] + at + i * VW);
    for (int l = 1; l < a->lines; l++)
        UNROLLED (i, nv) v[i] = larger(floored, v[i], vf_load(a->line[l] + at + i * VW));
}

/* nv vectors from channel j on of all outputs: a column that two outputs see is looked at once. */
INLINE void lines_strip(const int nv, const int kw, const int stride, const int floored,
                        const lw_max_lines_args *a, int64_t j) {
    const int kept = kw > stride ? kw - stride : 0;
    const ptrdiff_t step = a->step;
    float *y = a->y + j;
    vf v[LW_MAX_POOL][4];
    UNROLLED (c, kept) line_column(nv, floored, a, j + c * step, v[c]);
    for (int64_t x = 0; x < a->count; x++, y += a->ldy, j += stride * step) {
        for (int c = kept; c < kw; c++) line_column(nv, floored, a, j + c * step, v[c]);
        UNROLLED (i, nv) {
            vf top = v[0][i];
            for (int c = 1; c < kw; c++) top = larger(floored, top, v[c][i]);
            vf_store(y + i * VW, top);
        }
        for (int c = 0; c < kept; c++)
            UNROLLED (i, nv) v[c][i] = v[c + stride][i];
    }
}

INLINE void lines_strips(const int kw, const int stride, const int floored,
                         const lw_max_lines_args *a) {
    int64_t j = 0;
    for (; j + 4 * VW <= a->n; j += 4 * VW) lines_strip(4, kw, stride, floored, a, j);
    for (; j < a->n; j += VW) lines_strip(1, kw, stride, floored, a, j);
}

INLINE void lines_shapes(const int floored, const lw_max_lines_args *args) {
    const lw_max_lines_args a = *args; /* stores may alias *args */
    if (a.kw == 2 && a.stride == 2)
        lines_strips(2, 2, floored, &a);
    else if (a.kw == 3 && a.stride == 2)
        lines_strips(3, 2, floored, &a);
    else
        lines_strips(a.kw, a.stride, floored, &a);
}

static void max_lines(const lw_max_lines_args *a) {
    a->floored ? lines_shapes(1, a) : lines_shapes(0, a);
}

#endif

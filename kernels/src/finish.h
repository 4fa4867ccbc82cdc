/* finish.h - what follows the sums: residual, activation, and quantization into the windows of the
 * next layer. A part of kern.c. */
#ifndef LW_SRC_FINISH_H
#define LW_SRC_FINISH_H

#include "levels.h"

/* The rows of a post from one on, all in one line. */
typedef struct group {
    const float *residual, *residual_scale;
    const uint8_t *residual_q;
    float *dst, *f;
    int row;
} group;

INLINE group group_at(const lw_post *p, int line, int c, float *f, lw_step step) {
    group g = {.row = line * p->count + c, .f = f + line * step.line + c * step.pixel};
    if (p->residual)
        g.residual = p->residual + line * p->residual_step.line + c * p->residual_step.pixel;
    if (p->residual_q) {
        g.residual_q =
            p->residual_q + line * p->residual_q_step.line + c * p->residual_q_step.pixel;
        g.residual_scale = p->residual_scale + line * p->residual_scale_step.line +
                           c * p->residual_scale_step.pixel;
    }
    if (p->dst) g.dst = p->dst + line * p->dst_step.line + c * p->dst_step.pixel;
    return g;
}

/* The vector at channel j of a few rows, of which n lanes count. */
INLINE void finish_vectors(const int rows, const lw_activation activation, const lw_post *p,
                           const group *g, int64_t n, int64_t j, ptrdiff_t ldf, vf *y) {
    UNROLLED (i, rows) y[i] = vf_load(g->f + i * ldf + j);
    if (p->sb) {
        vf sb = vf_load_n(p->sb + j, n), bias = vf_load_n(p->bias + j, n);
        UNROLLED (i, rows) y[i] = vf_fma(y[i], sb, bias);
    }
    if (g->residual)
        UNROLLED (i, rows)
            y[i] = vf_add(y[i], vf_load_n(g->residual + i * p->residual_step.pixel + j, n));
    if (g->residual_q) {
        vi minus = vi_set(-p->residual_zero);
        const float *scale = g->residual_scale + ((p->first + j) >> p->residual_shift);
        UNROLLED (i, rows) {
            const uint8_t *q = g->residual_q + i * p->residual_q_step.pixel + j;
            vi x = p->residual_zero ? vi_add(vi_from_u8(q), minus) : vi_from_u8(q);
            y[i] = vf_fma(vf_from(x), vf_set(scale[i * p->residual_scale_step.pixel]), y[i]);
        }
    }
    UNROLLED (i, rows)
        y[i] = activate(activation, y[i], vf_set(p->alpha), vf_set(p->lo), vf_set(p->hi));
    if (g->dst)
        UNROLLED (i, rows) vf_store_n(g->dst + i * p->dst_step.pixel + j, y[i], n);
}

/* y of a few rows, channels [first, end), in place of f; and their maxima. */
INLINE void finish_values(const int rows, const lw_activation activation, const range range,
                          const lw_post *p, const group *g, ptrdiff_t ldf, int64_t first,
                          int64_t end, maxima *m) {
    vi top[TOGETHER], any = m->any;
    vf y[TOGETHER], above = above_of(range, p->zero_point);
    int64_t j = first;
    UNROLLED (i, rows) top[i] = vi_set(0);
    for (; j + VW <= end; j += VW) {
        finish_vectors(rows, activation, p, g, VW, j, ldf, y);
        UNROLLED (i, rows) {
            vf_store(g->f + i * ldf + j, y[i]);
            track(range, weighed(range, y[i], above), top + i, &any);
        }
    }
    if (j < end) {
        finish_vectors(rows, activation, p, g, end - j, j, ldf, y);
        UNROLLED (i, rows) {
            if (end == p->n && j + VW <= ldf) /* what lies behind does not count: the fast store */
                vf_store(g->f + i * ldf + j, y[i]);
            else
                vf_store_n(g->f + i * ldf + j, y[i], end - j);
            track(range, weighed(range, vf_first_n(y[i], end - j), above), top + i, &any);
        }
    }
    UNROLLED (i, rows) m->top[g->row + i] = top[i];
    m->any = any;
}

/* Window w, channels [first, end), of all rows: values, scales, levels. */
INLINE int finish_window(const lw_activation activation, const range range, const lw_post *p,
                         float *f, lw_step step, int64_t w, int64_t first, int64_t end) {
    maxima m;
    int floor = range == CLAMPED || (range == NONNEGATIVE && activation == LW_NONE);
    levels job = {p, floor, 0, f + first, step, m.factor, first, end - first};
    m.any = vi_set(0), m.most = -1;
    for (int line = 0; line < p->lines; line++) {
        int c = 0;
        for (; c + TOGETHER <= p->count; c += TOGETHER) {
            group g = group_at(p, line, c, f, step);
            finish_values(TOGETHER, activation, range, p, &g, step.pixel, first, end, &m);
        }
        for (; c < p->count; c++) {
            group g = group_at(p, line, c, f, step);
            finish_values(1, activation, range, p, &g, step.pixel, first, end, &m);
        }
    }
    int bad = find_scales(&m, p, w);
    write_levels(&job);
    return bad;
}

INLINE void finish_plain(const lw_activation activation, const lw_post *p, float *f, lw_step step) {
    vf y;
    for (int line = 0; line < p->lines; line++)
        for (int c = 0; c < p->count; c++) {
            group g = group_at(p, line, c, f, step);
            int64_t j = 0;
            for (; j + VW <= p->n; j += VW)
                finish_vectors(1, activation, p, &g, VW, j, step.pixel, &y);
            if (j < p->n) finish_vectors(1, activation, p, &g, p->n - j, j, step.pixel, &y);
        }
}

/* Values above hi become hi; where that changes no level, because levels saturate, they stay. */
INLINE void limit_values(const lw_post *p, vi any, float *f, lw_step step, int64_t n) {
    float far = p->hi * 0x1p20f; /* times the factor it still is an int32 */
    int32_t bits;
    memcpy(&bits, &far, sizeof bits);
    if (vi_hmax(any) <= bits) return;
    for (int i = 0; i < p->lines * p->count; i++) {
        float *y = f + i / p->count * step.line + i % p->count * step.pixel;
        for (int64_t j = 0; j < n; j += VW)
            vf_store_n(y + j, vf_min(vf_load_n(y + j, n - j), vf_set(p->hi)), n - j);
    }
}

/* Whether floors and limits, or a flat LeakyReLU, are all that happens to the sums: then levels are
 * found from them. */
static int is_direct(const lw_post *p) {
    if (!p->q || p->sb || p->residual || p->residual_q || p->dst) return 0;
    if (p->activation == LW_LEAKY) return is_flat(p->activation, p->alpha) && p->zero_point;
    if (is_skewed(p->zero_point)) return 0;
    if (p->activation == LW_CLIP) return p->lo == 0 && p->hi > 0;
    return p->activation <= LW_RELU;
}

INLINE int finish_direct(const int leaky, const range range, const lw_post *p, float *f,
                         lw_step step) {
    const int clip = p->activation == LW_CLIP;
    const int floor = clip || p->activation == LW_RELU || range == CLAMPED;
    int bad = 0;
    maxima m;
    m.most = clip ? p->hi : -1;
    for (int64_t w = 0, j = 0; j < p->n; w++, j += p->window) {
        int64_t n = p->n - j < p->window ? p->n - j : p->window;
        levels job = {p, floor, leaky, f + j, step, m.factor, j, n};
        find_tops(leaky, range, p, f + j, step, n, &m);
        bad |= find_scales(&m, p, w);
        if (clip) limit_values(p, m.seen, f + j, step, n);
        write_levels(&job);
    }
    return bad;
}

INLINE int finish_windows(const lw_activation activation, const range range, const lw_post *p,
                          float *f, lw_step step) {
    int bad = 0;
    for (int64_t w = 0, j = 0; j < p->n; w++, j += p->window) {
        int64_t end = p->n - j < p->window ? p->n : j + p->window;
        bad |= finish_window(activation, range, p, f, step, w, j, end);
    }
    return bad;
}

/* Each range compiles to its own loops. */
INLINE lw_status finish_rows(const lw_activation activation, const lw_post *p, float *f,
                             lw_step step) {
    int bad = 0;
    range range = range_of(p->activation, p->lo, p->hi, p->zero_point);
    if (!p->q)
        finish_plain(activation, p, f, step);
    else if (range == SIGNED)
        bad = finish_windows(activation, SIGNED, p, f, step);
    else if (range == SKEWED)
        bad = finish_windows(activation, SKEWED, p, f, step);
    else if (range == NONNEGATIVE)
        bad = finish_windows(activation, NONNEGATIVE, p, f, step);
    else
        bad = finish_windows(activation, CLAMPED, p, f, step);
    return bad ? LW_NONFINITE : LW_OK;
}

static lw_status finish_sums(const lw_post *p, float *f, lw_step step) {
    int bad;
    if (p->activation == LW_LEAKY && is_skewed(p->zero_point))
        bad = finish_direct(1, SKEWED, p, f, step);
    else if (p->activation == LW_LEAKY)
        bad = finish_direct(1, SIGNED, p, f, step);
    else if (p->activation != LW_NONE)
        bad = finish_direct(0, NONNEGATIVE, p, f, step);
    else if (p->zero_point)
        bad = finish_direct(0, SIGNED, p, f, step);
    else
        bad = finish_direct(0, CLAMPED, p, f, step);
    return bad ? LW_NONFINITE : LW_OK;
}

#ifdef LW_PARTS
#include "finish_short.h"
#endif

/* Whether vectors of a window may begin in one window of the residual and end in the next. */
static int is_uneven(const lw_post *p) {
    return p->q && p->residual_q && p->window < p->n && p->window % VW;
}

static lw_status finish(const lw_post *p, float *f, lw_step step) {
    if (is_uneven(p)) { /* in two passes: the first one has no windows of its own */
        lw_post sums = *p, rest = *p;
        sums.q = NULL, sums.dst = f, sums.dst_step = step;
        rest.sb = NULL, rest.residual_q = NULL, rest.activation = LW_NONE;
        finish(&sums, f, step);
        return finish(&rest, f, step);
    }
#ifdef LW_PARTS
    if (is_short(p)) return finish_short(p, f, step);
#endif
    if (is_direct(p)) return finish_sums(p, f, step);
    if (p->activation == LW_RELU && p->q && !p->zero_point && !p->dst) /* levels have a floor */
        return finish_windows(LW_NONE, NONNEGATIVE, p, f, step) ? LW_NONFINITE : LW_OK;
    switch (p->activation) { /* each case compiles to its own loop */
    case LW_RELU: return finish_rows(LW_RELU, p, f, step);
    case LW_CLIP: return finish_rows(LW_CLIP, p, f, step);
    case LW_LEAKY: return finish_rows(LW_LEAKY, p, f, step);
    case LW_HARDSWISH: return finish_rows(LW_HARDSWISH, p, f, step);
    case LW_SILU: return finish_rows(LW_SILU, p, f, step);
    case LW_GELU: return finish_rows(LW_GELU, p, f, step);
    default: return finish_rows(LW_NONE, p, f, step);
    }
}

#endif

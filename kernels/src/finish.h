/* finish.h - what follows the sums: residual, activation, and quantization into the windows of the
 * next layer. A part of kern.c. */
#ifndef LW_SRC_FINISH_H
#define LW_SRC_FINISH_H

#include "activate.h"

/* ---- quantization ------------------------------------------------------------------------- */

enum { INFINITY_BITS = 0x7f800000, TOGETHER = 4 /* rows that share the loads of bias */ };

/* What a window holds: any values, as signed levels; any values, most levels being of those above
 * 0; any values, of which the negative ones become 0; or values that are >= 0 already, where less
 * is to be done. */
typedef enum range { SIGNED, SKEWED, CLAMPED, NONNEGATIVE, RANGES } range;

/* Maxima of one window of several rows, and what takes their values to levels. */
typedef struct maxima {
    vi top[LW_FINISH_ROWS]; /* lane by lane: largest |x| if SIGNED or SKEWED, else largest x or 0 */
    vi any;                 /* of all rows, if CLAMPED: the farthest below 0, unless none is */
    float most;             /* what larger maxima become, unless negative */
    vi seen;                /* lane by lane, the largest of all rows before that */
    float factor[LW_FINISH_ROWS];
} maxima;

/* n values of each pixel of x that become levels at channel `at` of where p says. */
typedef struct levels {
    const lw_post *p;
    int floor; /* negative values become 0 */
    int leaky; /* a LeakyReLU comes first, a flat one */
    const float *x;
    lw_step step;
    const float *factor;
    int64_t at, n;
} levels;

/* As integers, the bits of floats >= 0 order as the floats do; negative floats are negative. */
INLINE void track(const range range, vf x, vi *top, vi *any) {
    vi bits = vf_bits(x), absolute = vi_and(bits, vi_set(0x7fffffff));
    *top = vi_max(*top, range == SIGNED || range == SKEWED ? absolute : bits);
    if (range == CLAMPED) *any = vi_maxu(*any, bits); /* sign bits come last */
}

INLINE int is_skewed(int zero_point) { return zero_point && zero_point != LW_MIDDLE; }

/* Levels of the largest value, as it is tracked. */
INLINE float levels_of(int zero_point) {
    return !zero_point ? 255.0f : is_skewed(zero_point) ? (float)zero_point : 127.0f;
}

/* Takes a value above 0 to the one below 0 that needs the same scale. */
INLINE vf above_of(const range range, int zero_point) {
    return vf_set(range == SKEWED ? -(float)zero_point / (float)(255 - zero_point) : 0.0f);
}

INLINE vf weighed(const range range, vf x, vf above) {
    return range == SKEWED ? vf_min(x, vf_mul(x, above)) : x;
}

INLINE range range_of(lw_activation activation, float lo, float hi, int zero_point) {
    /* the clip of a NaN is lo */
    int nonnegative = activation == LW_RELU || (activation == LW_CLIP && lo >= 0 && hi >= 0);
    if (zero_point) return is_skewed(zero_point) ? SKEWED : SIGNED;
    return nonnegative ? NONNEGATIVE : CLAMPED;
}

/* Scales of the largest values, and what takes values to levels. Below 2^-100 both are 0. */
INLINE vf where_large(vf x, vf y) {
    return vf_positive(vf_add(x, vf_set(-0x1.fffffep-101f)), y, vf_set(0.0f));
}

INLINE vf scale_of(vi top, int zero_point) {
    vf x = vi_bits(top);
    return where_large(x, vf_mul(x, vf_set(1.0f / levels_of(zero_point))));
}

INLINE vf factor_of(vi top, int zero_point) {
    vf x = vi_bits(top);
    return where_large(x, vf_div(vf_set(levels_of(zero_point)), x));
}

INLINE void scales_of(vi top, int zero_point, float *scale, float *factor) {
    vf_store(scale, scale_of(top, zero_point));
    vf_store(factor, factor_of(top, zero_point));
}

/* Bits of infinity and of NaN exceed those of all numbers. */
INLINE int is_bad(vi any) { return vi_hmax(any) >= INFINITY_BITS; }

static NOINLINE int find_scales(maxima *m, const lw_post *p, int64_t window) {
    const ptrdiff_t line = p->scale_step.line, pixel = p->scale_step.pixel;
    float found[LW_FINISH_ROWS], *scale = p->scale + window;
    vi any = vi_and(m->any, vi_set(0x7fffffff)), seen = vi_set(0);
    const vi most = m->most < 0 ? vi_set(INT32_MAX) : vf_bits(vf_set(m->most));
    int rows = p->lines * p->count;
    for (int i = rows; i % VW; i++) m->top[i] = vi_set(0);
    for (int i = 0; i < rows; i += VW) {
        vi top = vi_hmax_rows(m->top + i);
        seen = vi_max(seen, top);
        top = vi_min(top, most);
        any = vi_max(any, top);
        scales_of(top, p->zero_point, found + i, m->factor + i);
    }
    if (pixel == 1)
        for (int l = 0; l < p->lines; l++, scale += line)
            memcpy(scale, found + l * p->count, (size_t)p->count * sizeof *scale);
    else
        for (int l = 0, i = 0; l < p->lines; l++, scale += line)
            for (int c = 0; c < p->count; c++, i++) scale[c * pixel] = found[i];
    m->seen = seen;
    return is_bad(any);
}

/* |x| * factor <= levels * (1 + 2^-23), which rounds to levels. */
INLINE vi to_levels(const int floor, const int zero_point, vf x, vf factor) {
    vf v = vf_mul(x, factor);
    if (floor) v = vf_max(v, vf_set(0.0f));
    return zero_point ? vi_add(vf_round(v), vi_set(zero_point)) : vf_round(v);
}

/* What takes values to levels: the first three are known where loops are compiled. */
typedef struct how {
    int leaky, floor, zero_point;
    vf alpha;
} how;

/* The first n levels of each of 1, 2 or 4 parts of four vectors, step bytes apart. */
#ifndef LW_STORE_N
INLINE void vi_store4_u8_n(const int parts, int64_t n, uint8_t *q, ptrdiff_t step, const vi *l) {
    uint8_t packed[4 * VW];
    vi_store4_u8(packed, l);
    for (int i = 0; i < parts; i++) memcpy(q + i * step, packed + i * 4 * VW / parts, (size_t)n);
}
#endif

/* `left` levels of each of `together` pixels, as many as four vectors hold, x_step and q_step
 * apart. */
INLINE void write_vectors(const int together, const how how, const int64_t left, const float *x,
                          ptrdiff_t x_step, const float *factor, uint8_t *q, ptrdiff_t q_step) {
    const int each = 4 / together; /* vectors of a pixel that are packed at once */
    vi l[4];
    UNROLLED (v, 4) { /* packing is a floor of its own for unsigned levels */
        const float *from = x + v / each * x_step + v % each * VW;
        const int64_t rest = left - v % each * VW;
        vf y = rest >= VW ? vf_load(from) : vf_load_n(from, rest > 0 ? rest : 0);
        l[v] = rest <= 0 ? vi_set(0)
                         : to_levels(how.floor && how.zero_point, how.zero_point,
                                     flattened(how.leaky, y, how.alpha), vf_set(factor[v / each]));
    }
    if (left == each * VW)
        vi_store4_u8_parts(together, q, q_step, l);
    else
        vi_store4_u8_n(together, left, q, q_step, l);
}

/* n levels of each: what is left behind whole vectors is known where n is. */
INLINE void write_pixels(const int together, const how how, const int64_t n, const float *x,
                         ptrdiff_t x_step, const float *factor, uint8_t *q, ptrdiff_t q_step) {
    const int64_t most = 4 / together * VW, whole = n / most * most;
    for (int64_t j = 0; j < whole; j += most)
        write_vectors(together, how, most, x + j, x_step, factor, q + j, q_step);
    if (whole < n)
        write_vectors(together, how, n - whole, x + whole, x_step, factor, q + whole, q_step);
}

INLINE void write_rows(const how how, const int64_t n, const levels *w) {
    const int together = n <= VW ? 4 : n <= 2 * VW ? 2 : 1;
    const lw_step from = w->step, to = w->p->q_step; /* stores of bytes may alias *w */
    const int lines = w->p->lines, count = w->p->count;
    const float *x = w->x, *factor = w->factor;
    uint8_t *q = w->p->q + w->at;
    for (int l = 0; l < lines; l++, x += from.line, q += to.line, factor += count) {
        int c = 0;
        for (; c + together <= count; c += together)
            write_pixels(together, how, n, x + c * from.pixel, from.pixel, factor + c,
                         q + c * to.pixel, to.pixel);
        for (; c < count; c++)
            write_pixels(1, how, n, x + c * from.pixel, 0, factor + c, q + c * to.pixel, 0);
    }
}

/* Usual lengths compile to their own loops. */
INLINE void write_lengths(const int leaky, const int floor, const int zero_point, const levels *w) {
    const how how = {leaky, floor, zero_point, vf_set(w->p->alpha)};
    switch (w->n) {
    case 4: write_rows(how, 4, w); break;
    case 8: write_rows(how, 8, w); break;
    case 12: write_rows(how, 12, w); break;
    case 16: write_rows(how, 16, w); break;
    case 24: write_rows(how, 24, w); break;
    case 32: write_rows(how, 32, w); break;
    case 48: write_rows(how, 48, w); break;
    case 64: write_rows(how, 64, w); break;
    case 96: write_rows(how, 96, w); break;
    case 128: write_rows(how, 128, w); break;
    default: write_rows(how, w->n, w);
    }
}

/* What rounding leaves of a value, in steps of 1 / LW_REST of a level. */
INLINE vi to_rests(const int zero_point, vf x, vf factor) {
    vf v = vf_mul(x, factor), rest = vf_fma(vf_set(-1.0f), vf_from(vf_round(v)), v);
    return vi_add(vf_round(vf_mul(rest, vf_set((float)LW_REST))), vi_set(zero_point));
}

/* Rests of the n channels behind their levels. */
static NOINLINE void write_rests(const levels *w) {
    const lw_post *p = w->p;
    for (int i = 0; i < p->lines * p->count; i++) {
        const int line = i / p->count, c = i % p->count;
        const float *x = w->x + line * w->step.line + c * w->step.pixel;
        uint8_t *q = p->q + line * p->q_step.line + c * p->q_step.pixel + w->n;
        for (int64_t j = 0; j < w->n; j += 4 * VW) {
            const int64_t left = w->n - j < 4 * VW ? w->n - j : 4 * VW;
            uint8_t packed[4 * VW];
            vi l[4];
            UNROLLED (v, 4) {
                const int64_t rest = left - v * VW;
                vf y = rest > 0 ? vf_load_n(x + j + v * VW, rest) : vf_set(0.0f);
                y = flattened(w->leaky, y, vf_set(p->alpha));
                l[v] = to_rests(p->zero_point, y, vf_set(w->factor[i]));
            }
            vi_store4_u8(packed, l);
            memcpy(q + j, packed, (size_t)left);
        }
    }
}

static NOINLINE void write_levels(const levels *w) {
    const int zero_point = w->p->zero_point;
    if (w->leaky)
        write_lengths(1, 0, zero_point, w);
    else if (w->floor)
        zero_point ? write_lengths(0, 1, zero_point, w) : write_lengths(0, 1, 0, w);
    else
        zero_point ? write_lengths(0, 0, zero_point, w) : write_lengths(0, 0, 0, w);
    if (w->p->rests) write_rests(w);
}

/* The maxima of n values of each pixel, or of what a LeakyReLU makes of them. */
INLINE void find_tops_of(const int leaky, const range range, const lw_post *p, const float *x,
                         lw_step step, const int64_t n, maxima *m) {
    const int64_t whole = n / VW * VW, rest = n - whole;
    vi any = vi_set(0), *to = m->top;
    vf above = above_of(range, p->zero_point), alpha = vf_set(p->alpha);
    for (int l = 0; l < p->lines; l++, x += step.line) {
        const float *y = x;
        for (int c = 0; c < p->count; c++, y += step.pixel) {
            vi top = vi_set(0);
            for (int64_t j = 0; j < whole; j += VW) {
                vf v = flattened(leaky, vf_load(y + j), alpha);
                track(range, weighed(range, v, above), &top, &any);
            }
            if (rest) {
                vf v = flattened(leaky, vf_load_n(y + whole, rest), alpha);
                track(range, weighed(range, v, above), &top, &any);
            }
            *to++ = top;
        }
    }
    m->any = any;
}

INLINE void find_tops(const int leaky, const range range, const lw_post *p, const float *x,
                      lw_step step, int64_t n, maxima *m) {
    switch (n) {
    case 8: find_tops_of(leaky, range, p, x, step, 8, m); break;
    case 16: find_tops_of(leaky, range, p, x, step, 16, m); break;
    case 24: find_tops_of(leaky, range, p, x, step, 24, m); break;
    case 32: find_tops_of(leaky, range, p, x, step, 32, m); break;
    case 48: find_tops_of(leaky, range, p, x, step, 48, m); break;
    case 64: find_tops_of(leaky, range, p, x, step, 64, m); break;
    case 96: find_tops_of(leaky, range, p, x, step, 96, m); break;
    case 128: find_tops_of(leaky, range, p, x, step, 128, m); break;
    default: find_tops_of(leaky, range, p, x, step, n, m);
    }
}

/* ---- what follows the sums ---------------------------------------------------------------- */

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

/* levels.h - the maxima of windows, their scales, and the levels of their values. A part of kern.c.
 */
#ifndef LW_SRC_LEVELS_H
#define LW_SRC_LEVELS_H

#include "activate.h"

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

#endif

/* first.h - the first layer: sums of gathered pixels, quantized at once. A part of kern.c.
 *
 * Two tiles are under way: while the dots of one wait in the queue, the values of the one before
 * become levels, and the pixels of the next are gathered. */
#ifndef LW_SRC_FIRST_H
#define LW_SRC_FIRST_H

#include "finish.h"

#include <math.h>

#ifndef LW_HMAX_FEW
#define vi_hmax_few vi_hmax_rows
#endif

/* Vectors of sums of a tile. They leave registers for a slice of the tile before: four vectors that
 * become levels between two steps of dots. The slices begin when the scales are known. */
enum { FIRST = LW_FIRST, SLICE = 4, STEPS = 6, SCALES_AT = 0, SLICES_AT = 2 };
_Static_assert(FIRST % SLICE == 0 && SLICES_AT + FIRST / SLICE <= STEPS, "slices have steps");

/* ---- gathering ---------------------------------------------------------------------------- */

/* The taps of a pixel. Moves of a fixed length write too far; what follows is written later. */
INLINE void gather_fixed(const lw_patches *g, const int pieces, const size_t length,
                         const uint8_t *src, uint8_t *to) {
    UNROLLED (p, pieces) {
        const uint8_t *from = src + g->piece[p];
        RELOAD(from); /* or addresses are added up in vectors */
        memcpy(to + p * g->bytes, from, length);
    }
}

INLINE void gather_any(const lw_patches *g, const uint8_t *src, uint8_t *to) {
    for (int p = 0; p < g->pieces; p++)
        memcpy(to + p * g->bytes, src + g->piece[p], (size_t)g->bytes);
}

/* Usual shapes have moves of their own: kernels of 3, 5 and 7 rows over three channels. */
typedef enum shape { ANY = 0, ROWS_3 = 3, ROWS_5 = 5, ROWS_7 = 7 } shape;

INLINE shape shape_of(const lw_patches *g) {
    if (g->pieces == 3 && g->bytes <= 16) return ROWS_3;
    if (g->pieces == 5 && g->bytes <= 16) return ROWS_5;
    return g->pieces == 7 && g->bytes <= 32 ? ROWS_7 : ANY;
}

INLINE void gather_pixel(const shape shape, const lw_patches *g, const uint8_t *src, uint8_t *to) {
    switch (shape) {
    case ROWS_3: gather_fixed(g, 3, 16, src, to); break;
    case ROWS_5: gather_fixed(g, 5, 16, src, to); break;
    case ROWS_7: gather_fixed(g, 7, 32, src, to); break;
    default: gather_any(g, src, to);
    }
}

INLINE void gather_pixels(const shape shape, const lw_patches *g, const uint8_t *src, int64_t n,
                          uint8_t *to) {
    const lw_patches one = *g; /* stores of bytes may alias *g */
    for (; n > 0; n--, src += one.step, to += one.ld) gather_pixel(shape, &one, src, to);
}

/* Apart, also of the kernels below: inlined, its addresses take registers that tiles need. */
static NOINLINE void gather(const lw_patches *g, const uint8_t *src, int64_t n, uint8_t *to) {
    switch (shape_of(g)) { /* each case compiles to its own loop */
    case ROWS_3: gather_pixels(ROWS_3, g, src, n, to); break;
    case ROWS_5: gather_pixels(ROWS_5, g, src, n, to); break;
    case ROWS_7: gather_pixels(ROWS_7, g, src, n, to); break;
    default: gather_pixels(ANY, g, src, n, to);
    }
}

/* ---- tiles -------------------------------------------------------------------------------- */

/* What tiles compile to loops of their own for. */
typedef struct first_kind {
    int nv; /* vectors of a window */
    range range;
    shape shape; /* ANY: few steps, too */
    int rests;   /* of lw_tensor */
} first_kind;

/* A tile whose sums are done: its values, what takes them to levels, and where those go, n channels
 * of each pixel. Where they fill no vector, levels are packed first. And the gathered pixels of the
 * two tiles behind it. */
typedef struct first_done {
    vi any, seen; /* of all tiles: the farthest below 0, if CLAMPED; the largest */
    float y[FIRST * VW], factor[FIRST + VW], found[FIRST + VW];
    float taken[NR], times[NR]; /* of a channel: minus the levels taken off, and what follows */
    uint8_t packed[FIRST * VW], patches[2 * FIRST * LW_PATCH + LW_SLACK];
    uint8_t *q;
    float *s;
    ptrdiff_t s_step;
    int64_t n;
    int zero_point;
} first_done;

INLINE int zero_of(const first_kind k, const first_done *d) {
    return k.range == SIGNED ? LW_MIDDLE : k.range == SKEWED ? d->zero_point : 0;
}

/* acc += one step of four channels. */
INLINE void first_step(const first_kind k, const uint8_t *p, const uint8_t *w, int64_t apart,
                       vi acc[FIRST]) {
    const int nv = k.nv;
    vb b[2 * NV];
    UNROLLED (j, nv) b[j] = vb_load(w + j / NV * apart + j % NV * VW * 4);
    UNROLLED (i, FIRST / nv) {
        va a = va_set(p + i * LW_PATCH);
        UNROLLED (j, nv) acc[i * nv + j] = v_dot4(acc[i * nv + j], a, b[j]);
    }
}

INLINE void first_values(const first_kind k, const lw_activation activation, const lw_first_args *a,
                         int64_t first, const vi acc[FIRST], first_done *d, vi top[FIRST]) {
    vi any = d->any;
    vf alpha = vf_set(a->alpha), lo = vf_set(a->lo), hi = vf_set(a->hi);
    vf above = above_of(k.range, d->zero_point);
    UNROLLED (i, FIRST / k.nv) top[i] = vi_set(0);
    UNROLLED (j, k.nv) {
        vf sb = vf_load(a->scaled + first + j * VW), bias = vf_load(a->bias + first + j * VW);
        UNROLLED (i, FIRST / k.nv) {
            vf x = vf_fma(vf_from(acc[i * k.nv + j]), sb, bias);
            x = activate(activation, x, alpha, lo, hi);
            vf_store(d->y + (i * k.nv + j) * VW, x);
            track(k.range, weighed(k.range, x, above), top + i, &any);
        }
    }
    if (k.range == CLAMPED) d->any = any;
}

/* What takes too many instructions to be repeated for every vector: in place. */
INLINE void silu_of(const range range, int mr, int nv, first_done *d, vi *top) {
    vf none = vf_set(0.0f), above = above_of(range, d->zero_point);
    for (int i = 0; i < mr; i++) {
        top[i] = vi_set(0);
        for (float *y = d->y + i * nv * VW, *end = y + nv * VW; y < end; y += VW) {
            vf_store(y, activate(LW_SILU, vf_load(y), none, none, none));
            track(range, weighed(range, vf_load(y), above), top + i, &d->any);
        }
    }
}

static NOINLINE void first_silu(range range, int mr, int nv, first_done *d, vi *top) {
    switch (range) {
    case SIGNED: silu_of(SIGNED, mr, nv, d, top); break;
    case SKEWED: silu_of(SKEWED, mr, nv, d, top); break;
    default: silu_of(CLAMPED, mr, nv, d, top);
    }
}

/* Values of sums, and the maxima of each pixel. Levels have a floor and a limit of their own, so
 * that a ReLU or a clip from 0 is none here. */
INLINE void first_activated(const first_kind k, const lw_first_args *a, int64_t first,
                            const vi acc[FIRST], first_done *d, vi top[FIRST]) {
    vi found[FIRST];
    switch (k.range == NONNEGATIVE ? LW_NONE : a->activation) {
    case LW_CLIP: first_values(k, LW_CLIP, a, first, acc, d, top); break;
    case LW_LEAKY: first_values(k, LW_LEAKY, a, first, acc, d, top); break;
    case LW_HARDSWISH: first_values(k, LW_HARDSWISH, a, first, acc, d, top); break;
    case LW_SILU:
        first_values(k, LW_NONE, a, first, acc, d, top);
        first_silu(k.range, FIRST / k.nv, k.nv, d, found);
        UNROLLED (i, FIRST / k.nv) top[i] = found[i];
        break;
    default: first_values(k, LW_NONE, a, first, acc, d, top);
    }
}

/* Whether a value is so large that it is no int32 when it is rounded to a level; others above the
 * limit become the largest level, as those below 0 become 0. */
INLINE int is_far(vi largest, float limit) {
    float far = limit * 0x1p20f; /* times the factor it still is one */
    int32_t bits;
    memcpy(&bits, &far, sizeof bits);
    return vi_any_above(largest, bits);
}

/* Scales of the pixels, and factors that give levels. Maxima above the limit become the limit. */
INLINE void first_scales(const first_kind k, const lw_first_args *a, const vi top[FIRST],
                         first_done *d) {
    const int mr = FIRST / k.nv, zero_point = zero_of(k, d);
    const float limit = k.range == NONNEGATIVE ? a->hi : INFINITY;
    vi rows[VW], seen = vi_set(0), most = vf_bits(vf_set(limit));
    for (int r = 0; r < mr; r += VW) {
        UNROLLED (i, VW) rows[i] = top[(r + i) % mr]; /* those beyond do not count */
        vi largest = 2 * mr <= VW ? vi_hmax_few(rows) : vi_hmax_rows(rows);
        seen = vi_max(seen, largest);
        scales_of(vi_min(largest, most), zero_point, d->found + r, d->factor + r);
    }
    if (d->s_step == 1)
        memcpy(d->s, d->found, (size_t)mr * sizeof(float));
    else
        UNROLLED (i, mr) d->s[i * d->s_step] = d->found[i];
    d->seen = vi_max(d->seen, seen);
    if (k.range == NONNEGATIVE && is_far(seen, limit))
        for (int i = 0; i < FIRST; i++)
            vf_store(d->y + i * VW, vf_min(vf_load(d->y + i * VW), vf_set(limit)));
}

/* As to_levels or to_rests: values v in levels, of channels from c on. */
INLINE vi levels_or_rests(const first_done *d, int c, vf v) {
    vf rest = vf_fma(vf_load(d->taken + c), vf_from(vf_round(v)), v);
    return vi_add(vf_round(vf_mul(rest, vf_load(d->times + c))), vi_set(d->zero_point));
}

/* The levels of four vectors; stores are a floor of their own. */
INLINE void first_levels(const first_kind k, const int slice, const first_done *d, uint8_t *q,
                         ptrdiff_t step) {
    const int parts = k.nv < SLICE ? SLICE / k.nv : 1, at = slice * SLICE;
    vi l[SLICE];
    UNROLLED (i, SLICE) {
        vf factor = vf_set(d->factor[(at + i) / k.nv]), y = vf_load(d->y + (at + i) * VW);
        l[i] = k.rests ? levels_or_rests(d, (at + i) % k.nv * VW, vf_mul(y, factor))
                       : to_levels(0, zero_of(k, d), y, factor);
    }
    vi_store4_u8_parts(parts, q + at / k.nv * step + at % k.nv * VW, step, l);
}

/* n bytes by moves of fixed lengths, the last of which may overlap. */
INLINE void move_short(uint8_t *to, const uint8_t *from, int64_t n) {
    if (n >= 16) {
        for (int64_t i = 0; i < n - 16; i += 16) memcpy(to + i, from + i, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else {
        for (int64_t i = 0; i < n; i++) to[i] = from[i];
    }
}

INLINE void first_unpack(const first_kind k, const first_done *d, ptrdiff_t step) {
    const int64_t n = d->n; /* stores of bytes may alias *d */
    uint8_t *q = d->q;
    for (int i = 0; i < FIRST / k.nv; i++, q += step) move_short(q, d->packed + i * k.nv * VW, n);
}

/* Pixels to be gathered. */
typedef struct first_next {
    const uint8_t *src;
    uint8_t *to;
} first_next;

/* A window of the pixels p: channels from `first` on. Channels that fill up the last panel are 0 by
 * sb and bias. Values of the tile before become levels, and then give way to those of this one. */
INLINE void first_tile(const first_kind k, const lw_first_args *a, const uint8_t *p, int64_t first,
                       const first_next *next, first_done *d, vi top[FIRST]) {
    const int nv = k.nv, mr = FIRST / nv, each = (mr + STEPS - 1) / STEPS;
    const int64_t apart =
        nv > NV && first + NR < a->oc ? a->panel_bytes : 0; /* the last may lack */
    const uint8_t *b = a->panels + first / NR * a->panel_bytes, *w = b + NR * 4;
    const uint8_t *end = p + 4 * a->k4;
    const int whole = d->n == nv * VW;
    const ptrdiff_t step = whole ? a->q_step : nv * VW;
    uint8_t *q = whole ? d->q : d->packed;
    vi acc[FIRST];
    UNROLLED (j, nv) {
        vi comp = vi_load((const int32_t *)(const void *)(b + j / NV * apart) + j % NV * VW);
        UNROLLED (i, mr) acc[i * nv + j] = comp;
    }
    if (k.shape == ANY) first_scales(k, a, top, d);
    UNROLLED (at, STEPS) {
        if (k.shape != ANY) {
            first_step(k, p, w, apart, acc);
            p += 4, w += NR * 4;
            if (at == SCALES_AT) first_scales(k, a, top, d);
            UNROLLED (i, each)
                if (at * each + i < mr) {
                    const int pixel = at * each + i;
                    gather_pixel(k.shape, &a->patches, next->src + pixel * a->patches.step,
                                 next->to + pixel * LW_PATCH);
                }
        }
        if (at >= SLICES_AT && at < SLICES_AT + mr * nv / SLICE)
            first_levels(k, at - SLICES_AT, d, q, step);
    }
    for (; p < end; p += 4, w += NR * 4) first_step(k, p, w, apart, acc);
    if (!whole) first_unpack(k, d, a->q_step);
    first_activated(k, a, first, acc, d, top);
    HIDE(d->y); /* memory, or the compiler keeps some in registers that dots need */
    if (k.shape == ANY) gather_pixels(ANY, &a->patches, next->src, mr, next->to);
}

/* Nothing is summed up any more. */
INLINE void first_rest(const first_kind k, const lw_first_args *a, const vi top[FIRST],
                       first_done *d) {
    const int wide = k.nv * VW, whole = d->n == wide;
    first_scales(k, a, top, d);
    UNROLLED (i, FIRST / k.nv * k.nv / SLICE)
        first_levels(k, i, d, whole ? d->q : d->packed, whole ? a->q_step : wide);
    if (!whole) first_unpack(k, d, a->q_step);
}

/* ---- rows of pixels ----------------------------------------------------------------------- */

/* The first pixel of a tile: its row and its column. */
typedef struct first_place {
    int64_t y, x;
} first_place;

/* That of the next tile; the last one of a row may do some pixels twice. */
INLINE first_place next_place(first_place at, int mr, int64_t n) {
    int64_t x = at.x + mr;
    if (x >= n) return (first_place){at.y + 1, 0};
    return (first_place){at.y, x < n - mr ? x : n - mr};
}

INLINE lw_status first_rows(const first_kind k, const lw_first_args *args, int64_t rows, int64_t n,
                            const uint8_t *src, uint8_t *q, float *s) {
    const lw_first_args a = *args; /* stores may alias *args */
    const int mr = FIRST / k.nv, wide = k.nv * VW;
    const int64_t window = a.window < a.oc ? a.window : a.oc;
    first_done d;
    first_next next = {src, d.patches + mr * LW_PATCH};
    uint8_t *now = d.patches;
    vi top[FIRST];
    RELOAD(now); /* gcc 12 takes runs inside an array for aligned */
    RELOAD(next.to);
    memset(d.y, 0, sizeof d.y); /* before the first tile lies one of no channels */
    d.q = d.packed, d.s = d.found, d.s_step = 0, d.n = 0;
    d.any = d.seen = vi_set(0), d.zero_point = a.zero_point;
    for (int i = 0; k.rests && i < NR; i++) {
        const int second = 2 * i >= a.oc;
        d.taken[i] = second ? -1.0f : 0.0f, d.times[i] = second ? LW_REST : 1.0f;
    }
    UNROLLED (i, FIRST) top[i] = vi_set(0);
    gather(&a.patches, src, mr, now);
    for (first_place at = {0, 0}; at.y < rows;) {
        first_place then = next_place(at, mr, n);
        if (then.y < rows) next.src = src + then.y * a.row + then.x * a.patches.step;
        for (int64_t c = 0; c < a.oc; c += window) {
            first_tile(k, &a, now, c, &next, &d, top);
            d.q = q + at.y * a.q_row + at.x * a.q_step + c;
            d.s = s + at.y * a.s_row + at.x * a.s_step + c / a.window;
            d.s_step = a.s_step, d.n = a.oc - c < wide ? a.oc - c : wide;
        }
        uint8_t *swap = now;
        now = next.to, next.to = swap, at = then;
    }
    first_rest(k, &a, top, &d);
    int limited = k.range == NONNEGATIVE && a.hi < INFINITY; /* what is above is no fault */
    int bad = is_bad(vi_and(d.any, vi_set(0x7fffffff))) || (!limited && is_bad(d.seen));
    return bad ? LW_NONFINITE : LW_OK;
}

/* Each range, width and shape of kernel compiles to its own loops: shapes that networks have. */
#define FIRST_ROWS(range, vectors, shape, rests)                                                   \
    case shape:                                                                                    \
        return first_rows((first_kind){vectors, range, shape, rests}, a, rows, n, src, q, s);
#define FIRST_OF(name, range, width, vectors, rests, ...)                                          \
    static lw_status first_##name##_##width(const lw_first_args *a, int64_t rows, int64_t n,       \
                                            const uint8_t *src, uint8_t *q, float *s) {            \
        switch (a->k4 >= STEPS ? shape_of(&a->patches) : ANY) {                                    \
            __VA_ARGS__                                                                            \
        default:                                                                                   \
            return first_rows((first_kind){vectors, range, ANY, rests}, a, rows, n, src, q, s);    \
        }                                                                                          \
    }
#define FIRST_WIDTHS(FIRST_RANGE)                                                                  \
    FIRST_RANGE(narrow, 1) FIRST_RANGE(panel, NV) FIRST_RANGE(wide, 2 * NV)
#define FIRST_SIGNED(width, nv) FIRST_OF(SIGNED, SIGNED, width, nv, 0)
#define FIRST_SKEWED(width, nv)                                                                    \
    FIRST_OF(SKEWED, SKEWED, width, nv, 0, FIRST_ROWS(SKEWED, nv, ROWS_3, 0))
#define FIRST_CLAMPED(width, nv) FIRST_OF(CLAMPED, CLAMPED, width, nv, 0)
#define FIRST_NONNEGATIVE(width, nv)                                                               \
    FIRST_OF(NONNEGATIVE, NONNEGATIVE, width, nv, 0,                                               \
             FIRST_ROWS(NONNEGATIVE, nv, ROWS_3, 0) FIRST_ROWS(NONNEGATIVE, nv, ROWS_7, 0))
FIRST_WIDTHS(FIRST_SIGNED)
FIRST_WIDTHS(FIRST_SKEWED)
FIRST_WIDTHS(FIRST_CLAMPED)
FIRST_WIDTHS(FIRST_NONNEGATIVE)
FIRST_OF(RESTS, SKEWED, narrow, 1, 1, FIRST_ROWS(SKEWED, 1, ROWS_3, 1))
FIRST_OF(RESTS, SKEWED, panel, NV, 1, FIRST_ROWS(SKEWED, NV, ROWS_3, 1))

static lw_status first(const lw_first_args *a, int64_t rows, int64_t n, const uint8_t *src,
                       float scale, uint8_t *q, float *s) {
    typedef lw_status of_rows(const lw_first_args *, int64_t, int64_t, const uint8_t *, uint8_t *,
                              float *);
    static of_rows *const of[][3] = {
        [SIGNED] = {first_SIGNED_narrow, first_SIGNED_panel, first_SIGNED_wide},
        [SKEWED] = {first_SKEWED_narrow, first_SKEWED_panel, first_SKEWED_wide},
        [CLAMPED] = {first_CLAMPED_narrow, first_CLAMPED_panel, first_CLAMPED_wide},
        [NONNEGATIVE] = {first_NONNEGATIVE_narrow, first_NONNEGATIVE_panel,
                         first_NONNEGATIVE_wide},
        [RANGES] = {first_RESTS_narrow, first_RESTS_panel, NULL}};
    for (int64_t c = 0; c < a->oc; c += VW) /* padded */
        vf_store(a->scaled + c, vf_mul(vf_load(a->sb + c), vf_set(scale)));
    const range range =
        a->rests ? RANGES : range_of(a->activation, a->lo, a->hi, a->zero_point);
    return of[range][a->vectors > NV ? 2 : a->vectors == NV](a, rows, n, src, q, s);
}

#endif

/* first.h - the first layer: sums of gathered pixels, finished while they are in registers.
 * A part of kern.c. */
#ifndef LW_SRC_FIRST_H
#define LW_SRC_FIRST_H

#include "finish.h"

#include <math.h>

#ifndef LW_FIRST
#define LW_FIRST LW_MR
#endif
enum { FIRST = LW_FIRST }; /* pixels of a tile: mode C leaves the registers of float sums free */

/* ---- gathering ---------------------------------------------------------------------------- */

/* Moves of a fixed length write too far; what follows is written later. */
INLINE void gather_fixed(const lw_patches *g, const int pieces, const size_t length,
                         const uint8_t *src, int64_t n, uint8_t *to) {
    const lw_patches one = *g; /* stores of bytes may alias *g */
    ptrdiff_t from[LW_PATCH_PIECES];
    UNROLLED (p, pieces) from[p] = one.piece[p];
    for (; n > 0; n--, src += one.step, to += one.ld)
        UNROLLED (p, pieces) memcpy(to + p * one.bytes, src + from[p], length);
}

#ifdef LW_MERGE
INLINE void gather_merged(const lw_patches *g, const uint8_t *src, int64_t n, uint8_t *to) {
    const lw_patches one = *g;
    const uint8_t *a = src + one.piece[0], *b = src + one.piece[1], *c = src + one.piece[2];
    for (; n > 0; n--, a += one.step, b += one.step, c += one.step, to += one.ld)
        store_merged(to, one.bytes, a, b, c);
}
#endif

INLINE void gather_pixels(const lw_patches *g, const uint8_t *src, int64_t n, uint8_t *to) {
#ifdef LW_MERGE
    if (g->pieces == 3 && g->bytes <= LW_MERGE) {
        gather_merged(g, src, n, to);
        return;
    }
#endif
    if (g->pieces == 3 && g->bytes <= 16)
        gather_fixed(g, 3, 16, src, n, to);
    else if (g->pieces == 5 && g->bytes <= 16)
        gather_fixed(g, 5, 16, src, n, to);
    else if (g->pieces == 7 && g->bytes <= 32)
        gather_fixed(g, 7, 32, src, n, to);
    else
        for (int64_t i = 0; i < n; i++)
            for (int p = 0; p < g->pieces; p++)
                memcpy(to + i * g->ld + p * g->bytes, src + i * g->step + g->piece[p],
                       (size_t)g->bytes);
}

static void gather(const lw_patches *g, const uint8_t *src, int64_t n, uint8_t *to) {
    gather_pixels(g, src, n, to);
}

/* ---- tiles -------------------------------------------------------------------------------- */

/* What becomes of the maxima of mr pixels: scales, and factors that give levels. Maxima above the
 * limit become the limit. Returns the bits of the largest one before. */
INLINE int32_t first_scales(const int mr, const vi *top, int zero_point, float limit, float *factor,
                            float *s, ptrdiff_t step) {
    float found[FIRST + VW];
    vi any = vi_set(0), most = vf_bits(vf_set(limit)), rows[VW];
    for (int r = 0; r < mr; r += VW) {
        UNROLLED (i, VW) rows[i] = top[(r + i) % mr]; /* those beyond do not count */
        vi largest = vi_hmax_rows(rows);
        any = vi_max(any, largest);
        scales_of(vi_min(largest, most), zero_point, found + r, factor + r);
    }
    HIDE(factor); /* read from memory, one by one */
    HIDE(found);
    UNROLLED (i, mr) s[i * step] = found[i];
    return vi_hmax(any);
}

/* Whether a value is so large that it is no int32 when it is rounded to a level; others above the
 * limit become the largest level, as those below 0 become 0. */
INLINE int is_far(int32_t largest, float limit) {
    float far = limit * 0x1p20f; /* times the factor it still is one */
    int32_t bits;
    memcpy(&bits, &far, sizeof bits);
    return largest > bits;
}

/* The levels of mr pixels of nv vectors; stores are a floor of their own. */
INLINE void first_levels(const int mr, const int nv, const int zero_point, vf f[FIRST][2 * NV],
                         const float *factor, uint8_t *q, ptrdiff_t step) {
    vi l[4];
    if (nv % 4 == 0) {
        UNROLLED (i, mr)
            for (int j = 0; j < nv; j += 4) {
                UNROLLED (v, 4) l[v] = to_levels(0, zero_point, f[i][j + v], vf_set(factor[i]));
                vi_store4_u8(q + i * step + j * VW, l);
            }
        return;
    }
    UNROLLED (i, mr) { /* two pixels at a time; the last one alone, twice */
        UNROLLED (v, 2) l[i % 2 * 2 + v] = to_levels(0, zero_point, f[i][v], vf_set(factor[i]));
        if (i % 2 == 0 && i + 1 == mr) l[2] = l[0], l[3] = l[1];
        if (i % 2 || i + 1 == mr) vi_store4_u8_parts(2, q + i / 2 * 2 * step, i % 2 ? step : 0, l);
    }
}

/* Pixels to be gathered. */
typedef struct first_next {
    const uint8_t *src;
    int64_t count;
    uint8_t *to;
} first_next;

/* A window of mr pixels: the channels of np panels from `first` on. Everything stays in registers
 * until it is levels. Channels that fill up the last panel are 0 by sb and bias. The pixels of the
 * next tile are gathered while dots wait in the queue, and are in the cache when they are read. */
INLINE int first_tile(const int mr, const int np, const lw_activation activation, const range range,
                      const lw_first_args *a, const uint8_t *p, int64_t first, uint8_t *q, float *s,
                      const first_next *next) {
    const int nv = np * NV;
    const int64_t n = a->oc - first < a->window ? a->oc - first : a->window;
    const int64_t apart = n > NR ? a->panel_bytes : 0; /* without a second panel: any bytes */
    const uint8_t *b = a->panels + first / NR * a->panel_bytes, *w = b + NR * 4;
    vi acc[FIRST][2 * NV], top[FIRST], any = vi_set(0);
    vf f[FIRST][2 * NV];
    UNROLLED (j, nv) {
        vi comp = vi_load((const int32_t *)(const void *)(b + j / NV * apart) + j % NV * VW);
        UNROLLED (i, mr) acc[i][j] = comp;
    }
    for (const uint8_t *end = p + 4 * a->k4; p < end; p += 4, w += NR * 4) {
        vb bj[2 * NV];
        UNROLLED (j, nv) bj[j] = vb_load(w + j / NV * apart + j % NV * VW * 4);
        UNROLLED (i, mr) {
            va ai = va_set(p + i * LW_PATCH);
            UNROLLED (j, nv) acc[i][j] = v_dot4(acc[i][j], ai, bj[j]);
        }
    }
    gather_pixels(&a->patches, next->src, next->count, next->to);
    UNROLLED (i, mr) top[i] = vi_set(0);
    UNROLLED (j, nv) {
        vf sb = vf_load(a->scaled + first + j * VW), bias = vf_load(a->bias + first + j * VW);
        vf alpha = vf_set(a->alpha), lo = vf_set(a->lo), hi = vf_set(a->hi);
        UNROLLED (i, mr) {
            vf y = vf_fma(vf_from(acc[i][j]), sb, bias);
            f[i][j] = activate(activation, y, alpha, lo, hi);
            track(range, f[i][j], top + i, &any);
        }
    }
    float factor[FIRST + VW];
    uint8_t bytes[FIRST * NR], *to = q + first;
    const int zero_point = range == SIGNED ? 128 : 0;
    const int whole = n == nv * VW;
    const float limit = range == NONNEGATIVE ? a->hi : INFINITY;
    int32_t largest =
        first_scales(mr, top, zero_point, limit, factor, s + first / a->window, a->s_step);
    int bad = largest >= INFINITY_BITS && limit == INFINITY;
    if (range == CLAMPED) bad |= is_bad(vi_and(any, vi_set(0x7fffffff)));
    if (range == NONNEGATIVE && is_far(largest, limit))
        UNROLLED (i, mr)
            UNROLLED (j, nv) f[i][j] = vf_min(f[i][j], vf_set(limit));
    first_levels(mr, nv, zero_point, f, factor, whole ? to : bytes, whole ? a->q_step : nv * VW);
    if (!whole)
        for (int i = 0; i < mr; i++) memcpy(to + i * a->q_step, bytes + i * nv * VW, (size_t)n);
    return bad;
}

/* ---- rows of pixels ----------------------------------------------------------------------- */

/* Pixels of the next tile, which begins at *at or before: the last ones of a row may be done twice.
 */
INLINE int tile_pixels(const int many, const int few, int64_t n, int64_t *at) {
    int64_t left = n - *at;
    int count = left > 2 * few ? many : few;
    if (left < count) *at = n - count;
    return count;
}

INLINE lw_status first_row(const int np, const lw_activation activation, const range range,
                           const lw_first_args *a, int64_t n, const uint8_t *src, uint8_t *q,
                           float *s) {
    const int many = FIRST / np, few = FIRST / np >= 7 ? 4 / np : 1;
    uint8_t *now = a->patch;
    first_next next = {src, 0, now + FIRST * LW_PATCH};
    int64_t at = 0, window = a->window < a->oc ? a->window : a->oc;
    int bad = 0, count = tile_pixels(many, few, n, &at);
    gather(&a->patches, src, count, now);
    while (at < n) {
        int64_t then = at + count;
        int more = then < n ? tile_pixels(many, few, n, &then) : 0;
        next.src = src + then * a->patches.step, next.count = more;
        for (int64_t c = 0; c < a->oc; c += window) {
            uint8_t *to = q + at * a->q_step;
            float *scales = s + at * a->s_step;
            bad |= count == many
                       ? first_tile(many, np, activation, range, a, now, c, to, scales, &next)
                       : first_tile(few, np, activation, range, a, now, c, to, scales, &next);
            next.count = 0;
        }
        uint8_t *swap = now;
        now = next.to, next.to = swap, at = then, count = more;
    }
    return bad ? LW_NONFINITE : LW_OK;
}

#define FIRST_OF(activation, range)                                                                \
    static lw_status first_##activation##_##range(const lw_first_args *a, int64_t n,               \
                                                  const uint8_t *src, uint8_t *q, float *s) {      \
        return a->window <= NR || a->oc <= NR ? first_row(1, activation, range, a, n, src, q, s)   \
                                              : first_row(2, activation, range, a, n, src, q, s);  \
    }
FIRST_OF(LW_NONE, SIGNED)
FIRST_OF(LW_NONE, CLAMPED)
FIRST_OF(LW_NONE, NONNEGATIVE)
FIRST_OF(LW_CLIP, SIGNED)
FIRST_OF(LW_CLIP, CLAMPED)
FIRST_OF(LW_LEAKY, SIGNED)
FIRST_OF(LW_LEAKY, CLAMPED)
FIRST_OF(LW_HARDSWISH, SIGNED)
FIRST_OF(LW_HARDSWISH, CLAMPED)
FIRST_OF(LW_SILU, SIGNED)
FIRST_OF(LW_SILU, CLAMPED)

static lw_status first(const lw_first_args *a, int64_t n, const uint8_t *src, float scale,
                       uint8_t *q, float *s) {
    typedef lw_status rows(const lw_first_args *, int64_t, const uint8_t *, uint8_t *, float *);
    static rows *const of[][3] = {
        /* levels have a floor and a limit of their own */
        [LW_NONE] = {first_LW_NONE_SIGNED, first_LW_NONE_CLAMPED, NULL},
        [LW_CLIP] = {first_LW_CLIP_SIGNED, first_LW_CLIP_CLAMPED, first_LW_NONE_NONNEGATIVE},
        [LW_LEAKY] = {first_LW_LEAKY_SIGNED, first_LW_LEAKY_CLAMPED, NULL},
        [LW_HARDSWISH] = {first_LW_HARDSWISH_SIGNED, first_LW_HARDSWISH_CLAMPED, NULL},
        [LW_SILU] = {first_LW_SILU_SIGNED, first_LW_SILU_CLAMPED, NULL}};
    for (int64_t c = 0; c < a->oc; c += VW) /* padded */
        vf_store(a->scaled + c, vf_mul(vf_load(a->sb + c), vf_set(scale)));
    range range = range_of(a->activation, a->lo, a->hi, a->zero_point);
    return of[a->activation][range](a, n, src, q, s);
}

#endif

/* dot_pairs.h - sums of a dense product that become 16-bit values in the registers of their tile,
 * for a depthwise layer behind it. A part of kern.c. */
#ifndef LW_SRC_DOT_PAIRS_H
#define LW_SRC_DOT_PAIRS_H

#include "depthwise.h"

/* A tile's first pixel in q and in scale; the pair that begins with it or, if `upper`, ends. */
typedef struct pair_tile {
    const uint8_t *a;
    const float *sa;
    int32_t *to;
    int upper;
} pair_tile;

INLINE void store_pairs(const int upper, const int mr, const int nv, const lw_pairs_out *out,
                        int32_t *to, vf f[ROWS][NV]) {
    const ptrdiff_t step = out->step;
    vf limit = vf_set(out->limit);
    UNROLLED (j, nv) {
        vi y[ROWS];
        if (j >= out->vectors) break;
        UNROLLED (i, mr) y[i] = vf_round(vf_min(limit, f[i][j]));
        int32_t *at = to + j * VW;
        if (upper) {
            vi lower = vi_and(vi_load(at), vi_set(0xffff));
            vi_store(at, v16_join(lower, y[0]));
            at += step;
        }
        UNROLLED (i, (mr - upper) / 2)
            vi_store(at + i * step, v16_join(y[upper + 2 * i], y[upper + 2 * i + 1]));
        if ((mr - upper) % 2)
            vi_store(at + (mr - upper) / 2 * step, v16_join(y[mr - 1], vi_set(0)));
    }
}

INLINE void pair_tile_of(const int mr, const int nv, int windows, const lw_win *win,
                         const lw_pixels *from, const uint8_t *b, const lw_pairs_out *out,
                         pair_tile t) {
    vf f[ROWS][NV];
    UNROLLED (i, mr)
        UNROLLED (j, nv) f[i][j] = vf_set(0.0f);
    for (const lw_win *end = win + windows; win < end; win++) {
        const uint8_t *panel = b + win->b_off;
        const float *sa = t.sa + win->s_off;
        vi acc[ROWS][NV];
        RELOAD(from);
        UNROLLED (i, mr)
            UNROLLED (j, nv) acc[i][j] = vi_load((const int32_t *)(const void *)panel + j * VW);
        dot_window(mr, nv, win, t.a, from->a_step.pixel, panel + NR * 4, acc);
        UNROLLED (i, mr) {
            vf s = vf_set(sa[i * from->sa_step.pixel]);
            UNROLLED (j, nv) f[i][j] = vf_fma(vf_from(acc[i][j]), s, f[i][j]);
        }
    }
    UNROLLED (j, nv) {
        vf sb = vf_load(out->sb + j * VW), bias = vf_load(out->bias + j * VW);
        UNROLLED (i, mr) f[i][j] = vf_fma(f[i][j], sb, bias);
    }
    if (t.upper)
        store_pairs(1, mr, nv, out, t.to, f);
    else
        store_pairs(0, mr, nv, out, t.to, f);
}

#define DOT_PAIRS(name, mr, nv)                                                                    \
    static void CONCAT(name##_, mr)(int windows, const lw_win *win, const lw_pixels *from,         \
                                    const uint8_t *b, const lw_pairs_out *out) {                   \
        pair_tile t = {from->a, from->sa, out->to, out->upper};                                    \
        for (int left = from->count; left > 0; left -= mr) {                                       \
            pair_tile_of(mr, nv, windows, win, from, b, out, t);                                   \
            t.a += mr * from->a_step.pixel, t.sa += mr * from->sa_step.pixel;                      \
            t.to += (t.upper + mr) / 2 * out->step;                                                \
            t.upper ^= mr % 2;                                                                     \
        }                                                                                          \
    }
#define WIDE_PAIRS(mr) DOT_PAIRS(dot_pairs, mr, NV)
/* clang-format off */
CONCAT(TIMES_, LW_MR)(WIDE_PAIRS)
#ifdef LW_NARROW
#define NARROW_PAIRS(mr) DOT_PAIRS(narrow_pairs, mr, 1)
NARROW_TIMES(NARROW_PAIRS)
#endif
/* clang-format on */

#endif

/* dot_rows.h - sums of a dense product that the tile finishes in its registers for a depthwise
 * layer behind it: as 16-bit values, or as values and their largest. A part of kern.c. */
#ifndef LW_SRC_DOT_ROWS_H
#define LW_SRC_DOT_ROWS_H

#include "depthwise.h"

/* A tile's first pixel in q and in scale, and its number, from the first of the first pair on. */
typedef struct row_tile {
    const uint8_t *a;
    const float *sa;
    ptrdiff_t x;
} row_tile;

INLINE void store_pairs(const int upper, const int mr, const int nv, const lw_row_out *out,
                        int32_t *to, vf f[ROWS][NV]) {
    const ptrdiff_t step = out->step;
    vf limit = vf_set(out->limit);
    UNROLLED (j, nv) {
        vi y[ROWS];
        if (j >= out->vectors) break;
        UNROLLED (i, mr) y[i] = vf_round(vf_min(limit, f[i][j])); /* as `half` has it */
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

INLINE void store_values(const int floored, const int mr, const int nv, const lw_row_out *out,
                         float *y, vf f[ROWS][NV]) {
    const ptrdiff_t step = out->step; /* stores may alias *out */
    vf alpha = vf_set(out->alpha), none = vf_set(0.0f);
    UNROLLED (j, nv) {
        vi top = vf_bits(vf_load(out->top + j * VW));
        UNROLLED (i, mr) {
            vf x = floored ? vf_max(f[i][j], none) : flattened(1, f[i][j], alpha);
            vf_store(y + i * step + j * VW, x);
            top = vi_max(top, vi_and(vf_bits(x), vi_set(0x7fffffff)));
        }
        vf_store(out->top + j * VW, vi_bits(top));
    }
}

/* y of the tile in mode A, as dot_tile has it. */
INLINE void sum_chunks(const int mr, const int nv, int windows, const lw_win *win,
                       const lw_pixels *from, const uint8_t *b, const lw_row_out *out, row_tile t,
                       vf f[ROWS][NV]) {
    UNROLLED (i, mr)
        UNROLLED (j, nv) f[i][j] = vf_set(0.0f);
    for (const lw_win *end = win + windows; win < end; win++) {
        RELOAD(from);
        dot_chunk(0, mr, nv, LW_A, win, from, b, t.a, t.sa, f); /* most are short */
    }
    UNROLLED (j, nv) {
        vf sb = vf_load(out->sb + j * VW), bias = vf_load(out->bias + j * VW);
        UNROLLED (i, mr) f[i][j] = vf_fma(f[i][j], sb, bias);
    }
}

/* The same in mode C: one int32 sum, as dot_tile_c has it. */
INLINE void sum_at_once(const int mr, const int nv, int windows, const lw_win *win,
                        const lw_pixels *from, const uint8_t *b, const lw_row_out *out, row_tile t,
                        vf f[ROWS][NV]) {
    vi acc[ROWS][NV];
    UNROLLED (i, mr)
        UNROLLED (j, nv) acc[i][j] = vi_load((const int32_t *)(const void *)b + j * VW);
    for (const lw_win *end = win + windows; win < end; win++) {
        RELOAD(from);
        dot_any(mr, nv, win->k4, t.a + win->a_off, from->a_step.pixel, b + win->b_off, acc);
    }
    UNROLLED (j, nv) {
        vf sb = vf_load(out->sb + j * VW), bias = vf_load(out->bias + j * VW);
        UNROLLED (i, mr) {
            vf s = vf_set(t.sa[i * from->sa_step.pixel]);
            f[i][j] = vf_fma(vf_from(acc[i][j]), vf_mul(sb, s), bias);
        }
    }
}

INLINE void dot_row(const int mr, const int nv, const lw_mode mode, const int limited, int windows,
                    const lw_win *win, const lw_pixels *from, const uint8_t *b,
                    const lw_row_out *out) {
    row_tile t = {from->a, from->sa, out->upper};
    for (int left = from->count; left > 0; left -= mr) {
        vf f[ROWS][NV];
        if (mode == LW_C)
            sum_at_once(mr, nv, windows, win, from, b, out, t, f);
        else
            sum_chunks(mr, nv, windows, win, from, b, out, t, f);
        if (limited) {
            int32_t *to = out->pair + t.x / 2 * out->step;
            t.x % 2 ? store_pairs(1, mr, nv, out, to, f) : store_pairs(0, mr, nv, out, to, f);
        } else {
            float *y = out->y + (t.x - out->upper) * out->step;
            out->floored ? store_values(1, mr, nv, out, y, f) : store_values(0, mr, nv, out, y, f);
        }
        t.a += mr * from->a_step.pixel, t.sa += mr * from->sa_step.pixel;
        t.x += mr;
    }
}

/* Short sums are of one chunk, and cost little more than what a tile finds out before: each case
 * compiles to its own loop. */
#define DOT_ROW(name, mr, nv, mode)                                                                \
    static void name(int windows, const lw_win *win, const lw_pixels *from, const uint8_t *b,      \
                     const lw_row_out *out) {                                                      \
        switch ((out->limit > 0) * 2 + (windows == 1)) {                                           \
        case 0: dot_row(mr, nv, mode, 0, windows, win, from, b, out); break;                       \
        case 1: dot_row(mr, nv, mode, 0, 1, win, from, b, out); break;                             \
        case 2: dot_row(mr, nv, mode, 1, windows, win, from, b, out); break;                       \
        default: dot_row(mr, nv, mode, 1, 1, win, from, b, out);                                   \
        }                                                                                          \
    }
#define WIDE_ROW(mr)                                                                               \
    DOT_ROW(dot_row_LW_A_##mr, mr, NV, LW_A)                                                       \
    DOT_ROW(dot_row_LW_C_##mr, mr, NV, LW_C)
/* clang-format off */
CONCAT(TIMES_, LW_MR)(WIDE_ROW)
#ifdef LW_NARROW
#define NARROW_ROW(mr)                                                                             \
    DOT_ROW(narrow_row_LW_A_##mr, mr, 1, LW_A)                                                     \
    DOT_ROW(narrow_row_LW_C_##mr, mr, 1, LW_C)
NARROW_TIMES(NARROW_ROW)
#endif
/* clang-format on */

#endif

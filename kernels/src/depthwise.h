/* depthwise.h - sums of a depthwise layer in 16 bits; lw.h says what they are. A part of kern.c.
 *
 * Two source rows lie side by side: a lane holds the values of one channel of both, so that one
 * instruction multiplies two taps. Two output rows share what is loaded. */
#ifndef LW_SRC_DEPTHWISE_H
#define LW_SRC_DEPTHWISE_H

#include "finish.h"

static void pair_rows(int n, const uint8_t *a, const uint8_t *b, ptrdiff_t pixel_bytes,
                      const int32_t *ratio, int zero_point, int32_t *out) {
    vi offset = vi_set((zero_point << 7) * 0x10001);
    for (int i = 0; i < n; i++, a += pixel_bytes, b += pixel_bytes, out += 2 * VW) {
        vi pair[2], by = vi_set(ratio[i]);
        v16_pairs(a, b, pair); /* q << 7 */
        UNROLLED (v, 2) {
            if (zero_point) pair[v] = v16_sub(pair[v], offset);
            vi_store(out + v * VW, v16_mulhrs(pair[v], by));
        }
    }
}

static void ratios(int64_t n, const float *scale, float factor, int32_t *ratio) {
    vf by = vf_set(factor);
    for (int64_t i = 0; i < n; i += VW) /* both are padded to whole vectors */
        vi_store(ratio + i, vf_round(vf_mul(vf_load(scale + i), by)));
}

/* acc += the products of one tap. */
INLINE void depthwise_tap(const int rows, const int32_t *p, ptrdiff_t step, const int32_t *w,
                          vi acc[2][DW]) {
    vi weight[2];
    UNROLLED (r, rows) weight[r] = vi_load(w + r * VW);
    UNROLLED (j, DW) {
        vi pair = vi_load(p + j * step);
        UNROLLED (r, rows) acc[r][j] = vi_dot2(acc[r][j], pair, weight[r]);
    }
    HIDE(p); /* or the compiler loads all taps first, and spills */
}

INLINE void depthwise_tile(const int rows, const int three, const lw_depthwise_args *a) {
    vi acc[2][DW];
    UNROLLED (r, rows)
        UNROLLED (j, DW) acc[r][j] = vi_set(0);
    const int32_t *w = a->w, *const *line = a->p;
    const ptrdiff_t step = a->step, tap = a->tap, at = a->at, ldy = a->ldy;
    if (three) {
        UNROLLED (k, 2)
            UNROLLED (x, 3)
                depthwise_tap(rows, line[k] + at + x * tap, step, w + (k * 3 + x) * rows * VW, acc);
    } else {
        const int64_t kw = a->kw, pairs = a->pairs;
        for (int64_t k = 0; k < pairs; k++)
            for (int64_t x = 0; x < kw; x++, w += rows * VW)
                depthwise_tap(rows, line[k] + at + x * tap, step, w, acc);
    }
    vf scale = vf_load(a->scale), bias = vf_load(a->bias);
    UNROLLED (r, rows) {
        float *y = a->y + r * a->row;
        UNROLLED (j, DW) vf_store(y + j * ldy, vf_fma(vf_from(acc[r][j]), scale, bias));
    }
}

/* Three rows and columns compile to code without loops. */
static void depthwise_1(const lw_depthwise_args *a) { depthwise_tile(1, 0, a); }
static void depthwise_2(const lw_depthwise_args *a) { depthwise_tile(2, 0, a); }
static void depthwise_1_3x3(const lw_depthwise_args *a) { depthwise_tile(1, 1, a); }
static void depthwise_2_3x3(const lw_depthwise_args *a) { depthwise_tile(2, 1, a); }

#endif

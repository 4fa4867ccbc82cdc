/* softmax.h - rows of scores become exponentials, and what makes shares of them. A part of kern.c.
 */
#ifndef LW_SRC_SOFTMAX_H
#define LW_SRC_SOFTMAX_H

#include "isa.h"

#include <math.h>

enum { SUM_LANES = 16, SUMS = SUM_LANES / VW };

/* y = x (+ mask). Returns the largest, infinite if there is none or one is NaN. */
INLINE float add_mask(const float *x, const float *mask, int64_t n, float *y) {
    const int64_t whole = n / VW * VW;
    float lanes[VW], top = -INFINITY;
    vf tops = vf_set(-INFINITY);
    vi any = vi_set(0);
    for (int64_t j = 0; j < n; j += VW) {
        vf t = vf_load_n(x + j, n - j);
        if (mask) t = vf_add(t, vf_load_n(mask + j, n - j));
        any = vi_max(any, vi_and(vf_bits(t), vi_set(0x7fffffff)));
        vf_store_n(y + j, t, n - j);
        if (j < whole) tops = vf_max(t, tops);
    }
    vf_store(lanes, tops);
    for (int i = 0; i < VW; i++) top = lanes[i] > top ? lanes[i] : top;
    for (int64_t j = whole; j < n; j++) top = y[j] > top ? y[j] : top;
    return vi_hmax(any) > INFINITY_BITS ? INFINITY : top;
}

/* y = exp(y - top). Returns the sum, added up in SUM_LANES lanes whatever the vectors are. */
INLINE float exponentials(float top, int64_t n, float *y) {
    float lanes[SUM_LANES];
    vf sums[SUMS], minus = vf_set(-top);
    UNROLLED (v, SUMS) sums[v] = vf_set(0.0f);
    for (int64_t j = 0; j < n; j += SUM_LANES)
        UNROLLED (v, SUMS) {
            int64_t at = j + v * VW, left = n - at;
            if (left <= 0) continue;
            vf e = exp_v(vf_add(vf_load_n(y + at, left), minus));
            if (left < VW) e = vf_first_n(e, left);
            vf_store_n(y + at, e, left);
            sums[v] = vf_add(sums[v], e);
        }
    UNROLLED (v, SUMS) vf_store(lanes + v * VW, sums[v]);
    for (int half = SUM_LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

static lw_status softmax(int64_t rows, const float *x, ptrdiff_t ldx, const float *mask,
                         ptrdiff_t ldmask, int64_t n, float *y, float *factor) {
    lw_status status = LW_OK;
    for (int64_t r = 0; r < rows; r++, x += ldx, y += n) {
        float top = add_mask(x, mask ? mask + r * ldmask : NULL, n, y);
        if (!(top > -INFINITY && top < INFINITY)) {
            status = LW_NONFINITE;
            top = 0.0f;
        }
        factor[r] = 1.0f / exponentials(top, n, y);
    }
    return status;
}

#endif

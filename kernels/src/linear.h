/* linear.h - rows of pixels between those that there are. A part of kern.c. */
#ifndef LW_SRC_LINEAR_H
#define LW_SRC_LINEAR_H

#include "isa.h"

INLINE vf between(vf a, vf b, vf part) {
    return vf_add(a, vf_mul(vf_add(b, vf_mul(a, vf_set(-1.0f))), part));
}

static void linear_row(const lw_linear_row_args *a) {
    const int64_t c = a->c, n = a->n;
    const vf down = vf_set(a->part);
    float *y = a->y;
    for (int64_t i = 0; i < n; i++, y += a->y_step) {
        const ptrdiff_t left = a->column[i] * a->step, right = left + (a->parts[i] > 0) * a->step;
        const vf across = vf_set(a->parts[i]);
        for (int64_t j = 0; j < c; j += VW) {
            const float *over = a->over + j, *under = a->under + j;
            vf top = between(vf_load_n(over + left, c - j), vf_load_n(over + right, c - j), across);
            vf low =
                between(vf_load_n(under + left, c - j), vf_load_n(under + right, c - j), across);
            vf_store_n(y + j, between(top, low, down), c - j);
        }
    }
}

#endif

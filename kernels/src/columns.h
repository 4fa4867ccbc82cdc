/* columns.h - arithmetic of one column with another. A part of kern.c. */
#ifndef LW_SRC_COLUMNS_H
#define LW_SRC_COLUMNS_H

#include "isa.h"

INLINE void column_of(const lw_column_op op, int64_t n, const float *a, const float *b, float *y) {
    for (int64_t i = 0; i < n; i += VW) {
        vf x = vf_load(a + i), z = vf_load(b + i);
        switch (op) {
        case LW_ADD: x = vf_add(x, z); break;
        case LW_SUB: x = vf_add(x, vf_mul(z, vf_set(-1.0f))); break;
        case LW_MUL: x = vf_mul(x, z); break;
        case LW_DIV: x = vf_div(x, z); break;
        case LW_MAX: x = vf_max(x, z); break;
        case LW_EXP: x = exp_v(x); break;
        }
        vf_store(y + i, x);
    }
}

static void column(lw_column_op op, int64_t n, const float *a, const float *b, float *y) {
    switch (op) { /* each case compiles to its own loop */
    case LW_ADD: column_of(LW_ADD, n, a, b, y); break;
    case LW_SUB: column_of(LW_SUB, n, a, b, y); break;
    case LW_MUL: column_of(LW_MUL, n, a, b, y); break;
    case LW_DIV: column_of(LW_DIV, n, a, b, y); break;
    case LW_MAX: column_of(LW_MAX, n, a, b, y); break;
    case LW_EXP: column_of(LW_EXP, n, a, b, y); break;
    }
}

#endif

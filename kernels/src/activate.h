/* activate.h - activations of a vector of sums, and of rows of them in place. A part of kern.c. */
#ifndef LW_SRC_ACTIVATE_H
#define LW_SRC_ACTIVATE_H

#include "isa.h"

/* exp on [-87, 88]: x = n ln 2 + r, |r| <= ln(2)/2, Taylor to the seventh power (error of the
 * cut < 2^-24), times 2^n by the exponent field. ln 2 in two parts, the first of few bits. */
INLINE vf exp_v(vf x) {
    x = vf_min(vf_max(x, vf_set(-87.0f)), vf_set(88.0f));
    vf n = vf_rint(vf_mul(x, vf_set(0x1.715476p+0f)));
    vf r = vf_fma(n, vf_set(-0x1.62e4p-1f), x);
    r = vf_fma(n, vf_set(-0x1.7f7d1cp-20f), r);
    vf p = vf_set(1.0f / 5040);
    p = vf_fma(p, r, vf_set(1.0f / 720));
    p = vf_fma(p, r, vf_set(1.0f / 120));
    p = vf_fma(p, r, vf_set(1.0f / 24));
    p = vf_fma(p, r, vf_set(1.0f / 6));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    return vi_bits(vi_add(vf_bits(p), vi_shl23(vf_round(n))));
}

/* erf within 4e-7: x P(x^2) / Q(x^2) on [-4, 4], where it is 1 at the end. Source: the rational
 * minimax approximation of Eigen's generic_fast_erf. */
INLINE vf erf_v(vf x) {
    x = vf_min(vf_max(x, vf_set(-4.0f)), vf_set(4.0f));
    vf s = vf_mul(x, x);
    vf p = vf_set(-2.72614225801306e-10f);
    p = vf_fma(p, s, vf_set(2.77068142495902e-08f));
    p = vf_fma(p, s, vf_set(-2.10102402082508e-06f));
    p = vf_fma(p, s, vf_set(-5.69250639462346e-05f));
    p = vf_fma(p, s, vf_set(-7.34990630326855e-04f));
    p = vf_fma(p, s, vf_set(-2.95459980854025e-03f));
    p = vf_fma(p, s, vf_set(-1.60960333262415e-02f));
    vf q = vf_set(-1.45660718464996e-05f);
    q = vf_fma(q, s, vf_set(-2.13374055278905e-04f));
    q = vf_fma(q, s, vf_set(-1.68282697438203e-03f));
    q = vf_fma(q, s, vf_set(-7.37332916720468e-03f));
    q = vf_fma(q, s, vf_set(-1.42647390514189e-02f));
    return vf_div(vf_mul(x, p), q);
}

INLINE vf activate(const lw_activation activation, vf y, vf alpha, vf lo, vf hi) {
    vf zero = vf_set(0.0f), one = vf_set(1.0f);
    switch (activation) {
    case LW_RELU: return vf_max(y, zero);
    case LW_CLIP: return vf_min(vf_max(y, lo), hi);
    case LW_LEAKY: return vf_positive(y, y, vf_mul(y, alpha));
    case LW_HARDSWISH: {
        vf gate = vf_fma(y, vf_set(1.0f / 6), vf_set(0.5f));
        return vf_mul(y, vf_min(vf_max(gate, zero), one));
    }
    case LW_SILU: return vf_div(y, vf_add(one, exp_v(vf_mul(y, vf_set(-1.0f)))));
    case LW_GELU: {
        vf gate = vf_add(one, erf_v(vf_mul(y, vf_set(0.70710678f))));
        return vf_mul(vf_mul(y, vf_set(0.5f)), gate);
    }
    default: return y;
    }
}

/* Whether a LeakyReLU is the larger of two values. */
INLINE int is_flat(lw_activation activation, float alpha) {
    return activation == LW_LEAKY && alpha > 0 && alpha <= 1;
}

INLINE vf flattened(const int flat, vf y, vf alpha) {
    return flat ? vf_max(y, vf_mul(y, alpha)) : y;
}

/* ---- rows ---------------------------------------------------------------------------------- */

INLINE int32_t activate_of(const lw_activation activation, const lw_activate_args *args) {
    const lw_activate_args a = *args; /* stores may alias *args */
    vi top = vi_set(0);               /* bits of |y| order as the numbers do */
    vf alpha = vf_set(a.alpha), lo = vf_set(a.lo), hi = vf_set(a.hi);
    float *f = a.f;
    const int adjacent = a.n == a.ldf; /* then all pixels are one row, and no more is written */
    const int64_t rows = adjacent ? 1 : a.count, n = adjacent ? a.n * a.count : a.n;
    for (int64_t i = 0; i < rows; i++, f += a.ldf)
        for (int64_t j = 0; j < n; j += VW) {
            vf y = activate(activation, vf_load(f + j), alpha, lo, hi);
            if (n - j < VW) y = vf_first_n(y, n - j);
            vf_store_n(f + j, y, adjacent ? n - j : VW);
            top = vi_max(top, vi_and(vf_bits(y), vi_set(0x7fffffff)));
        }
    return vi_hmax(top);
}

static int32_t activate_rows(const lw_activate_args *a) {
    switch (a->activation) { /* each case compiles to its own loop */
    case LW_RELU: return activate_of(LW_RELU, a);
    case LW_CLIP: return activate_of(LW_CLIP, a);
    case LW_LEAKY: return activate_of(LW_LEAKY, a);
    case LW_HARDSWISH: return activate_of(LW_HARDSWISH, a);
    case LW_SILU: return activate_of(LW_SILU, a);
    case LW_GELU: return activate_of(LW_GELU, a);
    default: return activate_of(LW_NONE, a);
    }
}

#endif

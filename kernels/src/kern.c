/* kern.c - every kernel, once. Compiled once per instruction set with LW_VEC naming the header of
 * its vectors; over vec_scalar.h this file is the specification of the others. */
#include LW_VEC

#include "isa.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { NV = NR / VW };

/* ---- dense product ------------------------------------------------------------------------ */

/* The int32 sums of one chunk live in registers beside the float sums of all chunks so far. */
INLINE void dot_tile(const int mr, const lw_mode mode, int windows, const lw_win *win,
                     const uint8_t *const *a, const float *const *sa, const uint8_t *b, float *c,
                     ptrdiff_t ldc) {
    vf f[MR][NV];
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < NV; j++) f[i][j] = vf_set(0.0f);

    for (const lw_win *end = win + windows; win < end; win++) {
        const uint8_t *panel = b + win->b_off, *p[MR];
        vi acc[MR][NV];
        UNROLL for (int i = 0; i < mr; i++) {
            p[i] = a[i] + win->a_off;
            UNROLL for (int j = 0; j < NV; j++)
                acc[i][j] = vi_load((const int32_t *)(const void *)panel + j * VW);
        }
        const float *sb = (const float *)(const void *)(panel + NR * 4);
        const uint8_t *w = panel + NR * 4 * (mode == LW_AW ? 2 : 1);
        for (ptrdiff_t k = 0, kend = 4 * (ptrdiff_t)win->k4; k < kend; k += 4, w += NR * 4) {
            vb bj[NV];
            UNROLL for (int j = 0; j < NV; j++) bj[j] = vb_load(w + j * VW * 4);
            UNROLL for (int i = 0; i < mr; i++) {
                va ai = va_set(p[i] + k);
                UNROLL for (int j = 0; j < NV; j++) acc[i][j] = v_dot4(acc[i][j], ai, bj[j]);
            }
        }
        UNROLL for (int i = 0; i < mr; i++) {
            vf s = vf_set(sa[i][win->s_off]);
            UNROLL for (int j = 0; j < NV; j++) {
                vf t = vf_from(acc[i][j]);
                if (mode == LW_AW) t = vf_mul(t, vf_load(sb + j * VW));
                f[i][j] = vf_fma(t, s, f[i][j]);
            }
        }
    }
    UNROLL for (int i = 0; i < mr; i++)
        UNROLL for (int j = 0; j < NV; j++) vf_store(c + i * ldc + j * VW, f[i][j]);
}

#define DOT(mode, rows)                                                                           \
    static void dot_##mode##_##rows(int windows, const lw_win *win, const uint8_t *const *a,      \
                                    const float *const *sa, const uint8_t *b, float *c,           \
                                    ptrdiff_t ldc) {                                              \
        dot_tile(rows, mode, windows, win, a, sa, b, c, ldc);                                     \
    }
#define DOT_ROWS(rows) DOT(LW_A, rows) DOT(LW_AW, rows)

DOT_ROWS(1)
DOT_ROWS(2)
#define ROWS_OF(mode) dot_##mode##_1, dot_##mode##_2
#ifndef LW_ROWS_2
DOT_ROWS(3)
#undef ROWS_OF
#define ROWS_OF(mode) dot_##mode##_1, dot_##mode##_2, dot_##mode##_3
#endif
#ifdef LW_ROWS_7
DOT_ROWS(4)
DOT_ROWS(5)
DOT_ROWS(6)
DOT_ROWS(7)
#undef ROWS_OF
#define ROWS_OF(mode)                                                                             \
    dot_##mode##_1, dot_##mode##_2, dot_##mode##_3, dot_##mode##_4, dot_##mode##_5,               \
        dot_##mode##_6, dot_##mode##_7
#endif

/* ---- depthwise ---------------------------------------------------------------------------- */

INLINE void depthwise_tile(const lw_mode mode, int taps, const lw_win *win, const uint8_t *a,
                           const float *sa, const int32_t *comp, const int32_t *w,
                           const float *sb, ptrdiff_t ldw, int64_t c0, int64_t c1, float *f) {
    for (int64_t c = c0; c < c1; c += VW) {
        vf sum = vf_set(0.0f);
        for (int t = 0; t < taps; t++) {
            vi x = vi_from_u8(a + win[t].a_off + c);
            vf y = vf_from(vi_dot1(vi_load(comp + t * ldw + c), x, vi_load(w + t * ldw + c)));
            if (mode == LW_AW) y = vf_mul(y, vf_load(sb + t * ldw + c));
            sum = vf_fma(y, vf_set(sa[win[t].s_off]), sum);
        }
        vf_store(f + c, sum);
    }
}

static void depthwise(int taps, const lw_win *win, const uint8_t *a, const float *sa,
                      const int32_t *comp, const int32_t *w, const float *sb, ptrdiff_t ldw,
                      int64_t c0, int64_t c1, float *f) {
    if (sb)
        depthwise_tile(LW_AW, taps, win, a, sa, comp, w, sb, ldw, c0, c1, f);
    else
        depthwise_tile(LW_A, taps, win, a, sa, comp, w, sb, ldw, c0, c1, f);
}

/* ---- after the sums ----------------------------------------------------------------------- */

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
    default: return y;
    }
}

INLINE void finish_row(const lw_activation activation, const lw_post *post, int64_t n, float *f,
                       const float *sb, const float *bias, const float *residual, float *dst) {
    vf alpha = vf_set(post->alpha), lo = vf_set(post->lo), hi = vf_set(post->hi);
    for (int64_t j = 0; j < n; j += VW) {
        vf y = vf_load(f + j), b = vf_load_n(bias + j, n - j);
        y = sb ? vf_fma(y, vf_load_n(sb + j, n - j), b) : vf_add(y, b);
        if (residual) y = vf_add(y, vf_load_n(residual + j, n - j));
        y = activate(activation, y, alpha, lo, hi);
        vf_store(f + j, y);
        if (dst) vf_store_n(dst + j, y, n - j);
    }
}

static void finish(const lw_post *post, int64_t n, float *f, const float *sb, const float *bias,
                   const float *residual, float *dst) {
    switch (post->activation) { /* each case compiles to its own loop */
    case LW_RELU: finish_row(LW_RELU, post, n, f, sb, bias, residual, dst); break;
    case LW_CLIP: finish_row(LW_CLIP, post, n, f, sb, bias, residual, dst); break;
    case LW_LEAKY: finish_row(LW_LEAKY, post, n, f, sb, bias, residual, dst); break;
    case LW_HARDSWISH: finish_row(LW_HARDSWISH, post, n, f, sb, bias, residual, dst); break;
    case LW_SILU: finish_row(LW_SILU, post, n, f, sb, bias, residual, dst); break;
    default: finish_row(LW_NONE, post, n, f, sb, bias, residual, dst); break;
    }
}

/* ---- quantization ------------------------------------------------------------------------- */

enum { INFINITY_BITS = 0x7f800000, TINY_BITS = 0x0d800000 /* 2^-100 */ };

/* One window of n values. As integers, the bits of floats >= 0 order as the floats do. */
INLINE lw_status quantize_window(const float *x, int64_t n, int zero_point, uint8_t *q,
                                 float *scale) {
    vi any = vi_set(0), top = vi_set(0), magnitude = vi_set(0x7fffffff);
    for (int64_t j = 0; j < n; j += VW) {
        vi bits = vf_bits(vf_load_n(x + j, n - j));
        any = vi_max(any, vi_and(bits, magnitude));
        top = vi_max(top, bits); /* negative values have negative bits */
    }
    int32_t largest = vi_hmax(any);
    if (largest >= INFINITY_BITS) return LW_NONFINITE;
    if (!zero_point) largest = vi_hmax(top);

    float levels = zero_point ? 127.0f : 255.0f, absmax, factor = 0.0f;
    memcpy(&absmax, &largest, sizeof absmax);
    *scale = 0.0f;
    if (largest >= TINY_BITS) {
        *scale = absmax / levels;
        factor = levels / absmax;
    }
    /* |x| * factor <= levels * (1 + 2^-23), which rounds to levels: no upper clamp. */
    vf low = vf_set(zero_point ? -127.0f : 0.0f), by = vf_set(factor);
    vi zero = vi_set(zero_point);
    for (int64_t j = 0; j < n; j += VW) {
        vf v = vf_max(vf_mul(vf_load_n(x + j, n - j), by), low);
        vi_store_u8_n(q + j, vi_add(vf_round(v), zero), n - j);
    }
    return LW_OK;
}

static lw_status quantize(const float *x, int64_t n, int64_t window, int zero_point, uint8_t *q,
                          float *scale) {
    lw_status status = LW_OK;
    for (int64_t j = 0; j < n; j += window, scale++) {
        int64_t length = n - j < window ? n - j : window;
        if (quantize_window(x + j, length, zero_point, q + j, scale)) status = LW_NONFINITE;
    }
    return status;
}

/* ---- sums of a foreign product ------------------------------------------------------------ */

static void accumulate(int64_t n, const int32_t *acc, const int32_t *comp, const float *sb,
                       float sa, float *f) {
    vf s = vf_set(sa);
    for (int64_t j = 0; j < n; j += VW) { /* rows read are padded to whole vectors */
        vf t = vf_from(vi_add(vi_load(acc + j), vi_load(comp + j)));
        if (sb) t = vf_mul(t, vf_load(sb + j));
        vf_store_n(f + j, vf_fma(t, s, vf_load(f + j)), n - j);
    }
}

/* ---- pooling ------------------------------------------------------------------------------ */

INLINE vf tap_load(const int quantized, const lw_tap *tap, int64_t j, int64_t n, vf scale,
                   vi minus) {
    if (!quantized) return vf_load_n(tap->x + j, n - j);
    return vf_mul(vf_from(vi_add(vi_from_u8(tap->q + j), minus)), scale);
}

INLINE void pool_taps(const int average, const int quantized, int taps, const lw_tap *tap,
                      int64_t n, int64_t window, int zero_point, float factor, float *f) {
    vi minus = vi_set(-zero_point);
    vf by = vf_set(factor), one = vf_set(1.0f);
    for (int64_t c = 0, i = 0; c < n; c += window, i++) {
        int64_t end = c + window < n ? c + window : n;
        for (int64_t j = c; j < end; j += VW) {
            vf y = tap_load(quantized, tap, j, n, quantized ? vf_set(tap->s[i]) : one, minus);
            for (int t = 1; t < taps; t++) {
                vf s = quantized ? vf_set(tap[t].s[i]) : one;
                vf x = tap_load(quantized, tap + t, j, n, s, minus);
                y = average ? vf_add(y, x) : vf_max(y, x);
            }
            vf_store(f + j, average ? vf_mul(y, by) : y);
        }
    }
}

static void pool(int average, int taps, const lw_tap *tap, int64_t n, int64_t window,
                 int zero_point, float factor, float *f) {
    if (tap->q && average)
        pool_taps(1, 1, taps, tap, n, window, zero_point, factor, f);
    else if (tap->q)
        pool_taps(0, 1, taps, tap, n, window, zero_point, factor, f);
    else if (average)
        pool_taps(1, 0, taps, tap, n, n, 0, factor, f);
    else
        pool_taps(0, 0, taps, tap, n, n, 0, factor, f);
}

/* ---- table -------------------------------------------------------------------------------- */

#define PASTE(a, b) a##b
#define TABLE(isa) PASTE(lw_isa_, isa)
#define TEXT(isa) #isa
#define NAME(isa) TEXT(isa)

const lw_isa TABLE(LW_ISA) = {
    .name = NAME(LW_ISA),
    .vw = VW,
    .mr = MR,
    .nr = NR,
    .kr = 4,
    .dot = {[LW_A] = {ROWS_OF(LW_A)}, [LW_AW] = {ROWS_OF(LW_AW)}},
    .depthwise = depthwise,
    .finish = finish,
    .quantize = quantize,
    .accumulate = accumulate,
    .pool = pool,
};

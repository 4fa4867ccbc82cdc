/* kern.c - every kernel, once. Compiled once per instruction set with LW_VEC naming the header of
 * its vectors; over vec_scalar.h this file is the specification of the others. */
#include LW_VEC

#include "isa.h"

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define PASTE(a, b) a##b
#define CONCAT(a, b) PASTE(a, b)
#ifdef __clang__
#define UNROLLED(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define UNROLLED(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)
#endif

#define HIDE(p) __asm__ volatile("" : : "r"(p) : "memory") /* what p points to may have changed */

/* What p points to is read where it is needed, not kept in the registers that the sums fill. */
#define RELOAD(p) __asm__("" : "+r"(p))

enum { MR = LW_MR, NV = NR / VW, ROWS = LW_MR_MAX };

#ifndef LW_A_OFFSET
#define LW_A_OFFSET 0
#endif

/* ---- dense product ------------------------------------------------------------------------ */

/* One of four steps; its number must be a literal. */
#define STEP(lane)                                                                                 \
    UNROLLED (j, nv) bj[j] = vb_load(w + j * VW * 4);                                              \
    UNROLLED (i, mr)                                                                               \
        UNROLLED (j, nv) acc[i][j] = v_dot4_lane(acc[i][j], ai[i], lane, bj[j]);                   \
    w += NR * 4;

/* acc += the products of k4 steps of four channels. */
INLINE void dot_steps(const int mr, const int nv, ptrdiff_t k4, const uint8_t *const *p, const uint8_t *w,
                      vi acc[ROWS][NV]) {
    ptrdiff_t k = 0;
#ifdef LW_FOUR_STEPS
    for (; k + 16 <= 4 * k4; k += 16) {
        va ai[ROWS];
        vb bj[NV];
        UNROLLED (i, mr) ai[i] = va_load4(p[i] + k);
        STEP(0) STEP(1) STEP(2) STEP(3)
    }
#endif
    for (; k < 4 * k4; k += 4, w += NR * 4) {
        vb bj[NV];
        UNROLLED (j, nv) bj[j] = vb_load(w + j * VW * 4);
        UNROLLED (i, mr) {
            va ai = va_set(p[i] + k);
            UNROLLED (j, nv) acc[i][j] = v_dot4(acc[i][j], ai, bj[j]);
        }
    }
}

/* y = fma(f, sb, bias) to memory. */
INLINE void store_tile(const int mr, const int nv, const lw_out *out, vf f[ROWS][NV]) {
    const int64_t n = out->n;
    float *y[ROWS];
    UNROLLED (i, mr) y[i] = out->y[i] + out->at;
    UNROLLED (j, nv) {
        vf sb = vf_load(out->sb + j * VW), bias = vf_load(out->bias + j * VW);
        UNROLLED (i, mr) f[i][j] = vf_fma(f[i][j], sb, bias);
    }
    if (n >= nv * VW) {
        UNROLLED (i, mr)
            UNROLLED (j, nv) vf_store(y[i] + j * VW, f[i][j]);
        return;
    }
    UNROLLED (i, mr)
        UNROLLED (j, nv) {
            if (j * VW < n) vf_store_n(y[i] + j * VW, f[i][j], n - j * VW);
        }
}

/* The lines that the tile will fill, and the pages of the next tile's pixels, are fetched while it
 * is summed up, a few at every chunk: all of them between two tiles would starve the multipliers.
 */
INLINE int prefetch_rows(const int mr, const lw_out *out, const uint8_t *const *next, int row) {
    for (int end = row + out->ahead; row < end && row < mr; row++) {
        __builtin_prefetch(next[row]);
        for (int j = 0; j < NR; j += 16) __builtin_prefetch(out->y[row] + out->at + j, 1);
    }
    return row;
}

/* The int32 sums of one chunk live in registers beside the float sums of all chunks so far. */
INLINE void dot_tile(const int mr, const int nv, const lw_mode mode, int windows, const lw_win *win,
                     const uint8_t *const *a, const float *const *sa, const uint8_t *b,
                     const lw_out *out) {
    vf f[ROWS][NV];
    int fetched = 0;
    UNROLLED (i, mr)
        UNROLLED (j, nv) f[i][j] = vf_set(0.0f);

    for (const lw_win *end = win + windows; win < end; win++) {
        const uint8_t *panel = b + win->b_off, *p[ROWS];
        vi acc[ROWS][NV];
        RELOAD(a);
        RELOAD(sa);
        UNROLLED (i, mr) {
            p[i] = a[i] + win->a_off;
            UNROLLED (j, nv) acc[i][j] = vi_load((const int32_t *)(const void *)panel + j * VW);
        }
        const float *sb = (const float *)(const void *)(panel + NR * 4);
        const uint8_t *w = panel + NR * 4 * (mode == LW_AW ? 2 : 1);
        dot_steps(mr, nv, win->k4, p, w, acc);
        fetched = prefetch_rows(mr, out, a + mr, fetched);
        UNROLLED (i, mr) {
            vf s = vf_set(sa[i][win->s_off]);
            UNROLLED (j, nv) {
                vf t = vf_from(acc[i][j]);
                if (mode == LW_AW) t = vf_mul(t, vf_load(sb + j * VW));
                f[i][j] = vf_fma(t, s, f[i][j]);
            }
        }
    }
    store_tile(mr, nv, out, f);
}

/* Mode C: one int32 sum over all chunks. */
INLINE void dot_tile_c(const int mr, const int nv, int windows, const lw_win *win, const uint8_t *const *a,
                       const float *const *sa, const uint8_t *b, const lw_out *out) {
    vf f[ROWS][NV];
    vi acc[ROWS][NV];
    int fetched = 0;
    UNROLLED (i, mr)
        UNROLLED (j, nv) acc[i][j] = vi_load((const int32_t *)(const void *)b + j * VW);
    for (const lw_win *end = win + windows; win < end; win++) {
        const uint8_t *w = b + win->b_off, *p[ROWS];
        RELOAD(a);
        UNROLLED (i, mr) p[i] = a[i] + win->a_off;
        dot_steps(mr, nv, win->k4, p, w, acc);
        fetched = prefetch_rows(mr, out, a + mr, fetched);
    }
    UNROLLED (i, mr) {
        vf s = vf_set(*sa[i]);
        UNROLLED (j, nv) f[i][j] = vf_mul(vf_from(acc[i][j]), s);
    }
    store_tile(mr, nv, out, f);
}

#define DOT(name, mr, tile)                                                                        \
    static void name(int windows, const lw_win *win, const uint8_t *const *a,                      \
                     const float *const *sa, const uint8_t *b, const lw_out *out) {                \
        lw_out o = *out;                                                                           \
        for (const uint8_t *const *end = a + o.rows; a < end; a += mr, sa += mr, o.y += mr)        \
            tile;                                                                                  \
    }
#define DOTS(name, mr, nv)                                                                         \
    DOT(CONCAT(name##_LW_A_, mr), mr, dot_tile(mr, nv, LW_A, windows, win, a, sa, b, &o))          \
    DOT(CONCAT(name##_LW_AW_, mr), mr, dot_tile(mr, nv, LW_AW, windows, win, a, sa, b, &o))        \
    DOT(CONCAT(name##_LW_C_, mr), mr, dot_tile_c(mr, nv, windows, win, a, sa, b, &o))
#define DOT_ROWS(mr) DOTS(dot, mr, NV)

/* Panels that fill one vector only get twice the pixels. */
#ifdef LW_NARROW
DOTS(narrow, LW_NARROW, 1)
#define NARROW_OF(mode) CONCAT(narrow_##mode##_, LW_NARROW)
#endif

DOT_ROWS(1)
DOT_ROWS(2)
#if LW_MR >= 3
DOT_ROWS(3)
#endif
#if LW_MR >= 4
DOT_ROWS(4)
#endif
#if LW_MR >= 5
DOT_ROWS(5)
DOT_ROWS(6)
#endif
#if LW_MR >= 7
DOT_ROWS(7)
#endif

#define ROWS_1(mode) dot_##mode##_1
#define ROWS_2(mode) ROWS_1(mode), dot_##mode##_2
#define ROWS_3(mode) ROWS_2(mode), dot_##mode##_3
#define ROWS_4(mode) ROWS_3(mode), dot_##mode##_4
#define ROWS_5(mode) ROWS_4(mode), dot_##mode##_5
#define ROWS_6(mode) ROWS_5(mode), dot_##mode##_6
#define ROWS_7(mode) ROWS_6(mode), dot_##mode##_7
#define ROWS_OF(mode) CONCAT(ROWS_, LW_MR)(mode) /* kernels of 1 to MR rows */

#include "depthwise.h"

/* ---- planes of an input image -------------------------------------------------------------- */

static int32_t largest(const float *x, int64_t n) {
    vi top = vi_set(0), any = vi_set(0);
    int64_t j = 0;
    for (; j + VW <= n; j += VW) track(SIGNED, vf_load(x + j), &top, &any);
    if (j < n) track(SIGNED, vf_load_n(x + j, n - j), &top, &any);
    return vi_hmax(top);
}

/* Three levels below 256 make one float below 2^24, so that a lane holds a pixel exactly. */
INLINE vf interleave(const int c, const float *x, int64_t stride, int64_t n, vf factor) {
    vf zero = vf_set(128.0f), by = vf_set(256.0f), pixel = vf_set(0.0f);
    for (int j = c - 1; j >= 0; j--) {
        vf level = vf_add(vf_rint(vf_mul(vf_load_n(x + j * stride, n), factor)), zero);
        pixel = vf_fma(pixel, by, level);
    }
    return vi_bits(vf_round(pixel));
}

INLINE void planes_of(const int c, const float *x, int64_t stride, int64_t n, float factor,
                      uint8_t *q) {
    vf by = vf_set(factor);
    for (int64_t i = 0; i < n; i += VW)
        vf_store_n((float *)(void *)(q + 4 * i), interleave(c, x + i, stride, n - i, by), n - i);
}

static void planes(const float *x, int64_t stride, int64_t c, int64_t n, float factor, uint8_t *q) {
    switch (c) { /* at most LW_MAX_PLANES */
    case 1: planes_of(1, x, stride, n, factor, q); break;
    case 2: planes_of(2, x, stride, n, factor, q); break;
    default: planes_of(3, x, stride, n, factor, q);
    }
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

/* ---- peak --------------------------------------------------------------------------------- */

/* The dot instruction alone, on one full tile: nothing but registers and a line or two of cache. */
static int64_t peak(int64_t steps) {
    uint8_t a[NR * 4] = {0};
    vb b[NV];
    vi acc[MR][NV], sum = vi_set(0);
    HIDE(a);
    UNROLLED (j, NV) b[j] = vb_load(a + j * VW * 4);
    UNROLLED (i, MR)
        UNROLLED (j, NV) acc[i][j] = vi_set(i + j);
    for (int64_t k = 0; k < steps; k++) {
        HIDE(a);
        UNROLLED (i, MR) {
            va ai = va_set(a + 4 * i);
            UNROLLED (j, NV) acc[i][j] = v_dot4(acc[i][j], ai, b[j]);
        }
    }
    UNROLLED (i, MR)
        UNROLLED (j, NV) sum = vi_add(sum, acc[i][j]);
    return vi_hmax(sum) < 0 ? 0 : steps * MR * NR * 4;
}

/* ---- table -------------------------------------------------------------------------------- */

#define TABLE(isa) CONCAT(lw_isa_, isa)
#define TEXT(isa) #isa
#define NAME(isa) TEXT(isa)

const lw_isa TABLE(LW_ISA) = {
    .name = NAME(LW_ISA),
    .vw = VW,
    .mr = MR,
    .nr = NR,
    .kr = 4,
    .a_offset = LW_A_OFFSET,
    .dot = {[LW_A] = {ROWS_OF(LW_A)}, [LW_AW] = {ROWS_OF(LW_AW)}, [LW_C] = {ROWS_OF(LW_C)}},
#ifdef LW_NARROW
    .narrow_rows = LW_NARROW,
    .narrow = {[LW_A] = NARROW_OF(LW_A), [LW_AW] = NARROW_OF(LW_AW), [LW_C] = NARROW_OF(LW_C)},
#endif
    .depthwise_columns = 2 * DW,
    .ratios = ratios,
    .pairs = pairs,
    .depthwise = {{depthwise_1, depthwise_1, depthwise_1_2, depthwise_1_3},
                  {depthwise_2, depthwise_2, depthwise_2_2, depthwise_2_3}},
    .depthwise_3x3 = depthwise_3x3,
    .depthwise_winograd = depthwise_winograd,
    .floor_windows = floor_windows,
    .finish = finish,
    .quantize = quantize,
    .largest = largest,
    .planes = planes,
    .accumulate = accumulate,
    .pool = pool,
    .peak = peak,
};

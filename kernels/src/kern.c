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

enum {
    MR = LW_MR,
    NV = NR / VW,
    ROWS = LW_MR_MAX,
    AHEAD =
        8192 /* bytes of weights that are fetched: all of a network do not fit L3 beside others */
};

#ifndef LW_A_OFFSET
#define LW_A_OFFSET 0
#endif
#ifndef LW_ADDRESSES
#define LW_ADDRESSES 7 /* pixels of a tile that have an address register each */
#endif
#ifndef LW_PARTED
#define LW_PARTED                                                                                  \
    (LW_MR_MAX + 1) /* pixels of a tile, at least, whose sums become floats in parts */
#endif
enum {
    LAST_STEPS = 2,
    LONG = 8
}; /* steps of dots: that each part takes by itself, of a long chunk */

/* ---- dense product ------------------------------------------------------------------------ */

/* One of four steps; its number must be a literal. */
#define STEP(lane)                                                                                 \
    UNROLLED (j, nv) bj[j] = vb_load(w + j * VW * 4);                                              \
    UNROLLED (i, mr)                                                                               \
        UNROLLED (j, nv) acc[i][j] = v_dot4_lane(acc[i][j], ai[i], lane, bj[j]);                   \
    w += NR * 4;

/* acc += the products of k4 steps of four channels. Pixels are `step` bytes apart. */
INLINE void dot_steps(const int mr, const int nv, ptrdiff_t k4, const uint8_t *a, ptrdiff_t step,
                      const uint8_t *w, vi acc[ROWS][NV]) {
    const uint8_t *p[ROWS];
    ptrdiff_t k = 0;
    RELOAD(a); /* or the compiler makes a sum of every offset, more than there are registers */
    UNROLLED (i, mr) p[i] = a + i * step;
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
        UNROLLED (j, (nv * VW + 15) / 16) __builtin_prefetch(w + AHEAD + j * 64);
        UNROLLED (i, mr) {
            va ai = va_set(p[i] + k);
            UNROLLED (j, nv) acc[i][j] = v_dot4(acc[i][j], ai, bj[j]);
        }
    }
}

/* The same for more pixels than there are address registers: every third has one. */
INLINE void dot_steps_long(const int mr, const int nv, ptrdiff_t k4, const uint8_t *a,
                           ptrdiff_t step, const uint8_t *w, vi acc[ROWS][NV]) {
    const uint8_t *p[(ROWS + 2) / 3];
    UNROLLED (g, (mr + 2) / 3) p[g] = a + 3 * g * step;
    for (ptrdiff_t k = 0; k < k4; k++, w += NR * 4) {
        vb bj[NV];
        UNROLLED (j, nv) bj[j] = vb_load(w + j * VW * 4);
        UNROLLED (i, mr) {
            va ai = va_set(p[i / 3] + i % 3 * step);
            UNROLLED (j, nv) acc[i][j] = v_dot4(acc[i][j], ai, bj[j]);
        }
        UNROLLED (g, (mr + 2) / 3) {
            p[g] += 4;
            RELOAD(p[g]); /* or the compiler makes an address of every pixel, in memory */
        }
    }
}

/* A register tile: its first pixel in q and in scale, where its sums go, and which pixel it is. */
typedef struct tile {
    const uint8_t *a;
    const float *sa;
    float *y;
    int line, pixel;
} tile;

INLINE const uint8_t *residual_of(const lw_out *out, tile t) {
    return out->residual + t.line * out->residual_step.line + t.pixel * out->residual_step.pixel;
}

/* Beside the dots of the next tile; in a pass of its own it would take thrice as long. */
INLINE void add(const int mr, const int nv, const lw_out *out, tile t, vf f[ROWS][NV]) {
    if (out->adds == LW_ADD_Y) {
        UNROLLED (i, mr)
            UNROLLED (j, nv) f[i][j] = vf_add(f[i][j], vf_load(t.y + i * out->step.pixel + j * VW));
        return;
    }
    if (out->adds == LW_ADD_TWIN) {
        UNROLLED (i, mr)
            UNROLLED (j, nv) {
                float *y = t.y + i * out->step.pixel + j * VW;
                vf x = vf_load(y);
                vf_store(y + out->twin, vf_sub(x, f[i][j]));
                f[i][j] = vf_add(x, f[i][j]);
            }
        return;
    }
    const lw_step step = out->residual_scale_step;
    const float *scale = out->residual_scale + t.line * step.line + t.pixel * step.pixel;
    const uint8_t *q = residual_of(out, t);
    vi minus = vi_set(-out->residual_zero);
    UNROLLED (i, mr) {
        const uint8_t *r = q + i * out->residual_step.pixel;
        vf s = vf_set(scale[i * step.pixel]);
        UNROLLED (j, nv) {
            vi x = vi_add(vi_from_u8(r + j * VW), minus);
            f[i][j] = vf_fma(vf_from(x), s, f[i][j]);
        }
    }
}

INLINE void store_tile(const int mr, const int nv, const lw_out *out, float *y, vf f[ROWS][NV]) {
    const int64_t n = out->n;
    const ptrdiff_t ldy = out->step.pixel;
    if (n >= nv * VW) {
        UNROLLED (i, mr)
            UNROLLED (j, nv) vf_store(y + i * ldy + j * VW, f[i][j]);
        return;
    }
    UNROLLED (j, nv) {
        int64_t left = n - j * VW;
        HIDE(&left); /* or its masks are made ahead of every tile */
        if (left > 0)
            UNROLLED (i, mr) vf_store_n(y + i * ldy + j * VW, f[i][j], left);
    }
}

/* What the tile will fill, and the pages of the next tile's pixels, are fetched while it is summed
 * up, a few pixels at every chunk: all of them between two tiles would starve the multipliers. */
INLINE int prefetch_rows(const int mr, const lw_pixels *from, const lw_out *out, tile t, int row) {
    for (int end = row + out->ahead; row < end && row < mr; row++) {
        if (out->adds == LW_ADD_RESIDUAL) {
            __builtin_prefetch(residual_of(out, t) + row * out->residual_step.pixel);
            continue;
        }
        __builtin_prefetch(t.a + (mr + row) * from->a_step.pixel);
        for (int j = 0; j < NR; j += 16) __builtin_prefetch(t.y + row * out->step.pixel + j, 1);
        __builtin_prefetch(t.y + row * out->step.pixel + NR - 1, 1); /* may begin another line */
    }
    return row;
}

INLINE void dot_any(const int mr, const int nv, ptrdiff_t k4, const uint8_t *a, ptrdiff_t step,
                    const uint8_t *w, vi acc[ROWS][NV]) {
    if (mr > LW_ADDRESSES)
        dot_steps_long(mr, nv, k4, a, step, w, acc);
    else
        dot_steps(mr, nv, k4, a, step, w, acc);
}

INLINE const float *chunk_scales(const uint8_t *panel) {
    return (const float *)(const void *)(panel + NR * 4);
}

INLINE const uint8_t *chunk_weights(const lw_mode mode, const uint8_t *panel) {
    return panel + NR * 4 * (mode == LW_AW ? 2 : 1);
}

/* The last steps of a chunk for pixels from `first` on, whose sums then become floats. */
INLINE void end_chunk(const int first, const int mr, const int nv, const lw_mode mode, ptrdiff_t k4,
                      const lw_pixels *from, const uint8_t *a, const float *sa, const uint8_t *w,
                      const float *sb, vi acc[ROWS][NV], vf f[ROWS][NV]) {
    const ptrdiff_t step = from->a_step.pixel, sa_step = from->sa_step.pixel;
    dot_steps(mr, nv, k4, a + first * step, step, w, acc + first);
    UNROLLED (i, mr) {
        vf s = vf_set(sa[(first + i) * sa_step]);
        UNROLLED (j, nv) {
            vf x = vf_from(acc[first + i][j]);
            if (mode == LW_AW) x = vf_mul(x, vf_load(sb + j * VW));
            f[first + i][j] = vf_fma(x, s, f[first + i][j]);
        }
    }
}

/* The int32 sums of one chunk live in registers beside the float sums of all chunks so far. They
 * become floats in three parts, if so many conversions at once would keep the next dots out of the
 * queues. */
INLINE void dot_chunk(const int parted, const int mr, const int nv, const lw_mode mode,
                      const lw_win *win, const lw_pixels *from, const uint8_t *b, const uint8_t *a,
                      const float *sa, vf f[ROWS][NV]) {
    const int first = parted ? mr / 3 : 0, second = 2 * first;
    const ptrdiff_t last = parted && win->k4 >= LONG ? LAST_STEPS : 0, k4 = win->k4 - last;
    const uint8_t *panel = b + win->b_off, *w = chunk_weights(mode, panel);
    const float *sb = chunk_scales(panel);
    vi acc[ROWS][NV];
    UNROLLED (i, mr)
        UNROLLED (j, nv) acc[i][j] = vi_load((const int32_t *)(const void *)panel + j * VW);
    a += win->a_off, sa += win->s_off;
    dot_any(mr, nv, k4, a, from->a_step.pixel, w, acc);
    a += 4 * k4, w += NR * 4 * k4;
    if (parted) {
        end_chunk(0, first, nv, mode, last, from, a, sa, w, sb, acc, f);
        end_chunk(first, first, nv, mode, last, from, a, sa, w, sb, acc, f);
    }
    end_chunk(second, mr - second, nv, mode, last, from, a, sa, w, sb, acc, f);
}

#include "dot_taps.h"

INLINE void dot_tile(const int mr, const int nv, const lw_mode mode, int windows, const lw_win *win,
                     const lw_pixels *from, const uint8_t *b, const lw_out *out, tile t) {
    vf f[ROWS][NV];
    const int parted = nv > 1 && mr >= LW_PARTED;
    int fetched = 0;
    UNROLLED (i, mr)
        UNROLLED (j, nv) f[i][j] = vf_set(0.0f);
    for (const lw_win *end = win + windows; win < end; win++) {
        RELOAD(from); /* what it holds is read again, not kept in the registers of addresses */
        fetched = prefetch_rows(mr, from, out, t, fetched);
        if (nv < NV && are_taps(win, end, from)) {
            dot_taps(mr, mode, win, from, b, t.a, t.sa, f);
            win += TAPS - 1;
        } else
            dot_chunk(parted, mr, nv, mode, win, from, b, t.a, t.sa, f);
    }
    UNROLLED (j, nv) {
        vf bias = vf_load(out->bias + j * VW);
        if (mode == LW_AW && !out->sb) { /* addition leaves the multipliers to the dots */
            UNROLLED (i, mr) f[i][j] = vf_add(f[i][j], bias);
            continue;
        }
        vf sb = vf_load(out->sb + j * VW);
        UNROLLED (i, mr) f[i][j] = vf_fma(f[i][j], sb, bias);
    }
    if (out->adds) add(mr, nv, out, t, f);
    store_tile(mr, nv, out, t.y, f);
}

/* Mode C: one int32 sum over all chunks. */
INLINE void dot_tile_c(const int mr, const int nv, int windows, const lw_win *win,
                       const lw_pixels *from, const uint8_t *b, const lw_out *out, tile t) {
    vf f[ROWS][NV];
    vi acc[ROWS][NV];
    int fetched = 0;
    UNROLLED (i, mr)
        UNROLLED (j, nv) acc[i][j] = vi_load((const int32_t *)(const void *)b + j * VW);
    for (const lw_win *end = win + windows; win < end; win++) {
        RELOAD(from);
        dot_any(mr, nv, win->k4, t.a + win->a_off, from->a_step.pixel, b + win->b_off, acc);
        fetched = prefetch_rows(mr, from, out, t, fetched);
    }
    UNROLLED (j, nv) {
        vf sb = vf_load(out->sb + j * VW), bias = vf_load(out->bias + j * VW);
        UNROLLED (i, mr) {
            vf s = vf_set(t.sa[i * from->sa_step.pixel]);
            f[i][j] = vf_fma(vf_from(acc[i][j]), vf_mul(sb, s), bias);
        }
    }
    if (out->adds) add(mr, nv, out, t, f);
    store_tile(mr, nv, out, t.y, f);
}

#define DOT(name, mr, sum)                                                                         \
    static void name(int windows, const lw_win *win, const lw_pixels *from, const uint8_t *b,      \
                     const lw_out *out) {                                                          \
        for (int line = 0; line < from->lines; line++) {                                           \
            tile t = {from->a + line * from->a_step.line, from->sa + line * from->sa_step.line,    \
                      out->y + line * out->step.line, line, 0};                                    \
            for (; t.pixel < from->count; t.pixel += mr) {                                         \
                sum;                                                                               \
                t.a += mr * from->a_step.pixel, t.sa += mr * from->sa_step.pixel;                  \
                t.y += mr * out->step.pixel;                                                       \
            }                                                                                      \
        }                                                                                          \
    }
#define DOTS(name, mr, nv)                                                                         \
    DOT(CONCAT(name##_LW_A_, mr), mr, dot_tile(mr, nv, LW_A, windows, win, from, b, out, t))       \
    DOT(CONCAT(name##_LW_AW_, mr), mr, dot_tile(mr, nv, LW_AW, windows, win, from, b, out, t))     \
    DOT(CONCAT(name##_LW_C_, mr), mr, dot_tile_c(mr, nv, windows, win, from, b, out, t))

/* Tiles of 1 to MR pixels; of MR to twice as many where a panel fills one vector only. */
#define TIMES_1(of) of(1)
#define TIMES_2(of) TIMES_1(of) of(2)
#define TIMES_3(of) TIMES_2(of) of(3)
#define TIMES_4(of) TIMES_3(of) of(4)
#define TIMES_5(of) TIMES_4(of) of(5)
#define TIMES_6(of) TIMES_5(of) of(6)
#define TIMES_7(of) TIMES_6(of) of(7)
#define NARROW_TIMES(of) of(7) of(8) of(9) of(10) of(11) of(12) of(13) of(14)

#define WIDE(mr) DOTS(dot, mr, NV)
/* clang-format off */
CONCAT(TIMES_, LW_MR)(WIDE)
#ifdef LW_NARROW
#define NARROW(mr) DOTS(narrow, mr, 1)
NARROW_TIMES(NARROW)
#endif
_Static_assert((int)MR <= (int)LW_MR_MAX, "the tables hold every tile");
/* clang-format on */

#ifdef LW_PARTS
#include "few.h"
#endif
#include "depthwise.h"
#include "dot_rows.h"
#include "first.h"
#include "first_maxima.h"
#include "quantize.h"
#include "probe.h"
#include "pooling.h"
#include "softmax.h"
#include "winograd.h"
#include "columns.h"
#include "linear.h"
#include "planes.h"

/* ---- sums of a foreign product ------------------------------------------------------------ */

static void accumulate(int64_t n, const int32_t *acc, const int32_t *comp, const float *sb,
                       float sa, const float *bias, float *f) {
    vf s = vf_set(sa);
    if (bias) {
        for (int64_t j = 0; j < n; j += VW) {
            vf t = vf_from(vi_add(vi_load(acc + j), vi_load(comp + j)));
            vf_store_n(f + j, vf_fma(t, vf_mul(vf_load(sb + j), s), vf_load(bias + j)), n - j);
        }
        return;
    }
    for (int64_t j = 0; j < n; j += VW) { /* rows read are padded to whole vectors */
        vf t = vf_from(vi_add(vi_load(acc + j), vi_load(comp + j)));
        if (sb) t = vf_mul(t, vf_load(sb + j));
        vf_store_n(f + j, vf_fma(t, s, vf_load(f + j)), n - j);
    }
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

#define DOT_A(mr) dot_LW_A_##mr,
#define DOT_AW(mr) dot_LW_AW_##mr,
#define DOT_C(mr) dot_LW_C_##mr,
#define ROW_A(mr) dot_row_LW_A_##mr,
#define ROW_C(mr) dot_row_LW_C_##mr,
#define NARROW_ROW_A(mr) [(mr) - 1] = narrow_row_LW_A_##mr,
#define NARROW_ROW_C(mr) [(mr) - 1] = narrow_row_LW_C_##mr,
#define NARROW_A(mr) [(mr) - 1] = narrow_LW_A_##mr,
#define NARROW_AW(mr) [(mr) - 1] = narrow_LW_AW_##mr,
#define NARROW_C(mr) [(mr) - 1] = narrow_LW_C_##mr,

const lw_isa TABLE(LW_ISA) = {
    .name = NAME(LW_ISA),
    .vw = VW,
    .mr = MR,
    .nr = NR,
    .kr = 4,
    .a_offset = LW_A_OFFSET,
    .dot = {[LW_A] = {CONCAT(TIMES_, LW_MR)(DOT_A)},
            [LW_AW] = {CONCAT(TIMES_, LW_MR)(DOT_AW)},
            [LW_C] = {CONCAT(TIMES_, LW_MR)(DOT_C)}},
#ifdef LW_NARROW
    .narrow_mr = LW_NARROW,
    .narrow = {[LW_A] = {NARROW_TIMES(NARROW_A)},
               [LW_AW] = {NARROW_TIMES(NARROW_AW)},
               [LW_C] = {NARROW_TIMES(NARROW_C)}},
#endif
#ifdef LW_PARTS
    .few_pixels = FEW,
    .few = {[LW_A] = {few_LW_A_2, few_LW_A_4},
            [LW_AW] = {few_LW_AW_2, few_LW_AW_4},
            [LW_C] = {few_LW_C_2, few_LW_C_4}},
#endif
    .dot_row = {[LW_A] = {CONCAT(TIMES_, LW_MR)(ROW_A)}, [LW_C] = {CONCAT(TIMES_, LW_MR)(ROW_C)}},
#ifdef LW_NARROW
    .narrow_row = {[LW_A] = {NARROW_TIMES(NARROW_ROW_A)}, [LW_C] = {NARROW_TIMES(NARROW_ROW_C)}},
#endif
    .depthwise_columns = 2 * DW,
    .ratios = ratios,
    .pairs = pairs,
    .halves = halves,
    .shift_halves = shift_halves,
    .activate = activate_rows,
    .depthwise = {{depthwise_1, depthwise_1, depthwise_1_2, depthwise_1_3},
                  {depthwise_2, depthwise_2, depthwise_2_2, depthwise_2_3}},
    .depthwise_3x3 = depthwise_3x3,
    .depthwise_winograd = depthwise_winograd,
    .finish = finish,
    .quantize = quantize,
    .softmax = softmax,
    .largest = largest,
    .planes = planes,
    .gather = gather,
    .first_sums = FIRST,
    .first = first,
    .first_maxima = first_maxima,
    .accumulate = accumulate,
    .pool = pool,
    .max_row = max_row,
    .max_lines = max_lines,
    .transform = transform_lines,
    .linear_row = linear_row,
    .column = column,
    .peak = peak,
    .read = probe_read,
    .copy = probe_copy,
};

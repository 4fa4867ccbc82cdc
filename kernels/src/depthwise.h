/* depthwise.h - sums of a depthwise layer in 16 bits, and their levels; lw.h says what they are.
 * A part of kern.c.
 *
 * A lane holds the values of one channel of two pixels side by side, so that one instruction
 * multiplies two taps. At stride 1 both of two output pixels take theirs from the same pairs. */
#ifndef LW_SRC_DEPTHWISE_H
#define LW_SRC_DEPTHWISE_H

#include "finish.h"

/* ---- source rows --------------------------------------------------------------------------- */

INLINE void pairs_of(const int vectors, const int zero_point, const lw_pairs *pairs) {
    const lw_pairs p = *pairs; /* stores may alias *pairs */
    vi sign = vi_set((int32_t)0x80008000);
    for (int64_t i = 0; i < p.n; i++) {
        const uint8_t *a = p.a + i * p.step, *b = a + (i < p.whole ? p.next : 0);
        int32_t *out = p.out + i * vectors * VW;
        vi pair[4], by = vi_set(p.ratio[i * p.ratio_step]);
        v16_pairs(vectors, a, b, pair);
        UNROLLED (v, vectors) {
            if (zero_point)
                vi_store(out + v * VW, v16_scaled(v16_sub(pair[v], sign), by));
            else
                vi_store(out + v * VW, v16_scaled_unsigned(pair[v], by));
        }
    }
}

static void pairs(const lw_pairs *p) {
    switch (p->vectors * 2 + (p->zero_point != 0)) { /* each case compiles to its own loop */
    case 2: pairs_of(1, 0, p); break;
    case 3: pairs_of(1, 1, p); break;
    case 4: pairs_of(2, 0, p); break;
    case 5: pairs_of(2, 1, p); break;
    case 6: pairs_of(3, 0, p); break;
    case 7: pairs_of(3, 1, p); break;
    case 8: pairs_of(4, 0, p); break;
    default: pairs_of(4, 1, p);
    }
}

static void ratios(int64_t n, const float *scale, float factor, int32_t *ratio) {
    vf by = vf_set(factor);
    for (int64_t i = 0; i < n; i += VW) /* both are padded to whole vectors */
        vi_store(ratio + i, vi_add(vf_round(vf_mul(vf_load(scale + i), by)),
                                   vi_shl16(vf_round(vf_mul(vf_load(scale + i + 1), by)))));
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* One vector of channels of the arguments: a kernel goes through all that lie side by side. */
typedef struct sums {
    const int32_t *w;
    ptrdiff_t at;
    vf scale, bias;
    float *y;
} sums;

INLINE sums sums_at(const lw_depthwise_args *a, int v) {
    return (sums){.w = a->w + v * a->w_step,
                  .at = a->at + v * VW,
                  .scale = vf_load(a->scale + v * VW),
                  .bias = vf_load(a->bias + v * VW),
                  .y = a->y + v * VW};
}

INLINE void store_sum(const sums *s, float *y, vi sum) {
    vf_store(y, vf_fma(vf_from(sum), s->scale, s->bias));
}

/* acc += the products of a row of pairs, each of which is loaded once: taps begin one pair apart. */
INLINE void sum_row(const int outs, const int taps, const int columns, const int32_t *p,
                    ptrdiff_t step, const int32_t *w, vi acc[2][2 * DW]) {
    vi weight[3][2];
    UNROLLED (i, taps * outs) weight[i / outs][i % outs] = vi_load(w + i * VW);
    UNROLLED (j, columns + taps - 1) {
        vi pair = vi_load(p + j * step);
        UNROLLED (t, taps)
            if (j >= t && j - t < columns)
                UNROLLED (o, outs) acc[o][j - t] = vi_dot2(acc[o][j - t], pair, weight[t][o]);
    }
    HIDE(p); /* or the compiler loads all rows first, and spills */
}

/* The same of one pair of taps, wherever it lies. */
INLINE void sum_tap(const int outs, const int columns, const int32_t *p, ptrdiff_t step,
                    const int32_t *w, vi acc[2][2 * DW]) {
    vi weight[2];
    UNROLLED (o, outs) weight[o] = vi_load(w + o * VW);
    UNROLLED (j, columns) {
        vi pair = vi_load(p + j * step);
        UNROLLED (o, outs) acc[o][j] = vi_dot2(acc[o][j], pair, weight[o]);
    }
    HIDE(p);
}

/* Any number of rows; taps 0: any number of taps. columns * outs pixels from x on. */
INLINE void sum_tile(const int outs, const int taps, const int columns, const lw_depthwise_args *a,
                     const sums *s, ptrdiff_t x) {
    const int32_t *w = s->w;
    vi acc[2][2 * DW];
    UNROLLED (o, outs)
        UNROLLED (j, columns) acc[o][j] = vi_set(0);
    for (int64_t k = 0; k < a->kh; k++) {
        const int32_t *p = a->p[k] + s->at + x / outs * a->step;
        if (taps) {
            sum_row(outs, taps, columns, p, a->step, w, acc);
            w += taps * outs * VW;
        } else {
            for (int64_t t = 0; t < a->taps; t++, p += a->tap, w += outs * VW)
                sum_tap(outs, columns, p, a->step, w, acc);
        }
    }
    UNROLLED (j, columns)
        UNROLLED (o, outs) store_sum(s, s->y + (x + j * outs + o) * a->ldy, acc[o][j]);
}

INLINE void sum_columns(const int outs, const int taps, const lw_depthwise_args *args) {
    const lw_depthwise_args a = *args; /* stores of y may alias *args */
    const int many = 2 * DW / outs, few = (many + 1) / 2;
    for (int v = 0; v < a.vectors; v++) {
        sums s = sums_at(&a, v);
        ptrdiff_t x = 0;
        for (; a.columns - x > few * outs; x += many * outs)
            sum_tile(outs, taps, many, &a, &s, x);
        if (x < a.columns) sum_tile(outs, taps, few, &a, &s, x);
    }
}

static void depthwise_1(const lw_depthwise_args *a) { sum_columns(1, 0, a); }
static void depthwise_1_2(const lw_depthwise_args *a) { sum_columns(1, 2, a); }
static void depthwise_1_3(const lw_depthwise_args *a) { sum_columns(1, 3, a); }
static void depthwise_2(const lw_depthwise_args *a) { sum_columns(2, 0, a); }
static void depthwise_2_2(const lw_depthwise_args *a) { sum_columns(2, 2, a); }
static void depthwise_2_3(const lw_depthwise_args *a) { sum_columns(2, 3, a); }

/* 3x3, one output for each pair: the second pair of a pixel is the first of the next. */
static void depthwise_3x3(const lw_depthwise_args *args) {
    const lw_depthwise_args a = *args;
    for (int v = 0; v < a.vectors; v++) {
        sums s = sums_at(&a, v);
        const int32_t *p[3];
        vi w[3][2], pair[3];
        UNROLLED (k, 3) {
            p[k] = a.p[k] + s.at;
            pair[k] = vi_load(p[k]);
            UNROLLED (t, 2) w[k][t] = vi_load(s.w + (k * 2 + t) * VW);
        }
        for (ptrdiff_t x = 0; x < a.columns; x++, s.y += a.ldy) {
            vi first = vi_set(0), second = vi_set(0);
            UNROLLED (k, 3) {
                first = vi_dot2(first, pair[k], w[k][0]);
                pair[k] = vi_load(p[k] += a.step);
                second = vi_dot2(second, pair[k], w[k][1]);
            }
            store_sum(&s, s.y, vi_add(first, second));
        }
    }
}

/* Two rows of 3x3 at stride 1 by Winograd's F(2,3) along columns: two thirds of the products. Of
 * source rows p0..p3 and rows of weights g0..g2, with the sums along the row,
 *   2 y0 = (p1 + p2) (g0 + g1 + g2) + (p2 - p1) (g0 - g1 + g2) + (p0 - p2) 2 g0
 *   2 y1 = (p1 + p2) (g0 + g1 + g2) - (p2 - p1) (g0 - g1 + g2) + (p3 - p1) 2 g2
 * which is exact: |v| < 2^14, so that the sums of two fit in 16 bits.
 * w : (4 products, 2 pairs, 2 outputs, vw). */
INLINE void winograd_rows(const int32_t *const *p, ptrdiff_t at, vi t[4]) {
    vi p1 = vi_load(p[1] + at), p2 = vi_load(p[2] + at);
    t[0] = v16_add(p1, p2), t[1] = v16_sub(p2, p1);
    t[2] = v16_sub(vi_load(p[0] + at), p2), t[3] = v16_sub(vi_load(p[3] + at), p1);
}

static void depthwise_winograd(const lw_depthwise_args *args) {
    const lw_depthwise_args a = *args;
    for (int v = 0; v < a.vectors; v++) {
        sums s = sums_at(&a, v);
        const int32_t *const p[4] = {a.p[0], a.p[1], a.p[2], a.p[3]};
        ptrdiff_t at = s.at;
        vi w[4][2][2], t[2][4];
        UNROLLED (i, 16) w[i / 4][i / 2 % 2][i % 2] = vi_load(s.w + i * VW);
        winograd_rows(p, at, t[0]);
        for (ptrdiff_t x = 0; x < a.columns; x += 2, s.y += 2 * a.ldy) {
            winograd_rows(p, at += a.step, t[1]);
            UNROLLED (o, 2) {
                vi half[2], sum[2];
                UNROLLED (i, 2) {
                    half[i] = vi_dot2(vi_set(0), t[0][i], w[i][0][o]);
                    half[i] = vi_dot2(half[i], t[1][i], w[i][1][o]);
                }
                sum[0] = vi_add(half[0], half[1]), sum[1] = vi_sub(half[0], half[1]);
                UNROLLED (i, 2) {
                    sum[i] = vi_dot2(sum[i], t[0][2 + i], w[2 + i][0][o]);
                    sum[i] = vi_dot2(sum[i], t[1][2 + i], w[2 + i][1][o]);
                    store_sum(&s, s.y + o * a.ldy + i * a.row, sum[i]);
                }
            }
            UNROLLED (i, 4) t[0][i] = t[1][i];
        }
    }
}

/* ---- levels -------------------------------------------------------------------------------- */

/* The largest of n values, lane by lane: as integers, the bits of floats >= 0 order as the floats
 * do, and those of negative ones lie below 0. */
INLINE vi floor_top(const float *y, int64_t n) {
    vi top = vi_set(0);
    int64_t j = 0;
    for (; j + VW <= n; j += VW) top = vi_max(top, vf_bits(vf_load(y + j)));
    return j < n ? vi_max(top, vf_bits(vf_load_n(y + j, n - j))) : top;
}

/* Levels of n values of `together` pixels; what lies below 0 becomes 0, what above 255 levels, 255. */
INLINE void floor_levels(const int together, const int64_t n, const lw_floor *p, const float *y,
                         const float *factor, uint8_t *q) {
    const int64_t each = 4 / together; /* vectors of a pixel that are packed at once */
    uint8_t packed[4 * VW];
    for (int64_t j = 0; j < n; j += each * VW) {
        int64_t left = n - j < each * VW ? n - j : each * VW;
        vi l[4];
        UNROLLED (v, 4) {
            const float *from = y + v / each * p->ldy + j + v % each * VW;
            l[v] = v % each * VW < left
                       ? vf_round(vf_mul(vf_load(from), vf_set(factor[v / each])))
                       : vi_set(0);
        }
        if (left == each * VW) {
            vi_store4_u8_parts(together, q + j, p->q_step, l);
            continue;
        }
        vi_store4_u8(packed, l);
        for (int x = 0; x < together; x++)
            memcpy(q + x * p->q_step + j, packed + x * each * VW, (size_t)left);
    }
}

/* Scales of `pixels` windows, and what takes their values to levels; nonzero if one value is not
 * finite or so far above `most` that no integer holds its level. */
INLINE int floor_scales(int pixels, vi *top, float largest, float *found, float *factor) {
    vf zero = vf_set(0.0f), levels = vf_set(255.0f), most = vf_set(largest);
    vi any = vi_set(0);
    for (int i = pixels; i % VW; i++) top[i] = any;
    for (int i = 0; i < pixels; i += VW) {
        vi bits = vi_hmax_rows(top + i);
        any = vi_max(any, bits);
        vf m = vf_min(vi_bits(bits), most), above = vf_add(m, vf_set(-0x1.fffffep-101f));
        vf_store(found + i, vf_positive(above, vf_div(m, levels), zero));
        vf_store(factor + i, vf_positive(above, vf_div(levels, m), zero));
    }
    float limit = largest * 0x1p22f;
    int32_t bits;
    memcpy(&bits, &limit, sizeof bits);
    return vi_hmax(any) >= bits;
}

INLINE int floor_pixels(const int64_t n, const lw_floor *p) {
    enum { PIXELS = 2 * LW_DEPTHWISE_TILE + VW };
    const int together = n <= VW ? 4 : n <= 2 * VW ? 2 : 1, columns = p->columns;
    vi top[PIXELS];
    float found[PIXELS], factor[PIXELS];
    for (int r = 0, i = 0; r < p->rows; r++)
        for (int x = 0; x < columns; x++, i++)
            top[i] = floor_top(p->y + r * p->y_row + x * p->ldy, n);
    if (floor_scales(p->rows * columns, top, p->most, found, factor)) return 1;
    for (int r = 0, x; r < p->rows; r++) {
        const float *y = p->y + r * p->y_row, *by = factor + r * columns;
        uint8_t *q = p->q + r * p->q_row;
        float *scale = p->scale + r * p->scale_row;
        for (x = 0; x < columns; x++) scale[x * p->scale_step] = found[r * columns + x];
        for (x = 0; x + together <= columns; x += together)
            floor_levels(together, n, p, y + x * p->ldy, by + x, q + x * p->q_step);
        for (; x < columns; x++) floor_levels(1, n, p, y + x * p->ldy, by + x, q + x * p->q_step);
    }
    return 0;
}

/* Usual lengths compile to their own loops. */
static int floor_windows(const lw_floor *p) {
    switch (p->n) {
    case 8: return floor_pixels(8, p);
    case 16: return floor_pixels(16, p);
    case 24: return floor_pixels(24, p);
    case 32: return floor_pixels(32, p);
    case 48: return floor_pixels(48, p);
    case 64: return floor_pixels(64, p);
    case 96: return floor_pixels(96, p);
    case 128: return floor_pixels(128, p);
    default: return floor_pixels(p->n, p);
    }
}

#endif

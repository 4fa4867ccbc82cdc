/* depthwise.h - sums of a depthwise layer in 16 bits, and their levels; lw.h says what they are.
 * A part of kern.c.
 *
 * A lane holds the values of one channel of two pixels side by side, so that one instruction
 * multiplies two taps. At stride 1 both of two output pixels take theirs from the same pairs. */
#ifndef LW_SRC_DEPTHWISE_H
#define LW_SRC_DEPTHWISE_H

#include "finish.h"

/* ---- source rows from bytes ---------------------------------------------------------------- */

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

/* ---- source rows from sums ----------------------------------------------------------------- */

INLINE vi half(const int limited, const float *y, vf limit, vf factor) {
    if (!limited) return vf_round(vf_mul(vf_load(y), factor));
    return vf_round(vf_min(limit, vf_load(y))); /* NaN stays, and becomes the least integer */
}

/* In one lane; negative ones become 0 if they are limited. */
INLINE vi both(const int limited, vi lower, vi upper) {
    if (limited) return v16_join(lower, upper);
    return vi_add(vi_and(lower, vi_set(0xffff)), vi_shl16(upper));
}

INLINE void halves_of(const int limited, const int vectors, const lw_halves *halves) {
    const lw_halves h = *halves; /* stores may alias *halves */
    const float *y = h.y;
    vf limit = vf_set(h.limit), factor = vf_set(h.factor);
    int32_t *out = h.out;
    int64_t n = h.n;
    if (h.upper && n > 0) {
        UNROLLED (v, vectors) {
            vi lower = vi_and(vi_load(out + v * VW), vi_set(0xffff));
            vi upper = half(limited, y + v * VW, limit, factor);
            vi_store(out + v * VW, vi_add(lower, both(limited, vi_set(0), upper)));
        }
        y += h.ldy, out += vectors * VW, n--;
    }
    for (; n > 1; n -= 2, y += 2 * h.ldy, out += vectors * VW)
        UNROLLED (v, vectors) {
            vi lower = half(limited, y + v * VW, limit, factor);
            vi upper = half(limited, y + h.ldy + v * VW, limit, factor);
            vi_store(out + v * VW, both(limited, lower, upper));
        }
    if (n)
        UNROLLED (v, vectors) {
            vi lower = half(limited, y + v * VW, limit, factor);
            vi_store(out + v * VW, both(limited, lower, vi_set(0)));
        }
}

static void halves(const lw_halves *h) {
    switch (h->vectors * 2 + (h->limit > 0)) { /* each case compiles to its own loop */
    case 2: halves_of(0, 1, h); break;
    case 3: halves_of(1, 1, h); break;
    case 4: halves_of(0, 2, h); break;
    case 5: halves_of(1, 2, h); break;
    case 6: halves_of(0, 3, h); break;
    case 7: halves_of(1, 3, h); break;
    case 8: halves_of(0, 4, h); break;
    default: halves_of(1, 4, h);
    }
}

static void shift_halves(int64_t n, const int32_t *x, int shift, int32_t *out) {
    for (int64_t i = 0; i < n; i += VW) vi_store(out + i, v16_shift(vi_load(x + i), shift));
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

/* acc += the products of a row of pairs, each of which is loaded once: taps begin one pair apart.
 */
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
        for (; a.columns - x > few * outs; x += many * outs) sum_tile(outs, taps, many, &a, &s, x);
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

#endif

/* winograd.h - lines of quantized pixels as Winograd's F(2, 3) takes them. A part of kern.c. */
#ifndef LW_SRC_WINOGRAD_H
#define LW_SRC_WINOGRAD_H

#include "finish.h"

enum {
    LANES = 2 * VW,                        /* of 16 bits */
    LINE_VECTORS = LW_LINE_WINDOW / LANES, /* of a window, at most */
    AT_ONCE = VW < 4 ? 1 : VW / 4,         /* windows whose maxima fill vectors */
    TOPS = LW_LINES * AT_ONCE
};

/* The lines of windows that are transformed at once, and what takes them to levels. */
typedef struct transformed {
    vi d[AT_ONCE][LW_LINES][LINE_VECTORS];
    vi top[TOPS];
    float by[TOPS];     /* 32768 / ratio */
    int32_t pair[TOPS]; /* the ratio, in both halves */
} transformed;

INLINE vi both_halves(vi x) { return vi_add(x, vi_shl16(x)); } /* of 0 to 32767 */

/* What takes the values of each source line to the largest scale of the four, which becomes a unit
 * of what they are then. */
static NOINLINE void line_ratios(const lw_lines_args *t, ptrdiff_t apart) {
    float *unit = (float *)(void *)(t->ratio + LW_LINES * apart);
    for (int64_t i = 0; i < t->count; i += VW) {
        vf s[LW_LINES];
        UNROLLED (l, LW_LINES) s[l] = vf_load_n(t->scale[l] + i, t->count - i);
        vf most = vf_max(vf_max(s[0], s[1]), vf_max(s[2], s[3]));
        vf by = where_large(most, vf_div(vf_set(16384.0f), most));
        UNROLLED (l, LW_LINES)
            vi_store(t->ratio + l * apart + i, both_halves(vf_round(vf_mul(s[l], by))));
        vf all = vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])); /* most may have lost a NaN */
        vf_store(unit + i, vf_fma(all, vf_set(0.0f), vf_mul(most, vf_set(1.0f / 64.0f))));
    }
}

/* Vector v of a window, of which n lanes count. */
INLINE void transform_vector(const int all, const uint8_t *const *q, ptrdiff_t at, const vi *ratio,
                             vi zero, int64_t n, vi d[LW_LINES][LINE_VECTORS], int64_t v, vi *top) {
    vi x[LW_LINES];
    UNROLLED (l, LW_LINES) {
        vi levels = v16_sub(v16_from_u8(q[l] + at + v * LANES), zero);
        x[l] = v16_rounded(v16_shl7(all ? levels : v16_first_n(levels, n)), ratio[l]);
    }
    d[0][v] = v16_sub(x[0], x[2]), d[1][v] = v16_add(x[1], x[2]);
    d[2][v] = v16_sub(x[2], x[1]), d[3][v] = v16_sub(x[1], x[3]);
    UNROLLED (l, LW_LINES) top[l] = v16_max(top[l], v16_abs(d[l][v]));
}

INLINE void transform_window(const lw_lines_args *t, ptrdiff_t apart, ptrdiff_t at, int64_t i,
                             vi d[LW_LINES][LINE_VECTORS], vi *tops) {
    const int64_t whole = t->window / LANES, rest = t->window % LANES;
    vi ratio[LW_LINES], top[LW_LINES], zero = vi_set(t->zero_point * 0x10001);
    UNROLLED (l, LW_LINES) ratio[l] = vi_set(t->ratio[l * apart + i]), top[l] = vi_set(0);
    for (int64_t v = 0; v < whole; v++)
        transform_vector(1, t->q, at, ratio, zero, LANES, d, v, top);
    if (rest) transform_vector(0, t->q, at, ratio, zero, rest, d, whole, top);
    UNROLLED (l, LW_LINES) tops[l] = v16_larger_half(top[l]);
}

/* Levels of the largest value of each line, for as many windows as fill vectors. */
INLINE void line_levels(int zero_point, float *levels) {
    for (int i = 0; i < TOPS; i++)
        levels[i] = i % LW_LINES == LW_SUM_LINE && !zero_point ? 255.0f : 127.0f;
}

static NOINLINE void find_line_ratios(transformed *w, const float *levels) {
    for (int i = 0; i < TOPS; i += VW) {
        vf most = vf_from(vi_max(vi_hmax_rows(w->top + i), vi_set(1)));
        vf ratio = vf_div(vf_mul(vf_load(levels + i), vf_set(32768.0f)), most);
        vi whole = vf_round(vf_min(ratio, vf_set(32767.0f)));
        vi_store(w->pair + i, both_halves(whole));
        vf_store(w->by + i, vf_div(vf_set(32768.0f), vf_from(whole)));
    }
}

/* The levels of one window to where its lines are, which lie `apart` bytes from each other. */
INLINE void write_lines(const transformed *w, int g, int64_t window, int zero_point, uint8_t *to,
                        ptrdiff_t apart) {
    UNROLLED (l, LW_LINES) {
        vi by = vi_set(w->pair[g * LW_LINES + l]);
        vi zero = vi_set(l == LW_SUM_LINE ? zero_point * 0x10001 : LW_MIDDLE * 0x10001);
        for (int64_t v = 0; v * LANES < window; v++)
            v16_to_u8(to + l * apart + v * LANES, v16_add(v16_rounded(w->d[g][l][v], by), zero));
    }
}

/* Lines end with what lies behind them: windows are written in their order. */
static void transform_lines(const lw_lines_args *t) {
    const ptrdiff_t apart = (t->count + VW - 1) / VW * VW;
    const ptrdiff_t bytes = t->windows * t->window; /* of a line of a pixel */
    const float *unit = (const float *)(const void *)(t->ratio + LW_LINES * apart);
    float levels[TOPS];
    transformed w;
    line_levels(t->zero_point, levels);
    line_ratios(t, apart);
    for (int i = 0; i < TOPS; i++) w.top[i] = vi_set(0);
    uint8_t *to = t->to;
    float *scale = t->to_scale;
    ptrdiff_t at = 0;
    int64_t read = 0, written = 0;
    for (int64_t i = 0; i < t->count; i += AT_ONCE) {
        int count = t->count - i < AT_ONCE ? (int)(t->count - i) : AT_ONCE;
        for (int g = 0; g < count; g++) {
            transform_window(t, apart, at + read * t->window, i + g, w.d[g], w.top + g * LW_LINES);
            if (++read == t->windows) read = 0, at += t->q_step;
        }
        find_line_ratios(&w, levels);
        for (int g = 0; g < count; g++) {
            write_lines(&w, g, t->window, t->zero_point, to + written * t->window, bytes);
            UNROLLED (l, LW_LINES)
                scale[l * t->windows + written] = unit[i + g] * w.by[g * LW_LINES + l];
            if (++written == t->windows)
                written = 0, to += LW_LINES * bytes, scale += LW_LINES * t->windows;
        }
    }
}

#endif

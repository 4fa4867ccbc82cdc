/* few.h - sums of few output channels: two or four pixels fill a vector, and their sums lie side by
 * side. A part of kern.c for instruction sets that have the operations of parts. */
#ifndef LW_SRC_FEW_H
#define LW_SRC_FEW_H

#include "isa.h"

enum { FEW = VW /* pixels of a tile */ };

/* One of four steps that are loaded at once; its number must be a literal. */
#define FEW_STEP(at)                                                                               \
    if (k + at < k4) {                                                                             \
        vb weights = vi_repeat(parts, (const int32_t *)(const void *)(w + (k + at) * NR * 4));     \
        UNROLLED (v, FEW / parts) acc[v] = v_dot4(acc[v], va_step(bytes[v], at), weights);         \
    }

/* acc += the products of k4 steps; reads whole sixteens of bytes. */
INLINE void few_steps(const int parts, int k4, const uint8_t *a, ptrdiff_t step, const uint8_t *w,
                      vi acc[FEW / 2]) {
    for (int k = 0; k < k4; k += 4) {
        va bytes[FEW / 2];
        UNROLLED (v, FEW / parts)
            bytes[v] = va_load_parts(parts, a + 4 * k + v * parts * step, step);
        FEW_STEP(0) FEW_STEP(1) FEW_STEP(2) FEW_STEP(3)
    }
}

/* Scales of the pixels of every vector. */
INLINE void few_scales(const int parts, const float *sa, ptrdiff_t step, vf scale[FEW / 2]) {
    if (step == 1) {
        vf all = vf_load(sa);
        UNROLLED (v, FEW / parts) scale[v] = vf_spread(parts, v, all);
    } else {
        UNROLLED (v, FEW / parts) scale[v] = vf_set_parts(parts, sa + v * parts * step, step);
    }
}

INLINE void few_tile(const int parts, const lw_mode mode, int windows, const lw_win *win,
                     const lw_pixels *from, const uint8_t *b, const lw_out *out, tile t) {
    const int vectors = FEW / parts;
    const ptrdiff_t step = from->a_step.pixel, scale_step = from->sa_step.pixel;
    vf f[FEW / 2];
    UNROLLED (v, vectors) f[v] = vf_set(0.0f);
    for (const lw_win *end = win + windows; win < end; win++) {
        const uint8_t *a = t.a + win->a_off, *panel = b + win->b_off;
        const float *sa = t.sa + win->s_off, *sb = (const float *)(const void *)(panel + NR * 4);
        const uint8_t *w = panel + NR * 4 * (mode == LW_AW ? 2 : 1);
        vi acc[FEW / 2];
        vf scale[FEW / 2];
        const vi comp = vi_repeat(parts, (const int32_t *)(const void *)panel);
        UNROLLED (v, vectors) acc[v] = comp;
        few_steps(parts, win->k4, a, step, w, acc);
        few_scales(parts, sa, scale_step, scale);
        UNROLLED (v, vectors) {
            vf x = vf_from(acc[v]);
            if (mode == LW_AW) x = vf_mul(x, vf_load_parts(parts, sb, 0));
            f[v] = vf_fma(x, scale[v], f[v]);
        }
    }
    vf bias = vf_load_parts(parts, out->bias, 0);
    vf sb = out->sb ? vf_load_parts(parts, out->sb, 0) : vf_set(1.0f);
    UNROLLED (v, vectors) vf_store(t.y + v * VW, vf_fma(f[v], sb, bias));
}

/* Mode C: one int32 sum over all chunks. */
INLINE void few_tile_c(const int parts, int windows, const lw_win *win, const lw_pixels *from,
                       const uint8_t *b, const lw_out *out, tile t) {
    const int vectors = FEW / parts;
    const ptrdiff_t step = from->a_step.pixel, scale_step = from->sa_step.pixel;
    const vi comp = vi_repeat(parts, (const int32_t *)(const void *)b);
    vi acc[FEW / 2];
    vf scale[FEW / 2];
    UNROLLED (v, vectors) acc[v] = comp;
    for (const lw_win *end = win + windows; win < end; win++)
        few_steps(parts, win->k4, t.a + win->a_off, step, b + win->b_off, acc);
    few_scales(parts, t.sa, scale_step, scale);
    vf sb = vf_load_parts(parts, out->sb, 0), bias = vf_load_parts(parts, out->bias, 0);
    UNROLLED (v, vectors)
        vf_store(t.y + v * VW, vf_fma(vf_from(acc[v]), vf_mul(sb, scale[v]), bias));
}

/* The last tile of a line may begin among the pixels of the one before. */
INLINE void few_lines(const int parts, const lw_mode mode, int windows, const lw_win *win,
                      const lw_pixels *from, const uint8_t *b, const lw_out *out) {
    const int last = from->count - FEW;
    for (int line = 0; line < from->lines; line++)
        for (int left = 0; left < from->count; left += FEW) {
            int at = left < last ? left : last;
            tile t = {.a = from->a + line * from->a_step.line + at * from->a_step.pixel,
                      .sa = from->sa + line * from->sa_step.line + at * from->sa_step.pixel,
                      .y = out->y + line * out->step.line + at * out->step.pixel};
            if (mode == LW_C)
                few_tile_c(parts, windows, win, from, b, out, t);
            else
                few_tile(parts, mode, windows, win, from, b, out, t);
        }
}

#define FEW_DOT(mode, parts)                                                                       \
    static void few_##mode##_##parts(int windows, const lw_win *win, const lw_pixels *from,        \
                                     const uint8_t *b, const lw_out *out) {                        \
        few_lines(parts, mode, windows, win, from, b, out);                                        \
    }
FEW_DOT(LW_A, 2)
FEW_DOT(LW_A, 4)
FEW_DOT(LW_AW, 2)
FEW_DOT(LW_AW, 4)
FEW_DOT(LW_C, 2)
FEW_DOT(LW_C, 4)

#endif

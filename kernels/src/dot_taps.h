/* dot_taps.h - taps of a kernel's row that lie side by side, of few channels, by a panel of one
 * vector. There each dot wants a load, and loads bound it; but a pixel that is read once can serve
 * all taps, if their weights stay in registers. Every sum takes the taps in their order, as
 * dot_chunk would. A part of kern.c. */
#ifndef LW_SRC_DOT_TAPS_H
#define LW_SRC_DOT_TAPS_H

enum { TAPS = 3, TAP_STEPS = 4 };

/* Whether the next chunks are such taps. */
INLINE int are_taps(const lw_win *win, const lw_win *end, const lw_pixels *from) {
    if (win->k4 != TAP_STEPS || end - win < TAPS) return 0;
    for (const lw_win *w = win + 1; w < win + TAPS; w++)
        if (w->k4 != TAP_STEPS || w->a_off - w[-1].a_off != from->a_step.pixel ||
            w->s_off - w[-1].s_off != from->sa_step.pixel)
            return 0;
    return 1;
}

/* Pixel x of the source is under a tap of pixel x - tap of the tile, where it has one. */
#define EACH_TAP                                                                                   \
    UNROLLED (tap, TAPS)                                                                           \
        if (tap <= x && x < mr + tap)

INLINE void dot_taps(const int mr, const lw_mode mode, const lw_win *win, const lw_pixels *from,
                     const uint8_t *b, const uint8_t *a, const float *sa, vf f[ROWS][NV]) {
    const uint8_t *panel[TAPS];
    vb w[TAPS][TAP_STEPS];
    UNROLLED (tap, TAPS) {
        panel[tap] = b + win[tap].b_off;
        UNROLLED (k, TAP_STEPS) w[tap][k] = vb_load(chunk_weights(mode, panel[tap]) + k * NR * 4);
    }
    a += win->a_off, sa += win->s_off;
    UNROLLED (x, mr + TAPS - 1) {
        vi acc[TAPS];
        EACH_TAP acc[tap] = vi_load((const int32_t *)(const void *)panel[tap]);
        UNROLLED (k, TAP_STEPS) {
            va ai = va_set(a + 4 * k);
            EACH_TAP acc[tap] = v_dot4(acc[tap], ai, w[tap][k]);
        }
        vf s = vf_set(*sa);
        EACH_TAP {
            vf y = vf_from(acc[tap]);
            if (mode == LW_AW) y = vf_mul(y, vf_load(chunk_scales(panel[tap])));
            f[x - tap][0] = vf_fma(y, s, f[x - tap][0]);
        }
        a += from->a_step.pixel, sa += from->sa_step.pixel;
        RELOAD(a); /* or the compiler makes an address of every pixel */
    }
}

#endif

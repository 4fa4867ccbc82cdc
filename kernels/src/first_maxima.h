/* first_maxima.h - the first layer ahead of a maximum over 3 x 3 pixels at stride 2: sums of
 * gathered pixels, of which the largest are kept as integers. A part of kern.c.
 *
 * Scales of weights and images are >= 0, so that the largest sum is that of the largest value. The
 * pixels of the next tile are gathered between the steps of dots; the maxima wait for no one. */
#ifndef LW_SRC_FIRST_MAXIMA_H
#define LW_SRC_FIRST_MAXIMA_H

#include "first.h"

/* Gathered pixels of two tiles, and those that come next: the last of a row stands for all behind
 * it. */
typedef struct tile_pixels {
    uint8_t *now, *to;
    const uint8_t *next, *last;
} tile_pixels;

INLINE void gather_clamped(const first_kind k, const lw_patches *g, const tile_pixels *p,
                           const int pixel) {
    const uint8_t *src = p->next + pixel * g->step;
    gather_pixel(k.shape, g, src < p->last ? src : p->last, p->to + pixel * LW_PATCH);
}

/* The sums of a tile, by channels that begin at b in a panel. */
INLINE void tile_sums(const first_kind k, const lw_first_maxima_args *a, const uint8_t *b,
                      int64_t apart, const tile_pixels *pixels, vi acc[FIRST]) {
    const int nv = k.nv, mr = FIRST / nv, each = (mr + STEPS - 1) / STEPS;
    const uint8_t *w = b + NR * 4, *p = pixels->now, *end = p + 4 * a->k4;
    UNROLLED (j, nv) {
        vi comp = vi_load((const int32_t *)(const void *)(b + j / NV * apart) + j % NV * VW);
        UNROLLED (i, mr) acc[i * nv + j] = comp;
    }
    UNROLLED (at, STEPS) {
        if (k.shape != ANY) {
            first_step(k, p, w, apart, acc);
            p += 4, w += NR * 4;
            UNROLLED (i, each)
                if (at * each + i < mr) gather_clamped(k, &a->patches, pixels, at * each + i);
        }
    }
    for (; p < end; p += 4, w += NR * 4) first_step(k, p, w, apart, acc);
    if (k.shape == ANY)
        for (int i = 0; i < mr; i++) gather_clamped(k, &a->patches, pixels, i);
}

/* Of pixels side by side, the maxima of three at every second one. carry: what the pixels before
 * have to add to the first. */
INLINE void along_row(const int nv, const int pad, const vi acc[FIRST], vi carry[], vi top[]) {
    const int mr = FIRST / nv;
    UNROLLED (j, nv) {
        top[j] = vi_max(carry[j], acc[j]);
        if (pad) top[j] = vi_max(top[j], acc[nv + j]);
        UNROLLED (i, mr / 2 - 1) {
            const vi *x = acc + (2 * i + pad) * nv + j;
            top[(i + 1) * nv + j] = vi_max(vi_max(x[0], x[nv]), x[2 * nv]);
        }
        carry[j] = acc[(mr - 1) * nv + j];
        if (!pad) carry[j] = vi_max(carry[j], acc[(mr - 2) * nv + j]);
    }
}

/* The maxima of a row join those of the rows above it; if it is the last of its kernels, they
 * become values, and begin anew. */
INLINE void down_columns(const int nv, const lw_first_maxima_args *a, int64_t c, const vi top[],
                         int64_t x) {
    const int count = FIRST / nv / 2;
    int32_t *sums = a->sums + x * a->ld + c;
    float *y = a->y + x * a->ld + c;
    for (int i = 0; i < count; i++, sums += a->ld, y += a->ld)
        UNROLLED (j, nv) {
            vi most = vi_max(vi_load(sums + j * VW), top[i * nv + j]);
            if (a->ends) {
                vf sb = vf_load(a->sb + c + j * VW), bias = vf_load(a->bias + c + j * VW);
                vf_store(y + j * VW, vf_fma(vf_from(most), sb, bias));
                most = top[i * nv + j];
            }
            vi_store(sums + j * VW, most);
        }
}

/* Channels from c on of a row. */
INLINE void maxima_row(const first_kind k, const lw_first_maxima_args *a, int64_t c) {
    const int nv = k.nv, mr = FIRST / nv;
    const int64_t apart = nv > NV && c + NR < a->oc ? a->panel_bytes : 0; /* the last may lack */
    const uint8_t *b = a->panels + c / NR * a->panel_bytes + c % NR * 4;
    uint8_t patches[2 * FIRST * LW_PATCH + LW_SLACK];
    tile_pixels p = {patches, patches + mr * LW_PATCH, a->src,
                     a->src + (a->wide - 1) * a->patches.step};
    vi carry[2 * NV], acc[FIRST], top[FIRST / 2];
    RELOAD(p.now); /* gcc 12 takes runs inside an array for aligned */
    RELOAD(p.to);
    UNROLLED (j, nv) carry[j] = vi_set(INT32_MIN);
    for (int i = 0; i < mr; i++) {
        const uint8_t *src = p.next + i * a->patches.step;
        gather(&a->patches, src < p.last ? src : p.last, 1, p.now + i * LW_PATCH);
    }
    for (int64_t x = a->pad - 1; x < a->count; x += mr / 2) {
        p.next += mr * a->patches.step;
        tile_sums(k, a, b, apart, &p, acc);
        a->pad ? along_row(nv, 1, acc, carry, top) : along_row(nv, 0, acc, carry, top);
        down_columns(nv, a, c, top, x);
        uint8_t *swap = p.now;
        p.now = p.to, p.to = swap;
    }
}

INLINE void maxima_rows(const first_kind k, const lw_first_maxima_args *args) {
    const lw_first_maxima_args a = *args; /* stores may alias *args */
    for (int64_t c = 0; c < a.oc; c += k.nv * VW) maxima_row(k, &a, c);
}

/* Each width and shape of kernel compiles to its own loops. A tile has an even number of pixels. */
#define FIRST_MAXIMA(nv)                                                                           \
    switch (a->k4 >= STEPS ? shape_of(&a->patches) : ANY) {                                        \
    case ROWS_3: maxima_rows((first_kind){nv, NONNEGATIVE, ROWS_3, 0}, a); break;                  \
    case ROWS_7: maxima_rows((first_kind){nv, NONNEGATIVE, ROWS_7, 0}, a); break;                  \
    default: maxima_rows((first_kind){nv, NONNEGATIVE, ANY, 0}, a);                                \
    }
enum {
    SLIM = FIRST / NV % 2 ? NV / 2 : NV, /* vectors of channels */
    WIDE = FIRST / (2 * NV) % 2 ? SLIM : 2 * NV
};
_Static_assert(FIRST / SLIM % 2 == 0, "maxima take pixels in pairs");

static NOINLINE void first_maxima_slim(const lw_first_maxima_args *a) { FIRST_MAXIMA(SLIM) }
static NOINLINE void first_maxima_wide(const lw_first_maxima_args *a) { FIRST_MAXIMA(WIDE) }

static void first_maxima(const lw_first_maxima_args *a) {
    a->oc > NR ? first_maxima_wide(a) : first_maxima_slim(a);
}

#endif

/* first_maxima.c - first layers ahead of the maximum of 3 x 3 pixels at stride 2: of each such
 * kernel only the largest sum is kept. Rows for pooled.c. */
#include "first_plan.h"
#include "int64.h"
#include "rows.h"

#include <stdlib.h>

struct lw_maxima_plan {
    const lw_conv_args *g;
    lw_first_maxima_args args;
    int32_t *piece;
    float *bias, *sb; /* bias, padded; per worker: sb times the scale of the image */
    float *memory;    /* per worker, `apart` floats apart: a pixel, then y; likewise the sums */
    int64_t apart, pixels; /* pixels: of y and of the sums, with those that are written too far */
};

int lw_maxima_takes(const lw_conv_args *g) {
    const lw_weights *w = g->weights;
    const lw_max_pool *m = g->max_pool;
    int shape = m->kh == 3 && m->kw == 3 && m->stride_h == 2 && m->stride_w == 2;
    int floored =
        g->activation == LW_RELU || (g->activation == LW_CLIP && g->lo >= 0 && g->hi >= 0);
    for (int64_t n = 0; n < w->oc && w->patches; n++)
        if (!(w->sb[n] >= 0)) return 0;
    return w->patches && !g->gemm && floored && shape && m->pad_top <= 1 && m->pad_left <= 1 &&
           (m->oh - 1) * 2 - m->pad_top + 1 < g->oh && /* the last has a row of its own */
           w->kh * w->kw * w->ic <= LW_PATCH - LW_SLACK && w->kh * w->kw <= LW_PATCH_PIECES;
}

lw_maxima_plan *lw_maxima_create(const lw_conv_args *g, int workers, lw_status *status) {
    lw_maxima_plan *p = lw_alloc(sizeof *p);
    *status = LW_NOMEM;
    if (!p) return NULL;
    const lw_weights *w = g->weights;
    int64_t ld = round_up((w->panel_count + 1) * w->isa->nr, LW_ALIGN / 4);
    p->g = g;
    lw_patches patches = lw_patches_of(g);
    p->piece = (int32_t *)patches.piece;
    patches.ld = LW_PATCH;
    p->pixels = 1 + g->max_pool->ow + w->isa->first_sums;
    p->apart = round_up(2 * p->pixels * ld, LW_PAGE_FLOATS) + LW_PAGE_FLOATS;
    p->bias = lw_alloc((size_t)ld * sizeof *p->bias);
    p->sb = lw_alloc((size_t)(workers * ld) * sizeof *p->sb);
    p->memory = lw_alloc((size_t)(workers * p->apart) * sizeof *p->memory);
    if (!p->piece || !p->bias || !p->sb || !p->memory) {
        lw_maxima_destroy(p);
        return NULL;
    }
    for (int64_t n = 0; n < w->oc; n++) p->bias[n] = g->bias ? g->bias[n] + 0.0f : 0.0f; /* no -0 */
    p->args =
        (lw_first_maxima_args){.patches = patches,
                               .k4 = (w->kh * w->kw * w->ic + 3) / 4,
                               .panels = w->data,
                               .panel_bytes = w->panel_count > 1 ? (int64_t)w->panels[1].offset : 0,
                               .oc = w->oc,
                               .bias = p->bias,
                               .pad = (int)g->max_pool->pad_left,
                               .wide = g->ow,
                               .count = g->max_pool->ow,
                               .ld = ld};
    *status = LW_OK;
    return p;
}

void lw_maxima_destroy(lw_maxima_plan *p) {
    if (!p) return;
    free(p->piece);
    free(p->bias);
    free(p->sb);
    free(p->memory);
    free(p);
}

int64_t lw_maxima_ld(const lw_maxima_plan *p) { return p->args.ld; }

/* What is the same for the rows of an image; the maxima begin. */
static void begin(const lw_maxima_plan *p, int64_t n, float *sb, int32_t *sums) {
    const lw_conv_args *g = p->g;
    float scale = g->src->image_scale ? g->src->image_scale[n] : 1.0f;
    for (int64_t i = 0; i < g->weights->oc; i++) sb[i] = g->weights->sb[i] * scale;
    for (int64_t i = 0; i < p->pixels * p->args.ld; i++) sums[i] = INT32_MIN;
}

float *lw_maxima_row(lw_maxima_plan *p, int64_t n, int64_t row, int first, int worker) {
    const lw_conv_args *g = p->g;
    const lw_tensor *src = g->src;
    lw_first_maxima_args a = p->args;
    float *y = p->memory + worker * p->apart, *sb = p->sb + worker * a.ld;
    int32_t *sums = (int32_t *)(void *)(y + p->pixels * a.ld);
    int64_t top = row * 2 - g->max_pool->pad_top, end = min64(top + 3, g->oh);
    if (first) begin(p, n, sb, sums);
    a.sb = sb, a.y = y + a.ld, a.sums = sums + a.ld;
    for (int64_t line = first ? max64(top, 0) : top + 1; line < end; line++) {
        int64_t at =
            pixel_at(src, n, line * g->stride_h - g->pad_top + src->top, src->left - g->pad_left);
        a.src = src->q + at * src->pixel_bytes;
        a.ends = line == end - 1;
        g->weights->isa->first_maxima(&a);
    }
    return a.y;
}

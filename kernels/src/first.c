/* first.c - first layers: so few channels that the taps of a pixel are gathered into one run of
 * bytes, which wastes less of the dot instruction than four bytes for every tap.
 *
 * A task is one row of output pixels. */
#include "first_plan.h"
#include "int64.h"
#include "rows.h"

#include <math.h>
#include <stdlib.h>

struct lw_first_plan {
    const lw_conv_args *g;
    lw_first_args args;
    int32_t *piece;
    float *sb, *bias; /* (panels + 1, nr) */
    uint8_t *patches; /* per worker, `apart` bytes apart: patches of lw_first_args, then scaled */
    int64_t patch_bytes, apart;
};

enum { PAGE = 4096 };

lw_patches lw_patches_of(const lw_conv_args *g) {
    const lw_weights *w = g->weights;
    const lw_tensor *src = g->src;
    int64_t wide = src->w + src->left + src->right;
    int64_t run = g->dilation_w == 1 ? w->kw : 1; /* taps that lie side by side */
    int64_t pieces = w->kh * w->kw / run;
    lw_patches p = {.step = g->stride_w * src->pixel_bytes,
                    .bytes = (int)(run * w->ic),
                    .pieces = (int)pieces,
                    .ld = round_up(w->kh * w->kw * w->ic, 4)};
    int32_t *piece = lw_alloc((size_t)pieces * sizeof *piece);
    if (!piece) return (lw_patches){0};
    for (int64_t i = 0; i < pieces; i++) {
        int64_t tap = i * run, y = tap / w->kw * g->dilation_h, x = tap % w->kw * g->dilation_w;
        piece[i] = (int32_t)((y * wide + x) * src->pixel_bytes);
    }
    p.piece = piece;
    return p;
}

int lw_first_takes(const lw_conv_args *g) {
    const lw_weights *w = g->weights;
    int64_t nr = w->isa->nr;
    return w->patches && g->dst_q && !g->dst && !g->residual && !g->residual_q && !g->gemm &&
           g->dst_q->window <= 2 * nr && (g->dst_q->window % nr == 0 || g->dst_q->windows == 1) &&
           g->ow >= w->isa->first_pixels && g->activation <= LW_SILU &&
           (g->activation != LW_CLIP || (g->lo <= 0 && g->hi >= 0)) && /* padding stays 0 */
           w->kh * w->kw * w->ic <= LW_PATCH - LW_SLACK && w->kh * w->kw <= LW_PATCH_PIECES;
}

lw_first_plan *lw_first_create(const lw_conv_args *g, int workers, lw_status *status) {
    lw_first_plan *p = lw_alloc(sizeof *p);
    *status = LW_NOMEM;
    if (!p) return NULL;
    const lw_weights *w = g->weights;
    int64_t nr = w->isa->nr, padded = (w->panel_count + 1) * nr;
    int relu = g->activation == LW_RELU; /* a clip to infinity */
    p->g = g;
    lw_patches patches = lw_patches_of(g);
    p->piece = (int32_t *)patches.piece;
    patches.ld = LW_PATCH;
    p->patch_bytes = round_up(2 * w->isa->first_pixels * LW_PATCH + LW_SLACK, LW_ALIGN);
    p->apart = round_up(p->patch_bytes + padded * (int64_t)sizeof(float), PAGE) + PAGE;
    p->sb = lw_alloc((size_t)padded * sizeof *p->sb);
    p->bias = lw_alloc((size_t)padded * sizeof *p->bias);
    p->patches = lw_alloc((size_t)(workers * p->apart));
    if (!p->piece || !p->sb || !p->bias || !p->patches) {
        lw_first_destroy(p);
        return NULL;
    }
    for (int64_t n = 0; n < w->oc; n++) {
        p->sb[n] = w->sb[n];
        p->bias[n] = g->bias ? g->bias[n] + 0.0f : 0.0f; /* -0 becomes +0 */
    }
    p->args = (lw_first_args){.patches = patches,
                              .k4 = (w->kh * w->kw * w->ic + 3) / 4,
                              .panels = w->data,
                              .panel_bytes = w->panel_count > 1 ? (int64_t)w->panels[1].offset : 0,
                              .oc = w->oc,
                              .sb = p->sb,
                              .bias = p->bias,
                              .activation = relu ? LW_CLIP : g->activation,
                              .alpha = g->alpha,
                              .lo = relu ? 0.0f : g->lo,
                              .hi = relu ? INFINITY : g->hi,
                              .window = g->dst_q->window,
                              .zero_point = g->dst_q->zero_point,
                              .q_step = g->dst_q->pixel_bytes,
                              .s_step = g->dst_q->pixel_windows};
    *status = LW_OK;
    return p;
}

int64_t lw_first_tasks(const lw_first_plan *p) { return p->g->src->n * p->g->oh; }

lw_status lw_first_run(lw_first_plan *p, int64_t task, int worker) {
    const lw_conv_args *g = p->g;
    const lw_tensor *src = g->src, *dst = g->dst_q;
    int64_t n = task / g->oh, y = task % g->oh;
    int64_t from =
        pixel_at(src, n, y * g->stride_h - g->pad_top + src->top, src->left - g->pad_left);
    int64_t to = pixel_at(dst, n, y + dst->top, dst->left);
    lw_first_args a = p->args;
    a.patch = p->patches + worker * p->apart;
    a.scaled = (float *)(void *)(a.patch + p->patch_bytes);
    return g->weights->isa->first(
        &a, g->ow, src->q + from * src->pixel_bytes, src->image_scale ? src->image_scale[n] : 1.0f,
        dst->q + to * dst->pixel_bytes, dst->scale + to * dst->pixel_windows);
}

void lw_first_destroy(lw_first_plan *p) {
    if (!p) return;
    free(p->piece);
    free(p->sb);
    free(p->bias);
    free(p->patches);
    free(p);
}

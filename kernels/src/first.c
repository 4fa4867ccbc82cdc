/* first.c - first layers: so few channels that the taps of a pixel are gathered into one run of
 * bytes, which wastes less of the dot instruction than four bytes for every tap.
 *
 * A task is a band of rows of output pixels. */
#include "first_plan.h"
#include "int64.h"
#include "rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lw_first_plan {
    const lw_conv_args *g;
    lw_first_args args;
    int32_t *piece;
    uint8_t *twice;   /* a panel whose channels follow a second time, of rests */
    float *sb, *bias; /* (panels + 1, nr) */
    float *scaled;    /* per worker, `apart` floats apart */
    int64_t apart;
    int64_t bands, band; /* of an image; rows of one, but the last */
};

enum { BAND = 16 /* rows at most: enough to forget what a band costs */ };

/* Channels that are made: those of rests are the same once more. */
static int64_t made(const lw_conv_args *g) {
    return g->weights->oc * (g->dst_q->rests ? 2 : 1);
}

/* Vectors of a window: one, or those of a panel or of two. */
static int window_vectors(const lw_conv_args *g) {
    const lw_isa *isa = g->weights->isa;
    int64_t n = min64(g->dst_q->window, made(g));
    return n <= isa->vw ? 1 : (n <= isa->nr ? isa->nr : 2 * isa->nr) / isa->vw;
}

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
           (!g->dst_q->rests || made(g) <= nr) &&
           g->ow >= w->isa->first_sums / window_vectors(g) && g->activation <= LW_SILU &&
           (g->activation != LW_CLIP || (g->lo <= 0 && g->hi >= 0)) && /* padding stays 0 */
           w->kh * w->kw * w->ic <= LW_PATCH - LW_SLACK && w->kh * w->kw <= LW_PATCH_PIECES;
}

/* The only panel with its n channels twice. */
static uint8_t *twice(const lw_weights *w, int64_t rows) {
    const size_t row = (size_t)w->isa->nr * 4, n = (size_t)w->oc * 4;
    uint8_t *panel = lw_alloc(row * (size_t)rows);
    for (int64_t i = 0; panel && i < rows; i++) {
        memcpy(panel + i * row, w->data + i * row, n);
        memcpy(panel + i * row + n, w->data + i * row, n);
    }
    return panel;
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
    p->apart = round_up(padded, LW_ALIGN / 4);
    p->sb = lw_alloc((size_t)padded * sizeof *p->sb);
    p->bias = lw_alloc((size_t)padded * sizeof *p->bias);
    p->scaled = lw_alloc((size_t)(workers * p->apart) * sizeof *p->scaled);
    int64_t k4 = (w->kh * w->kw * w->ic + 3) / 4;
    if (g->dst_q->rests) p->twice = twice(w, k4 + 1);
    if (!p->piece || !p->sb || !p->bias || !p->scaled || (g->dst_q->rests && !p->twice)) {
        lw_first_destroy(p);
        return NULL;
    }
    for (int64_t i = 0; i < made(g); i++) {
        int64_t n = i % w->oc;
        p->sb[i] = w->sb[n];
        p->bias[i] = g->bias ? g->bias[n] + 0.0f : 0.0f; /* -0 becomes +0 */
    }
    int64_t shared = ceil_div(g->src->n * g->oh, 4 * (int64_t)workers);
    p->bands = ceil_div(g->oh, min64(shared, BAND));
    p->band = ceil_div(g->oh, p->bands);
    p->bands = ceil_div(g->oh, p->band);
    p->args = (lw_first_args){.patches = patches,
                              .k4 = k4,
                              .panels = p->twice ? p->twice : w->data,
                              .panel_bytes = w->panel_count > 1 ? (int64_t)w->panels[1].offset : 0,
                              .oc = made(g),
                              .sb = p->sb,
                              .bias = p->bias,
                              .activation = relu ? LW_CLIP : g->activation,
                              .alpha = g->alpha,
                              .lo = relu ? 0.0f : g->lo,
                              .hi = relu ? INFINITY : g->hi,
                              .window = g->dst_q->window,
                              .vectors = window_vectors(g),
                              .zero_point = g->dst_q->zero_point,
                              .rests = g->dst_q->rests,
                              .row = pixel_step(g->src, AXIS_Y) * g->src->pixel_bytes * g->stride_h,
                              .q_row = pixel_step(g->dst_q, AXIS_Y) * g->dst_q->pixel_bytes,
                              .s_row = pixel_step(g->dst_q, AXIS_Y) * g->dst_q->pixel_windows,
                              .q_step = g->dst_q->pixel_bytes,
                              .s_step = g->dst_q->pixel_windows};
    *status = LW_OK;
    return p;
}

int64_t lw_first_tasks(const lw_first_plan *p) { return p->g->src->n * p->bands; }

lw_status lw_first_run(lw_first_plan *p, int64_t task, int worker) {
    const lw_conv_args *g = p->g;
    const lw_tensor *src = g->src, *dst = g->dst_q;
    int64_t n = task / p->bands, y = task % p->bands * p->band;
    int64_t from =
        pixel_at(src, n, y * g->stride_h - g->pad_top + src->top, src->left - g->pad_left);
    int64_t to = pixel_at(dst, n, y + dst->top, dst->left);
    lw_first_args a = p->args;
    a.scaled = p->scaled + worker * p->apart;
    return g->weights->isa->first(
        &a, min64(p->band, g->oh - y), g->ow, src->q + from * src->pixel_bytes,
        src->image_scale ? src->image_scale[n] : 1.0f, dst->q + to * dst->pixel_bytes,
        dst->scale + to * dst->pixel_windows);
}

void lw_first_destroy(lw_first_plan *p) {
    if (!p) return;
    free(p->piece);
    free(p->twice);
    free(p->sb);
    free(p->bias);
    free(p->scaled);
    free(p);
}

/* rows.h - where output pixels come from and go to, and what becomes of their sums. */
#ifndef LW_SRC_ROWS_H
#define LW_SRC_ROWS_H

#include "isa.h"

enum { AXIS_N, AXIS_Y, AXIS_X, AXES };

/* Coordinates of an output pixel: image, y, x. */
typedef struct position {
    int64_t at[AXES];
} position;

/* Output pixels from `first` on: `lines` along one axis, each of `count` along another. */
typedef struct area {
    position first;
    int line_axis, pixel_axis; /* what a line follows on, and a pixel in its line */
    int64_t lines, count;
} area;

/* Number of a pixel; y and x count from the border's corner. */
static inline int64_t pixel_at(const lw_tensor *t, int64_t n, int64_t y, int64_t x) {
    return (n * (t->h + t->top + t->bottom) + y) * (t->w + t->left + t->right) + x;
}

/* Pixels from one to the next along an axis. */
static inline int64_t pixel_step(const lw_tensor *t, int axis) {
    int64_t wide = t->w + t->left + t->right;
    return axis == AXIS_X ? 1 : axis == AXIS_Y ? wide : wide * (t->h + t->top + t->bottom);
}

static inline int64_t pixel_of(const lw_tensor *t, const position *p) {
    return pixel_at(t, p->at[AXIS_N], p->at[AXIS_Y] + t->top, p->at[AXIS_X] + t->left);
}

static inline lw_step tensor_step(const lw_tensor *t, const area *a, int64_t per_pixel) {
    return (lw_step){pixel_step(t, a->line_axis) * per_pixel,
                     pixel_step(t, a->pixel_axis) * per_pixel};
}

static inline int64_t float_at(const int64_t stride[AXES], const position *p) {
    return p->at[AXIS_N] * stride[AXIS_N] + p->at[AXIS_Y] * stride[AXIS_Y] +
           p->at[AXIS_X] * stride[AXIS_X];
}

static inline lw_step float_step(const int64_t stride[AXES], const area *a) {
    return (lw_step){stride[a->line_axis], stride[a->pixel_axis]};
}

/* Whether the activation makes values below 0 one and the same. */
static inline int is_floored(const lw_conv_args *g) {
    return g->activation == LW_RELU || (g->activation == LW_CLIP && g->lo >= 0 && g->hi >= 0);
}

/* What follows the sums of areas along these axes: all but what `post_at` sets, and sb and bias. */
static inline lw_post post_along(const lw_conv_args *g, int line_axis, int pixel_axis) {
    const lw_tensor *q = g->dst_q, *r = g->residual_q;
    const area a = {.line_axis = line_axis, .pixel_axis = pixel_axis};
    lw_post p = {.activation = g->activation, .alpha = g->alpha, .lo = g->lo, .hi = g->hi};
    if (g->residual) p.residual_step = float_step(g->residual_stride, &a);
    if (r) {
        p.residual_q_step = tensor_step(r, &a, r->pixel_bytes);
        p.residual_scale_step = tensor_step(r, &a, r->pixel_windows);
        p.residual_shift = lw_residual_shift(r);
        p.residual_zero = r->zero_point;
    }
    if (g->dst) p.dst_step = float_step(g->dst_stride, &a);
    if (q) {
        p.q_step = tensor_step(q, &a, q->pixel_bytes);
        p.scale_step = tensor_step(q, &a, q->pixel_windows);
        p.window = q->window;
        p.zero_point = q->zero_point;
        p.rests = q->rests;
    }
    return p;
}

/* n channels from n0 on of an area; n0 is the first of window number `window`. */
static inline void post_at(lw_post *p, const lw_conv_args *g, const area *a, int64_t n0, int64_t n,
                           int64_t window) {
    const lw_tensor *q = g->dst_q, *r = g->residual_q;
    p->lines = (int)a->lines, p->count = (int)a->count;
    p->n = n, p->first = n0;
    if (g->residual) p->residual = g->residual + float_at(g->residual_stride, &a->first) + n0;
    if (r) {
        int64_t pixel = pixel_of(r, &a->first);
        p->residual_q = r->q + pixel * r->pixel_bytes + n0;
        p->residual_scale = r->scale + pixel * r->pixel_windows;
    }
    if (g->dst) p->dst = g->dst + float_at(g->dst_stride, &a->first) + n0;
    if (q) {
        int64_t pixel = pixel_of(q, &a->first);
        p->q = q->q + pixel * q->pixel_bytes + n0;
        p->scale = q->scale + pixel * q->pixel_windows + window;
    }
}

#endif

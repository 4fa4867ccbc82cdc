/* rows.h - where output pixels come from and go to, and what becomes of their sums. */
#ifndef LW_SRC_ROWS_H
#define LW_SRC_ROWS_H

#include "isa.h"

typedef struct position {
    int64_t n, y, x;
} position;

/* Where the channels from n0 of a few output pixels come from and go to. */
typedef struct row_set {
    const float *residual[LW_FINISH_ROWS], *residual_scale[LW_FINISH_ROWS];
    const uint8_t *residual_q[LW_FINISH_ROWS];
    float *dst[LW_FINISH_ROWS], *scale[LW_FINISH_ROWS];
    uint8_t *q[LW_FINISH_ROWS];
} row_set;

static inline int64_t offset_at(const int64_t stride[3], position at, int64_t n0) {
    return at.n * stride[0] + at.y * stride[1] + at.x * stride[2] + n0;
}

/* Number of a pixel; y and x count from the border's corner. */
static inline int64_t pixel_at(const lw_tensor *t, int64_t n, int64_t y, int64_t x) {
    return (n * (t->h + t->top + t->bottom) + y) * (t->w + t->left + t->right) + x;
}

/* Output pixels from `at` on, to rows [first, first + count), all in one row of the image. */
static inline void locate_rows(const lw_conv_args *g, position at, int64_t n0, row_set *rows,
                               int first, int count) {
    const lw_tensor *q = g->dst_q;
    if (g->residual) {
        const float *residual = g->residual + offset_at(g->residual_stride, at, n0);
        int64_t step = g->residual_stride[2];
        for (int i = 0; i < count; i++) rows->residual[first + i] = residual + i * step;
    }
    if (g->dst) {
        float *dst = g->dst + offset_at(g->dst_stride, at, n0);
        int64_t step = g->dst_stride[2];
        for (int i = 0; i < count; i++) rows->dst[first + i] = dst + i * step;
    }
    if (g->residual_q) {
        const lw_tensor *r = g->residual_q;
        int64_t pixel = pixel_at(r, at.n, at.y + r->top, at.x + r->left);
        int64_t step = r->pixel_bytes, scale_step = r->pixel_windows;
        const uint8_t *from = r->q + pixel * step + n0;
        const float *scale = r->scale + pixel * scale_step;
        for (int i = 0; i < count; i++) rows->residual_q[first + i] = from + i * step;
        for (int i = 0; i < count; i++) rows->residual_scale[first + i] = scale + i * scale_step;
    }
    if (q) {
        int64_t pixel = pixel_at(q, at.n, at.y + q->top, at.x + q->left);
        uint8_t *to = q->q + pixel * q->pixel_bytes + n0;
        float *scale = q->scale + pixel * q->pixel_windows + n0 / q->window;
        int64_t step = q->pixel_bytes, scale_step = q->pixel_windows;
        for (int i = 0; i < count; i++) rows->q[first + i] = to + i * step;
        for (int i = 0; i < count; i++) rows->scale[first + i] = scale + i * scale_step;
    }
}

/* What follows the sums of n channels from `first` on at `rows`; sb and bias are left to the caller. */
static inline lw_post post_of(const lw_conv_args *g, const row_set *rows, int64_t first,
                              int64_t n) {
    const lw_tensor *r = g->residual_q;
    return (lw_post){.activation = g->activation,
                     .alpha = g->alpha,
                     .lo = g->lo,
                     .hi = g->hi,
                     .n = n,
                     .residual = g->residual ? rows->residual : NULL,
                     .residual_q = r ? rows->residual_q : NULL,
                     .residual_scale = rows->residual_scale,
                     .first = first,
                     .residual_shift = r ? lw_residual_shift(r) : 0,
                     .residual_zero = r ? r->zero_point : 0,
                     .dst = g->dst ? rows->dst : NULL,
                     .q = g->dst_q ? rows->q : NULL,
                     .scale = rows->scale,
                     .window = g->dst_q ? g->dst_q->window : 0,
                     .zero_point = g->dst_q ? g->dst_q->zero_point : 0};
}

#endif

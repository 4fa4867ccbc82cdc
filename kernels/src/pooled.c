/* pooled.c - a convolution and the maximum over kernels of pixels that alone reads it, as one layer
 * whose tensor between them never exists.
 *
 * A task makes the rows of its band and block of channels as the kernels reach them, as float sums
 * that stay in the nearest caches. A row of maxima at a time is finished. */
#include "conv_plan.h"
#include "int64.h"

#include <stdlib.h>

enum {
    TASKS = 4,                 /* of a worker, at least, where there are several workers */
    INFINITY_BITS = 0x7f800000 /* those of NaN exceed it, too */
};

struct lw_pooled_plan {
    const lw_conv_args *g;
    lw_maxima_plan *maxima; /* NULL, or makes the rows of maxima; then dense is NULL */
    lw_conv *dense;         /* its scratch holds a ring of kh rows */
    lw_block all;           /* the only block of `maxima` */
    const lw_block *blocks;
    int64_t block_count;
    lw_post post;
    int floored; /* whether values below 0 become one and the same: sums are compared, not values */
    int64_t bands, band; /* of an image; rows of one, but the last */
    float *y;            /* per worker, `apart` floats apart: a row of maxima, (ow, ldy) */
    int64_t ldy, apart;
};

/* One task: rows [y0, y1) of maxima of a block of channels of image n. */
typedef struct band {
    const lw_block *b;
    int64_t n, y0, y1;
} band;

/* ---- plan --------------------------------------------------------------------------------- */

/* Whether the first and the last kernel see a pixel. */
static int is_axis(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t pad) {
    return kernel >= 1 && kernel <= LW_MAX_POOL && stride >= 1 && pad >= 0 && pad < kernel &&
           out >= 1 && (out - 1) * stride - pad < size;
}

int lw_pooled_takes(const lw_conv_args *g) {
    const lw_max_pool *m = g->max_pool;
    return g->weights->groups == 1 && !g->weights->depthwise && g->ow > 1 && !g->producer &&
           !g->shortcut && !g->residual && !g->residual_q &&
           is_axis(g->oh, m->oh, m->kh, m->stride_h, m->pad_top) &&
           is_axis(g->ow, m->ow, m->kw, m->stride_w, m->pad_left);
}

static void plan_bands(lw_pooled_plan *p, int workers) {
    int64_t high = p->g->max_pool->oh, others = p->g->src->n * p->block_count;
    int64_t bands = workers > 1 ? ceil_div(TASKS * (int64_t)workers, others) : 1;
    p->band = ceil_div(high, min64(bands, high));
    p->bands = ceil_div(high, p->band);
}

static lw_status plan_maxima(lw_pooled_plan *p, int workers) {
    lw_status status;
    p->maxima = lw_maxima_create(p->g, workers, &status);
    if (!p->maxima) return status;
    p->all = (lw_block){.n = p->g->weights->oc, .last = p->g->weights->panel_count};
    p->blocks = &p->all;
    p->block_count = 1;
    p->ldy = lw_maxima_ld(p->maxima);
    return LW_OK;
}

static lw_status plan_dense(lw_pooled_plan *p, int workers) {
    lw_status status;
    lw_conv_args sums = *p->g; /* blocks end with windows of dst_q */
    int lines = (int)sums.max_pool->kh;
    sums.max_pool = NULL, sums.dst = NULL;
    p->dense = lw_conv_create_rows(&sums, LW_BLOCK_CHANNELS, lines, workers, &status);
    if (!p->dense) return status;
    p->blocks = p->dense->blocks;
    p->block_count = p->dense->block_count;
    p->ldy = round_up(p->dense->ldc, 16) + 16; /* vectors write too far */
    p->apart = round_up(p->g->max_pool->ow * p->ldy, LW_PAGE_FLOATS) + LW_PAGE_FLOATS;
    p->y = lw_alloc((size_t)(workers * p->apart) * sizeof *p->y);
    return p->y ? LW_OK : LW_NOMEM;
}

lw_pooled_plan *lw_pooled_create(const lw_conv_args *g, int workers, lw_status *status) {
    lw_pooled_plan *p = lw_alloc(sizeof *p);
    *status = LW_NOMEM;
    if (!p) return NULL;
    p->g = g;
    p->floored = is_floored(g);
    p->post = post_along(g, AXIS_Y, AXIS_X);
    if (!p->floored) p->post.activation = LW_NONE;
    *status = lw_maxima_takes(g) ? plan_maxima(p, workers) : plan_dense(p, workers);
    if (*status == LW_OK) {
        plan_bands(p, workers);
        return p;
    }
    lw_pooled_destroy(p);
    return NULL;
}

void lw_pooled_destroy(lw_pooled_plan *p) {
    if (!p) return;
    lw_maxima_destroy(p->maxima);
    lw_conv_destroy(p->dense);
    free(p->y);
    free(p);
}

/* ---- run ---------------------------------------------------------------------------------- */

int64_t lw_pooled_tasks(const lw_pooled_plan *p) {
    return p->g->src->n * p->bands * p->block_count;
}

/* Weights that do not fit L2 serve all bands in turn; others all blocks of a band. */
static band find_band(const lw_pooled_plan *p, int64_t index) {
    int64_t blocks = p->block_count, bands = p->g->src->n * p->bands;
    int large = lw_weights_bytes(p->g->weights) > LW_RESIDENT_BYTES;
    int64_t block = large ? index / bands : index % blocks;
    int64_t i = large ? index % bands : index / blocks, y0 = i % p->bands * p->band;
    return (band){p->blocks + block, i / p->bands, y0, min64(y0 + p->band, p->g->max_pool->oh)};
}

/* Activates `rows` rows. Nonzero if a value is NaN or infinite. */
static int activate_rows(const lw_pooled_plan *p, const band *t, int64_t rows, float *f) {
    const lw_conv_args *g = p->g;
    const lw_activate_args args = {.activation = g->activation,
                                   .alpha = g->alpha,
                                   .lo = g->lo,
                                   .hi = g->hi,
                                   .count = rows * g->ow,
                                   .n = t->b->n,
                                   .f = f,
                                   .ldf = p->dense->ldc};
    return p->dense->isa->activate(&args) >= INFINITY_BITS;
}

/* Where the ring holds a row. */
static float *row_at(const lw_pooled_plan *p, float *ring, int64_t row) {
    return ring + row % p->g->max_pool->kh * p->g->ow * p->dense->ldc;
}

/* Rows [y, end). Nonzero if a value is NaN or infinite. */
static int make_rows(const lw_pooled_plan *p, const band *t, float *ring, int64_t y, int64_t end,
                     int worker) {
    int64_t kh = p->g->max_pool->kh, lines;
    int bad = 0;
    for (; y < end; y += lines) {
        lines = min64(min64(p->dense->lines, end - y), kh - y % kh);
        area a = {{{t->n, y, 0}}, AXIS_Y, AXIS_X, lines, p->g->ow};
        float *c = row_at(p, ring, y);
        lw_conv_sum(p->dense, t->b, &a, c, worker);
        if (!p->floored) bad |= activate_rows(p, t, lines, c);
    }
    return bad;
}

/* A row of maxima of rows [from, end), which are made: columns outside the image do not count. */
static void max_rows(const lw_pooled_plan *p, const band *t, float *ring, int64_t from, int64_t end,
                     float *y) {
    const lw_max_pool *m = p->g->max_pool;
    int64_t wide = p->g->ow, step = p->dense->ldc, count;
    const float *line[LW_MAX_POOL];
    for (int64_t x = 0; x < m->ow; x += count) {
        int64_t column = x * m->stride_w - m->pad_left, first = max64(column, 0);
        int64_t last = min64(column + m->kw, wide), whole = last - first == m->kw;
        count = whole ? min64((wide - last) / m->stride_w + 1, m->ow - x) : 1;
        for (int64_t i = from; i < end; i++) line[i - from] = row_at(p, ring, i) + first * step;
        const lw_max_lines_args args = {.line = line,
                                        .lines = (int)(end - from),
                                        .kw = (int)(last - first),
                                        .stride = (int)m->stride_w,
                                        .floored = p->floored,
                                        .step = step,
                                        .count = count,
                                        .n = t->b->n,
                                        .y = y + x * p->ldy,
                                        .ldy = p->ldy};
        p->dense->isa->max_lines(&args);
    }
}

static lw_status finish_row(const lw_pooled_plan *p, const band *t, int64_t row, float *y) {
    int64_t wide = p->g->max_pool->ow;
    lw_status status = LW_OK;
    lw_post post = p->post;
    for (int64_t x = 0; x < wide; x += LW_FINISH_ROWS) {
        area piece = {{{t->n, row, x}}, AXIS_Y, AXIS_X, 1, min64(LW_FINISH_ROWS, wide - x)};
        post_at(&post, p->g, &piece, t->b->n0, t->b->n, t->b->window);
        if (p->g->weights->isa->finish(&post, y + x * p->ldy, (lw_step){0, p->ldy}))
            status = LW_NONFINITE;
    }
    return status;
}

static lw_status run_maxima(lw_pooled_plan *p, const band *t, int worker) {
    lw_status status = LW_OK;
    for (int64_t row = t->y0; row < t->y1; row++) {
        float *y = lw_maxima_row(p->maxima, t->n, row, row == t->y0, worker);
        if (finish_row(p, t, row, y)) status = LW_NONFINITE;
    }
    return status;
}

static lw_status run_dense(lw_pooled_plan *p, const band *t, int worker) {
    const lw_max_pool *m = p->g->max_pool;
    float *ring = p->dense->scratch + worker * p->dense->apart, *y = p->y + worker * p->apart;
    int64_t made = 0;
    int bad = 0;
    for (int64_t row = t->y0; row < t->y1; row++) {
        int64_t top = row * m->stride_h - m->pad_top, end = min64(top + m->kh, p->g->oh);
        top = max64(top, 0);
        bad |= make_rows(p, t, ring, max64(made, top), end, worker);
        made = end;
        max_rows(p, t, ring, top, end, y);
        bad |= finish_row(p, t, row, y) != LW_OK;
    }
    return bad ? LW_NONFINITE : LW_OK;
}

lw_status lw_pooled_run(lw_pooled_plan *p, int64_t index, int worker) {
    band t = find_band(p, index);
    return p->maxima ? run_maxima(p, &t, worker) : run_dense(p, &t, worker);
}

/* pooling.c - maximum and average over windows of pixels, of float or quantized images; the result
 * is stored as float, quantized into the windows of the next layer, or both, in one pass. */
#include "isa.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SCRATCH_FLOATS = 8192 }; /* of one worker, unless a pixel needs more: stays in L1 or L2 */

struct lw_pooling_plan {
    lw_pooling_args args;
    const lw_isa *isa;
    int64_t oh, ow, ldc, pixels; /* pixels that are stored together */
    int workers, columns;        /* columns: whether maxima of columns are found first */
    lw_tap *taps;                /* per worker: kh * kw */
    float *scratch; /* per worker: (pixels, ldc); with columns, (w, ldc) of them behind */
    int64_t apart;
    atomic_int failed;
};

/* Where the image and the output lie: n, y, x in elements of each array. */
static lw_tap tap_at(const lw_pooling_args *g, int64_t n, int64_t y, int64_t x) {
    if (!g->src_q) {
        const int64_t *s = g->src_stride;
        return (lw_tap){g->src + n * s[0] + y * s[1] + x * s[2], NULL, NULL};
    }
    const lw_tensor *t = g->src_q;
    int64_t wide = t->w + t->left + t->right, high = t->h + t->top + t->bottom;
    int64_t pixel = (n * high + y + t->top) * wide + x + t->left;
    return (lw_tap){NULL, t->q + pixel * t->pixel_bytes, t->scale + pixel * t->pixel_windows};
}

/* Taps of an output pixel that lie inside the image; *count: those that the average counts. */
static int collect_taps(const lw_pooling_plan *p, int64_t n, int64_t oy, int64_t ox, lw_tap *taps,
                        int64_t *count) {
    const lw_pooling_args *g = &p->args;
    int found = 0;
    *count = 0;
    for (int64_t i = 0; i < g->kh; i++) {
        int64_t y = oy * g->stride_h - g->pad_top + i * g->dilation_h;
        if (y >= g->h + g->pad_bottom) break;
        for (int64_t j = 0; j < g->kw; j++) {
            int64_t x = ox * g->stride_w - g->pad_left + j * g->dilation_w;
            if (x >= g->w + g->pad_right) break;
            int inside = y >= 0 && y < g->h && x >= 0 && x < g->w;
            if (inside) taps[found++] = tap_at(g, n, y, x);
            *count += inside || g->count_pads;
        }
    }
    return found;
}

/* `count` pixels of output row (n, y) from x on, ldc apart in f. */
static lw_status store_pixels(const lw_pooling_plan *p, int64_t n, int64_t y, int64_t x,
                              int64_t count, const float *f) {
    const lw_pooling_args *g = &p->args;
    for (int64_t i = 0; g->dst && i < count; i++) {
        const int64_t *s = g->dst_stride;
        memcpy(g->dst + n * s[0] + y * s[1] + (x + i) * s[2], f + i * p->ldc,
               (size_t)g->c * sizeof *f);
    }
    const lw_tensor *t = g->dst_q;
    if (!t) return LW_OK;
    int64_t wide = t->w + t->left + t->right, high = t->h + t->top + t->bottom;
    int64_t pixel = (n * high + y + t->top) * wide + x + t->left;
    return p->isa->quantize(count, f, p->ldc, g->c, t->window, t->zero_point,
                            t->q + pixel * t->pixel_bytes, t->pixel_bytes,
                            t->scale + pixel * t->pixel_windows, t->pixel_windows);
}

static void pool_pixel(const lw_pooling_plan *p, int64_t n, int64_t y, int64_t x, lw_tap *taps,
                       float *f) {
    const lw_pooling_args *g = &p->args;
    const lw_tensor *t = g->src_q;
    int64_t count;
    int found = collect_taps(p, n, y, x, taps, &count);
    float factor = g->average ? 1.0f / (float)(count ? count : 1) : 1.0f;
    if (found)
        p->isa->pool(g->average, found, taps, g->c, t ? t->window : g->c, t ? t->zero_point : 0,
                     factor, f);
    else
        memset(f, 0, (size_t)g->c * sizeof *f);
}

/* Whether the kernel of rows takes the plan. */
static int has_rows(const lw_pooling_args *g) {
    int shape = (g->kw == 3 && g->stride_w <= 2) || (g->kw == 2 && g->stride_w == 2);
    return !g->average && g->src_q && shape && g->dilation_h == 1 && g->dilation_w == 1;
}

/* Maxima of output pixels [x, x + count), whose columns all lie in the image. */
static void max_pixels(const lw_pooling_plan *p, int64_t n, int64_t y, int64_t x, int64_t count,
                       float *f) {
    const lw_pooling_args *g = &p->args;
    const lw_tensor *t = g->src_q;
    int64_t wide = t->w + t->left + t->right, top = y * g->stride_h - g->pad_top;
    int64_t first = top < 0 ? 0 : top, end = top + g->kh < g->h ? top + g->kh : g->h;
    lw_tap tap = tap_at(g, n, first, x * g->stride_w - g->pad_left);
    lw_max_args args = {.rows = end - first,
                        .count = count,
                        .n = g->c,
                        .window = t->window,
                        .kw = (int)g->kw,
                        .stride = (int)g->stride_w,
                        .zero_point = t->zero_point,
                        .q = tap.q,
                        .s = tap.s,
                        .q_row = wide * t->pixel_bytes,
                        .s_row = wide * t->pixel_windows,
                        .q_step = t->pixel_bytes,
                        .s_step = t->pixel_windows,
                        .f = f,
                        .ldf = p->ldc};
    p->isa->max_row(&args);
}

/* Output pixels [x, x + count) of a row: those at the border of the image one by one. */
static void pool_pixels(const lw_pooling_plan *p, int64_t n, int64_t y, int64_t x, int64_t count,
                        lw_tap *taps, float *f) {
    const lw_pooling_args *g = &p->args;
    int64_t end = x + count, inner = 0, top = y * g->stride_h - g->pad_top;
    int64_t room = g->w + g->pad_left - g->kw;
    if (has_rows(g) && room >= 0 && top < g->h && top + g->kh > 0) { /* columns inside: */
        int64_t first = (g->pad_left + g->stride_w - 1) / g->stride_w,
                stop = room / g->stride_w + 1;
        inner = (end < stop ? end : stop) - (x > first ? x : first);
    }
    for (int64_t i = x; i < end; i++, f += p->ldc) {
        int64_t at = i * g->stride_w - g->pad_left;
        if (inner > 0 && at >= 0) {
            max_pixels(p, n, y, i, inner, f);
            i += inner - 1, f += (inner - 1) * p->ldc, inner = 0;
        } else {
            pool_pixel(p, n, y, i, taps, f);
        }
    }
}

/* Whether it is less work to find the maximum of each column of pixels under a row of kernels, and
 * then that of columns side by side. */
static int has_columns(const lw_pooling_args *g, int64_t ow) {
    return !g->average && !has_rows(g) && g->kh * g->kw * ow > g->kh * g->w + g->kw * ow;
}

/* The maxima of all columns under output row (n, y). 0 if no row of the image is there. */
static int max_columns(const lw_pooling_plan *p, int64_t n, int64_t y, lw_tap *taps, float *f) {
    const lw_pooling_args *g = &p->args;
    const lw_tensor *t = g->src_q;
    int found = 0;
    for (int64_t x = 0; x < g->w; x++, f += p->ldc) {
        found = 0;
        for (int64_t i = 0; i < g->kh; i++) {
            int64_t row = y * g->stride_h - g->pad_top + i * g->dilation_h;
            if (row >= 0 && row < g->h) taps[found++] = tap_at(g, n, row, x);
        }
        if (!found) return 0;
        p->isa->pool(0, found, taps, g->c, t ? t->window : g->c, t ? t->zero_point : 0, 1.0f, f);
    }
    return found;
}

/* Output pixels [x, x + count) of a row from the maxima of its columns. */
static void join_columns(const lw_pooling_plan *p, int64_t x, int64_t count, const float *columns,
                         lw_tap *taps, float *f) {
    const lw_pooling_args *g = &p->args;
    for (int64_t i = x; i < x + count; i++, f += p->ldc) {
        int found = 0;
        for (int64_t j = 0; j < g->kw; j++) {
            int64_t column = i * g->stride_w - g->pad_left + j * g->dilation_w;
            if (column >= 0 && column < g->w) taps[found++].x = columns + column * p->ldc;
        }
        taps->q = NULL;
        p->isa->pool(0, found, taps, g->c, g->c, 0, 1.0f, f);
    }
}

/* One task is one output row. */
static void pooling_task(void *context, int64_t index, int worker) {
    lw_pooling_plan *p = context;
    const lw_pooling_args *g = &p->args;
    lw_tap *taps = p->taps + worker * g->kh * g->kw;
    float *f = p->scratch + worker * p->apart, *columns = f + p->pixels * p->ldc;
    int64_t n = index / p->oh, y = index % p->oh;
    int found = p->columns && max_columns(p, n, y, taps, columns);
    if (g->dst_q && g->dst_q->shared && y == 0) lw_tensor_fill_border(g->dst_q, n);
    for (int64_t x = 0; x < p->ow; x += p->pixels) {
        int64_t count = p->ow - x < p->pixels ? p->ow - x : p->pixels;
        if (found)
            join_columns(p, x, count, columns, taps, f);
        else
            pool_pixels(p, n, y, x, count, taps, f);
        if (store_pixels(p, n, y, x, count, f)) atomic_store(&p->failed, 1);
    }
}

lw_pooling_plan *lw_pooling_create(const lw_isa *isa, const lw_pooling_args *args, int64_t oh,
                                   int64_t ow, int threads) {
    lw_pooling_plan *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->args = *args;
    p->isa = isa;
    p->oh = oh;
    p->ow = ow;
    p->workers = threads;
    p->ldc = (args->c + 15) / 16 * 16 + 64; /* vectors write beyond the last channel */
    p->taps = calloc((size_t)(threads * args->kh * args->kw), sizeof *p->taps);
    p->pixels = SCRATCH_FLOATS / p->ldc < LW_FINISH_ROWS ? SCRATCH_FLOATS / p->ldc : LW_FINISH_ROWS;
    if (p->pixels > ow) p->pixels = ow;
    if (p->pixels < 1) p->pixels = 1;
    p->columns = has_columns(args, ow);
    p->apart = (p->pixels + (p->columns ? args->w : 0)) * p->ldc;
    p->scratch = calloc((size_t)(threads * p->apart), sizeof *p->scratch);
    if (p->taps && p->scratch) return p;
    lw_pooling_destroy(p);
    return NULL;
}

lw_status lw_pooling_run(lw_pooling_plan *p, lw_pool *pool) {
    lw_pool_run(pool, p->args.n * p->oh, pooling_task, p);
    return atomic_exchange(&p->failed, 0) ? LW_NONFINITE : LW_OK;
}

void lw_pooling_destroy(lw_pooling_plan *p) {
    if (!p) return;
    free(p->taps);
    free(p->scratch);
    free(p);
}

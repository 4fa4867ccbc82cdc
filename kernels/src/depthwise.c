/* depthwise.c - depthwise layers: tiles of output pixels times blocks of channels.
 *
 * A task brings the source rows of its tile to 16 bits, one at a time, into a ring that stays in
 * L1, adds up one or two output rows from it, and finishes them. */
#include "depthwise_plan.h"
#include "rows.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILE = LW_DEPTHWISE_TILE,
    BLOCK_CHANNELS = 64, /* at least, unless the layer has fewer */
    RING_BYTES = 24576,  /* of one worker, unless even the narrowest strip needs more */
    GRANULE = 4,         /* vectors */
    GROUP_ROWS = 2       /* that are finished at once */
};

/* At most GRANULE vectors of channels of one source window, inside one block. */
typedef struct granule {
    int64_t c0, n, window;
    int64_t at; /* number of its first vector among all */
    int vectors;
} granule;

/* Output channels [c0, c0 + n) : granules [first, last), vectors from v0 on, source windows [w0,
 * w1). */
typedef struct block {
    int64_t c0, n, first, last, v0, w0, w1;
    int64_t window; /* of the destination, which begins at c0 */
} block;

/* Memory of one worker. */
typedef struct worker_state {
    int32_t *ring;  /* (slots, vectors of a block, pairs, vw), vectors of a granule side by side */
    int64_t *held;  /* (slots): the source row that it holds */
    float *seen;    /* scales of one window of a tile */
    int32_t *ratio; /* (windows of a block, pixels of a tile): R of each and the next */
    float *y;       /* (rows, columns, ldy) */
    float *unit;    /* (windows of a block): U */
    float *scale;   /* (vectors of a block, vw): U * sb */
    const int32_t **line; /* (rows of taps) */
} worker_state;

struct lw_depthwise_plan {
    const lw_conv_args *g;
    const lw_isa *isa;
    granule *granules;
    block *blocks;
    int64_t block_count, tiles_x, tiles_y, vectors;
    int64_t most_vectors, most_windows, most_channels; /* of a block */
    lw_depthwise *sum;
    int winograd;
    lw_post post;                 /* of any tile */
    int64_t outs, taps;           /* output columns that share pairs; pairs of a row of taps */
    int64_t unit, step, tap;      /* source columns from pair to pair; pairs from one to the next */
    int64_t lines, slots;         /* source rows of a group; places for them */
    int64_t strip, padded, pairs; /* output columns at once; filled up; pairs that they see */
    int64_t seen;                 /* source pixels of a tile, padded to whole vectors */
    int32_t *weights;             /* (vectors, weight_step) */
    int64_t weight_step;
    float *sb, *bias; /* (vectors, vw) */
    int64_t ldy;
    worker_state *workers;
    int worker_count;
    void *memory; /* of the workers */
};

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* ---- plan --------------------------------------------------------------------------------- */

static int64_t block_channels(const lw_depthwise_plan *p) {
    const lw_tensor *q = p->g->dst_q, *r = p->g->residual_q;
    int64_t window = q ? q->window : 1, step = ceil_div(BLOCK_CHANNELS, window) * window;
    while (r && step < r->c && step % r->window) step += window;
    return step;
}

static void plan_granules(lw_depthwise_plan *p, block *b) {
    int64_t window = p->g->weights->window, vw = p->isa->vw, end = b->c0 + b->n;
    granule *g = p->granules + b->first;
    b->v0 = p->vectors;
    for (int64_t c = b->c0; c < end; c += g->n, g++) {
        int64_t n = min64(GRANULE * vw, min64(end, (c / window + 1) * window) - c);
        *g = (granule){c, n, c / window, p->vectors, (int)ceil_div(n, vw)};
        p->vectors += g->vectors;
    }
    b->last = g - p->granules;
    b->window = p->g->dst_q ? b->c0 / p->g->dst_q->window : 0;
    b->w0 = b->c0 / window, b->w1 = (end - 1) / window + 1;
    p->most_vectors = max64(p->most_vectors, p->vectors - b->v0);
    p->most_windows = max64(p->most_windows, b->w1 - b->w0);
    p->most_channels = max64(p->most_channels, b->n);
}

static lw_status plan_blocks(lw_depthwise_plan *p) {
    int64_t oc = p->g->weights->oc, step = block_channels(p), first = 0;
    p->block_count = ceil_div(oc, step);
    p->blocks = lw_alloc((size_t)p->block_count * sizeof *p->blocks);
    p->granules = lw_alloc((size_t)oc * sizeof *p->granules);
    if (!p->blocks || !p->granules) return LW_NOMEM;
    for (int64_t i = 0; i < p->block_count; i++) {
        block *b = p->blocks + i;
        *b = (block){.c0 = i * step, .n = min64(oc - i * step, step), .first = first};
        plan_granules(p, b);
        first = b->last;
    }
    return LW_OK;
}

/* Which kernel adds up, and how many output columns it fills up to. */
static int64_t plan_sum(lw_depthwise_plan *p) {
    const lw_conv_args *g = p->g;
    const lw_isa *isa = p->isa;
    int64_t kh = g->weights->kh, kw = g->weights->kw;
    int paired = g->dilation_w == 1 && g->stride_w <= 2, three = paired && kh == 3 && kw == 3;
    p->unit = paired ? 2 : 1;
    p->outs = paired && g->stride_w == 1 ? 2 : 1;
    p->taps = paired ? ceil_div(kw + p->outs - 1, 2) : kw;
    p->step = paired ? 1 : g->stride_w;
    p->tap = paired ? 1 : g->dilation_w;
    p->winograd = three && p->outs == 2 && g->stride_h == 1 && g->dilation_h == 1;
    p->lines = p->winograd ? 4 : kh;
    p->slots = p->lines;
    if (p->winograd)
        p->sum = isa->depthwise_winograd;
    else if (three && p->outs == 1)
        p->sum = isa->depthwise_3x3;
    else
        p->sum = isa->depthwise[p->outs - 1][paired && p->taps <= LW_DEPTHWISE_ROW ? p->taps : 0];
    return p->winograd ? 2 : isa->depthwise_columns;
}

static void plan_geometry(lw_depthwise_plan *p) {
    const lw_conv_args *g = p->g;
    const lw_weights *w = g->weights;
    p->post = post_along(g, AXIS_Y, AXIS_X);
    int64_t fill = plan_sum(p), wide = (w->kw - 1) * g->dilation_w + 1;
    for (p->strip = min64(TILE, g->ow);; p->strip = ceil_div(p->strip, 2)) {
        p->padded = ceil_div(p->strip, fill) * fill;
        p->pairs = (p->padded / p->outs - 1) * p->step + (p->taps - 1) * p->tap + 1;
        int64_t bytes = p->slots * p->most_vectors * p->pairs * p->isa->vw * 4;
        if (bytes <= RING_BYTES || p->strip <= TILE / 2) break;
    }
    int64_t high = (min64(TILE, g->oh) - 1) * g->stride_h + (w->kh - 1) * g->dilation_h + 1;
    p->seen = ceil_div(high * ((min64(TILE, g->ow) - 1) * g->stride_w + wide), 16) * 16;
    p->tiles_x = ceil_div(g->ow, TILE);
    p->tiles_y = ceil_div(g->oh, TILE);
}

/* Weight of column x of tap row y; 0 if there is none. */
static int32_t tap_weight(const lw_weights *w, int64_t c, int64_t y, int64_t x) {
    return x < 0 || x >= w->kw ? 0 : w->dw[(y * w->kw + x) * w->ldw + c];
}

/* What a lane is multiplied with for twice the sum: row i of the taps, or of the four products of
 * depthwise_winograd. */
static int32_t doubled(const lw_depthwise_plan *p, int64_t c, int64_t i, int64_t x) {
    const lw_weights *w = p->g->weights;
    if (!p->winograd) return 2 * tap_weight(w, c, i, x);
    int32_t g0 = tap_weight(w, c, 0, x), g1 = tap_weight(w, c, 1, x), g2 = tap_weight(w, c, 2, x);
    const int32_t products[] = {g0 + g1 + g2, g0 - g1 + g2, 2 * g0, 2 * g2};
    return products[i];
}

static int32_t pair_of(int32_t lower, int32_t upper) {
    return (lower & 0xffff) | (int32_t)((uint32_t)upper << 16);
}

/* The weights of channel c, vw apart: rows, pairs of taps, outputs of a pair. */
static void pack_channel(const lw_depthwise_plan *p, int64_t c, int32_t *to) {
    for (int64_t i = 0; i < p->lines; i++)
        for (int64_t t = 0; t < p->taps; t++)
            for (int64_t o = 0; o < p->outs; o++, to += p->isa->vw) {
                int64_t x = p->unit * t - o;
                *to = pair_of(doubled(p, c, i, x), p->unit == 2 ? doubled(p, c, i, x + 1) : 0);
            }
}

static lw_status plan_weights(lw_depthwise_plan *p) {
    const lw_weights *w = p->g->weights;
    int64_t vw = p->isa->vw;
    p->weight_step = p->lines * p->taps * p->outs * vw;
    p->weights = lw_alloc((size_t)(p->vectors * p->weight_step) * sizeof *p->weights);
    p->sb = lw_alloc((size_t)(p->vectors * vw) * sizeof *p->sb);
    p->bias = lw_alloc((size_t)(p->vectors * vw) * sizeof *p->bias);
    if (!p->weights || !p->sb || !p->bias) return LW_NOMEM;
    for (const granule *g = p->granules; g < p->granules + p->blocks[p->block_count - 1].last; g++)
        for (int64_t lane = 0; lane < g->n; lane++) {
            int64_t c = g->c0 + lane, at = g->at * vw + lane;
            p->sb[at] = w->sb[c];
            p->bias[at] = p->g->bias ? p->g->bias[c] + 0.0f : 0.0f; /* -0 becomes +0 */
            pack_channel(p, c, p->weights + at / vw * p->weight_step + at % vw);
        }
    return LW_OK;
}

/* Takes `bytes` of the memory at *at, aligned; with memory NULL only counts. */
static void *take(uint8_t *memory, size_t *at, size_t bytes) {
    void *p = memory ? memory + *at : NULL;
    *at += (bytes + LW_ALIGN - 1) / LW_ALIGN * LW_ALIGN;
    return p;
}

/* The memory of one worker; without any, only counts. */
static void divide(const lw_depthwise_plan *p, worker_state *s, uint8_t *memory, size_t *at) {
    size_t lanes = (size_t)(p->most_vectors * p->isa->vw), slots = (size_t)p->slots;
    s->ring = take(memory, at, slots * lanes * (size_t)p->pairs * sizeof *s->ring);
    s->held = take(memory, at, slots * sizeof *s->held);
    s->seen = take(memory, at, (size_t)(p->seen + 1) * sizeof *s->seen);
    s->ratio = take(memory, at, (size_t)(p->most_windows * p->seen) * sizeof *s->ratio);
    s->y = take(memory, at, (size_t)(GROUP_ROWS * p->padded * p->ldy) * sizeof *s->y);
    s->unit = take(memory, at, (size_t)p->most_windows * sizeof *s->unit);
    s->scale = take(memory, at, lanes * sizeof *s->scale);
    s->line = take(memory, at, (size_t)p->lines * sizeof *s->line);
}

static lw_status plan_workers(lw_depthwise_plan *p, int workers) {
    size_t bytes = 0;
    worker_state none;
    p->ldy = ceil_div(p->most_channels, 16) * 16 + 16; /* vectors go too far */
    divide(p, &none, NULL, &bytes);
    p->workers = lw_alloc((size_t)workers * sizeof *p->workers);
    p->memory = lw_alloc((size_t)workers * bytes);
    if (!p->workers || !p->memory) return LW_NOMEM;
    for (int i = 0; i < workers; i++) {
        size_t at = (size_t)i * bytes;
        divide(p, p->workers + i, p->memory, &at);
    }
    return LW_OK;
}

lw_depthwise_plan *lw_depthwise_create(const lw_conv_args *args, int workers, lw_status *status) {
    lw_depthwise_plan *p = lw_alloc(sizeof *p);
    *status = LW_NOMEM;
    if (!p) return NULL;
    p->g = args;
    p->isa = args->weights->isa;
    *status = plan_blocks(p);
    if (*status == LW_OK) {
        plan_geometry(p);
        *status = plan_weights(p);
    }
    if (*status == LW_OK) *status = plan_workers(p, workers);
    if (*status == LW_OK) return p;
    lw_depthwise_destroy(p);
    return NULL;
}

void lw_depthwise_destroy(lw_depthwise_plan *p) {
    if (!p) return;
    free(p->granules);
    free(p->blocks);
    free(p->weights);
    free(p->sb);
    free(p->bias);
    free(p->workers);
    free(p->memory);
    free(p);
}

int64_t lw_depthwise_tasks(const lw_depthwise_plan *p) {
    return p->g->src->n * p->tiles_y * p->tiles_x * p->block_count;
}

/* ---- run ---------------------------------------------------------------------------------- */

/* One task: outputs [y0, y1) x [x0, x1) of image n, and the source pixels that they see, from
 * (top, left) to (bottom, right) of the bordered source. */
typedef struct tile {
    const block *b;
    int64_t n, y0, y1, x0, x1;
    int64_t top, left, bottom, right;
} tile;

static tile find_tile(const lw_depthwise_plan *p, int64_t index) {
    const lw_conv_args *g = p->g;
    const lw_weights *w = g->weights;
    int64_t per_image = p->tiles_y * p->tiles_x, i = index / p->block_count;
    tile t = {.b = p->blocks + index % p->block_count, .n = i / per_image};
    t.y0 = i % per_image / p->tiles_x * TILE, t.y1 = min64(t.y0 + TILE, g->oh);
    t.x0 = i % p->tiles_x * TILE, t.x1 = min64(t.x0 + TILE, g->ow);
    t.top = t.y0 * g->stride_h - g->pad_top + g->src->top;
    t.left = t.x0 * g->stride_w - g->pad_left + g->src->left;
    t.bottom = t.top + (t.y1 - 1 - t.y0) * g->stride_h + (w->kh - 1) * g->dilation_h + 1;
    t.right = t.left + (t.x1 - 1 - t.x0) * g->stride_w + (w->kw - 1) * g->dilation_w + 1;
    return t;
}

/* Scales of window w of the tile, row by row, to s->seen. */
static void gather_scales(const lw_tensor *src, const tile *t, int64_t w, float *seen) {
    int64_t count = t->right - t->left, step = src->pixel_windows;
    for (int64_t y = t->top; y < t->bottom; y++, seen += count) {
        const float *scale = src->scale + pixel_at(src, t->n, y, t->left) * step + w;
        if (step == 1)
            memcpy(seen, scale, (size_t)count * sizeof *seen);
        else
            for (int64_t x = 0; x < count; x++) seen[x] = scale[x * step];
    }
}

/* R of every source pixel, and U * sb of every channel. */
static void find_units(const lw_depthwise_plan *p, worker_state *s, const tile *t) {
    int64_t vw = p->isa->vw, pixels = (t->right - t->left) * (t->bottom - t->top);
    for (int64_t w = t->b->w0; w < t->b->w1; w++) {
        float scale;
        gather_scales(p->g->src, t, w, s->seen);
        int32_t bits = p->isa->largest(s->seen, pixels);
        memcpy(&scale, &bits, sizeof scale);
        int any = scale >= 0x1p-112f; /* so that 16384 / scale is finite */
        s->unit[w - t->b->w0] = any ? scale * 0x1p-7f : 0.0f;
        p->isa->ratios(pixels, s->seen, any ? 16384.0f / scale : 0.0f,
                       s->ratio + (w - t->b->w0) * p->seen);
    }
    for (const granule *g = p->granules + t->b->first; g < p->granules + t->b->last; g++) {
        float unit = s->unit[g->window - t->b->w0], *scale = s->scale + (g->at - t->b->v0) * vw;
        const float *sb = p->sb + g->at * vw;
        for (int64_t lane = 0; lane < g->vectors * vw; lane++) scale[lane] = unit * sb[lane];
    }
}

/* n pixels of source row y, from column `left` on, of all granules to place `slot` of the ring. */
static void fill_line(const lw_depthwise_plan *p, worker_state *s, const tile *t, int64_t y,
                      int64_t left, int64_t n, int64_t slot) {
    const lw_tensor *src = p->g->src;
    int64_t vw = p->isa->vw;
    int64_t ratio = (y - t->top) * (t->right - t->left) + left - t->left;
    const uint8_t *q = src->q + pixel_at(src, t->n, y, left) * src->pixel_bytes;
    int32_t *line = s->ring + slot * p->most_vectors * p->pairs * vw;
    for (const granule *g = p->granules + t->b->first; g < p->granules + t->b->last; g++) {
        const lw_pairs pairs = {.n = ceil_div(n, p->unit),
                                .whole = n / p->unit, /* there is no pixel after the last */
                                .a = q + g->c0,
                                .next = (p->unit - 1) * src->pixel_bytes,
                                .step = p->unit * src->pixel_bytes,
                                .ratio = s->ratio + (g->window - t->b->w0) * p->seen + ratio,
                                .ratio_step = p->unit,
                                .vectors = g->vectors,
                                .zero_point = src->zero_point,
                                .out = line + (g->at - t->b->v0) * p->pairs * vw};
        p->isa->pairs(&pairs);
    }
}

/* The source rows of the sums that begin at output row y; what the ring holds is kept. */
static void fill_rows(const lw_depthwise_plan *p, worker_state *s, const tile *t, int64_t y,
                      int64_t left, int64_t n) {
    const lw_conv_args *g = p->g;
    int64_t first = t->top + (y - t->y0) * g->stride_h;
    for (int64_t k = 0; k < p->lines; k++) {
        int64_t row = first + k * g->dilation_h, slot = g->dilation_h == 1 ? row % p->slots : k;
        if (row < t->bottom && s->held[slot] != row) {
            fill_line(p, s, t, row, left, n, slot);
            s->held[slot] = row;
        }
        s->line[k] = s->ring + slot * p->most_vectors * p->pairs * p->isa->vw;
    }
}

/* The sums of `columns` pixels to row r of y; of the row below, too, by Winograd. */
static void sum_row(const lw_depthwise_plan *p, worker_state *s, const block *b, int64_t r,
                    int64_t columns) {
    int64_t vw = p->isa->vw;
    lw_depthwise_args a = {.kh = p->g->weights->kh,
                           .taps = p->taps,
                           .w_step = p->weight_step,
                           .p = (const int32_t *const *)s->line,
                           .columns = columns,
                           .ldy = p->ldy,
                           .row = p->padded * p->ldy};
    for (const granule *g = p->granules + b->first; g < p->granules + b->last; g++) {
        int64_t at = (g->at - b->v0) * vw;
        a.vectors = g->vectors;
        a.step = p->step * g->vectors * vw, a.tap = p->tap * g->vectors * vw;
        a.at = at * p->pairs;
        a.w = p->weights + g->at * p->weight_step;
        a.scale = s->scale + at, a.bias = p->bias + g->at * vw;
        a.y = s->y + r * a.row + g->c0 - b->c0;
        p->sum(&a);
    }
}

/* Nonzero if a value to be quantized is NaN or infinite. */
static int finish_group(const lw_depthwise_plan *p, worker_state *s, const block *b, position at,
                        int rows, int columns) {
    const area a = {at, AXIS_Y, AXIS_X, rows, columns};
    lw_post post = p->post;
    post_at(&post, p->g, &a, b->c0, b->n, b->window);
    return p->isa->finish(&post, s->y, (lw_step){p->padded * p->ldy, p->ldy});
}

lw_status lw_depthwise_run(lw_depthwise_plan *p, int64_t index, int worker) {
    worker_state *s = p->workers + worker;
    tile t = find_tile(p, index);
    int64_t stride = p->g->stride_w, wide = (p->g->weights->kw - 1) * p->g->dilation_w + 1;
    int bad = 0;
    find_units(p, s, &t);
    for (int64_t x = t.x0; x < t.x1; x += p->strip) {
        int columns = (int)min64(p->strip, t.x1 - x);
        memset(s->held, -1, (size_t)p->slots * sizeof *s->held);
        for (int64_t y = t.y0; y < t.y1; y += GROUP_ROWS) {
            int rows = (int)min64(GROUP_ROWS, t.y1 - y);
            for (int64_t r = 0; r < (p->winograd ? 1 : rows); r++) {
                fill_rows(p, s, &t, y + r, t.left + (x - t.x0) * stride,
                          (columns - 1) * stride + wide);
                sum_row(p, s, t.b, r, columns);
            }
            bad |= finish_group(p, s, t.b, (position){{t.n, y, x}}, rows, columns);
        }
    }
    return bad ? LW_NONFINITE : LW_OK;
}

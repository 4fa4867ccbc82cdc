/* depthwise.c - depthwise layers: tiles of output pixels times blocks of channels.
 *
 * A task brings the source rows of its tile to 16 bits, two at a time, into a ring that stays in
 * L1, adds up groups of one or two output rows from it, and finishes them. */
#include "depthwise_plan.h"
#include "rows.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILE = LW_DEPTHWISE_TILE,
    BLOCK_CHANNELS = 64,  /* at least, unless the layer has fewer */
    RING_BYTES = 16384,   /* of one worker, unless even the narrowest strip needs more */
    GROUP_ROWS = 2
};

/* At most 2 * vw channels of one source window, inside one block. */
typedef struct granule {
    int64_t c0, n, window;
} granule;

/* Output channels [c0, c0 + n) : granules [first, last), source windows [w0, w1). */
typedef struct block {
    int64_t c0, n, first, last, w0, w1;
} block;

/* Memory of one worker. */
typedef struct worker_state {
    int32_t *ring;       /* (granules, slots, columns, 2 * vw) pairs of source rows */
    float *seen;         /* scales of one window of a tile */
    int32_t *ratio;      /* (windows of a block, pixels of a tile): R */
    int32_t *pair;       /* (columns): R of two rows */
    float *y;            /* of a group: (rows, pitch, ldy) */
    float *unit;         /* (windows of a block): U */
    float *scale;        /* (granules, 2 * vw): U * sb */
    const int32_t **line; /* (slots) */
} worker_state;

struct lw_depthwise_plan {
    const lw_conv_args *g;
    const lw_isa *isa;
    granule *granules;
    block *blocks;
    int64_t block_count, tiles_x, tiles_y;
    int64_t most_granules, most_windows, most_channels; /* of a block */
    int rows, reuse; /* rows of a group; whether lines pass to the next group */
    int64_t slots, strip, pitch, columns; /* lines of a group; output columns; padded; of source */
    int64_t seen;         /* source pixels of a tile, padded to whole vectors */
    int32_t *weights;     /* (granules, 2, slots, kw, rows, vw) pairs */
    float *sb, *bias;     /* (granules, 2 * vw) */
    int64_t ldy;
    int64_t weight_step;  /* ints of one vector of channels */
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

static lw_status plan_blocks(lw_depthwise_plan *p) {
    const lw_weights *w = p->g->weights;
    int64_t step = block_channels(p), width = 2 * p->isa->vw, count = 0;
    p->block_count = ceil_div(w->oc, step);
    p->blocks = lw_alloc((size_t)p->block_count * sizeof *p->blocks);
    p->granules = lw_alloc((size_t)w->oc * sizeof *p->granules);
    if (!p->blocks || !p->granules) return LW_NOMEM;
    for (int64_t i = 0; i < p->block_count; i++) {
        int64_t c0 = i * step, end = min64(w->oc, c0 + step);
        block *b = p->blocks + i;
        *b = (block){c0, end - c0, count, count, c0 / w->window, (end - 1) / w->window + 1};
        for (int64_t c = c0; c < end; c += p->granules[count++].n) {
            int64_t window = c / w->window, stop = min64(end, (window + 1) * w->window);
            p->granules[count] = (granule){c, min64(width, stop - c), window};
        }
        b->last = count;
        p->most_granules = max64(p->most_granules, b->last - b->first);
        p->most_windows = max64(p->most_windows, b->w1 - b->w0);
        p->most_channels = max64(p->most_channels, b->n);
    }
    return LW_OK;
}

static void plan_geometry(lw_depthwise_plan *p) {
    const lw_conv_args *g = p->g;
    int64_t kh = g->weights->kh, wide = (g->weights->kw - 1) * g->dilation_w + 1;
    p->rows = g->stride_h == 1 && g->dilation_h == 1 ? GROUP_ROWS : 1;
    p->reuse = g->dilation_h == 1 && p->rows * g->stride_h == 2;
    p->slots = ceil_div(kh + p->rows - 1, 2);
    for (p->strip = min64(TILE, g->ow);; p->strip = ceil_div(p->strip, 2)) {
        p->pitch = ceil_div(p->strip, p->isa->depthwise_columns) * p->isa->depthwise_columns;
        p->columns = (p->pitch - 1) * g->stride_w + wide;
        int64_t bytes = p->most_granules * p->slots * p->columns * 2 * p->isa->vw * 4;
        if (bytes <= RING_BYTES || p->strip <= TILE / 2) break;
    }
    int64_t high = (min64(TILE, g->oh) - 1) * g->stride_h + (kh - 1) * g->dilation_h + 1;
    p->seen = ceil_div(high * ((min64(TILE, g->ow) - 1) * g->stride_w + wide), 16) * 16;
    p->tiles_x = ceil_div(g->ow, TILE);
    p->tiles_y = ceil_div(g->oh, TILE);
}

/* Weight of a tap row that output row r of a group takes from line `slot`, half `half`; 0 if none.
 */
static int32_t tap_weight(const lw_depthwise_plan *p, int64_t c, int64_t r, int64_t slot, int half,
                          int64_t x) {
    const lw_weights *w = p->g->weights;
    int64_t tap = 2 * slot + half - r;
    return tap < 0 || tap >= w->kh ? 0 : w->dw[(tap * w->kw + x) * w->ldw + c];
}

static lw_status plan_weights(lw_depthwise_plan *p) {
    const lw_weights *w = p->g->weights;
    int64_t vw = p->isa->vw, count = p->blocks[p->block_count - 1].last;
    p->weight_step = p->slots * w->kw * p->rows * vw;
    p->weights = lw_alloc((size_t)(count * 2 * p->weight_step) * sizeof *p->weights);
    p->sb = lw_alloc((size_t)(count * 2 * vw) * sizeof *p->sb);
    p->bias = lw_alloc((size_t)(count * 2 * vw) * sizeof *p->bias);
    if (!p->weights || !p->sb || !p->bias) return LW_NOMEM;
    for (int64_t i = 0; i < count; i++)
        for (int64_t lane = 0; lane < p->granules[i].n; lane++) {
            int64_t c = p->granules[i].c0 + lane, at = i * 2 * vw + lane;
            int32_t *to = p->weights + at / vw * p->weight_step + at % vw;
            p->sb[at] = w->sb[c];
            p->bias[at] = p->g->bias ? p->g->bias[c] + 0.0f : 0.0f; /* -0 becomes +0 */
            for (int64_t slot = 0; slot < p->slots; slot++)
                for (int64_t x = 0; x < w->kw; x++)
                    for (int64_t r = 0; r < p->rows; r++, to += vw)
                        *to = (tap_weight(p, c, r, slot, 0, x) & 0xffff) |
                              (int32_t)((uint32_t)tap_weight(p, c, r, slot, 1, x) << 16);
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
    size_t width = (size_t)p->isa->vw * 2, granules = (size_t)p->most_granules;
    size_t line = (size_t)p->columns * width * sizeof *s->ring;
    size_t y = (size_t)(p->rows * p->pitch * p->ldy) * sizeof *s->y;
    s->ring = take(memory, at, granules * (size_t)p->slots * line);
    s->seen = take(memory, at, (size_t)p->seen * sizeof *s->seen);
    s->ratio = take(memory, at, (size_t)(p->most_windows * p->seen) * sizeof *s->ratio);
    s->pair = take(memory, at, (size_t)p->columns * sizeof *s->pair);
    s->y = take(memory, at, y);
    s->unit = take(memory, at, (size_t)p->most_windows * sizeof *s->unit);
    s->scale = take(memory, at, granules * width * sizeof *s->scale);
    s->line = take(memory, at, (size_t)p->slots * sizeof *s->line);
}

static lw_status plan_workers(lw_depthwise_plan *p, int workers) {
    size_t bytes = 0;
    worker_state none;
    p->ldy = ceil_div(p->most_channels, 16) * 16 + 2 * p->isa->vw; /* vectors go too far */
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
    int64_t width = 2 * p->isa->vw, pixels = (t->right - t->left) * (t->bottom - t->top);
    for (int64_t w = t->b->w0; w < t->b->w1; w++) {
        float scale;
        gather_scales(p->g->src, t, w, s->seen);
        int32_t bits = p->isa->largest(s->seen, pixels);
        memcpy(&scale, &bits, sizeof scale);
        int any = scale >= 0x1p-112f; /* so that 32767 / scale is finite */
        s->unit[w - t->b->w0] = any ? scale * (256.0f / 32767.0f) : 0.0f;
        p->isa->ratios(pixels, s->seen, any ? 32767.0f / scale : 0.0f,
                       s->ratio + (w - t->b->w0) * p->seen);
    }
    for (int64_t i = t->b->first; i < t->b->last; i++) {
        float unit = s->unit[p->granules[i].window - t->b->w0];
        for (int64_t lane = 0; lane < width; lane++)
            s->scale[(i - t->b->first) * width + lane] = unit * p->sb[i * width + lane];
    }
}

/* R of two rows of a tile side by side; of one where there is no other. */
static void pair_ratios(const int32_t *a, const int32_t *b, int64_t n, int32_t *pair) {
    if (b)
        for (int64_t x = 0; x < n; x++) pair[x] = a[x] | (int32_t)((uint32_t)b[x] << 16);
    else
        memcpy(pair, a, (size_t)n * sizeof *pair);
}

/* Source rows y and `other`, where that lies in the tile, of all granules to line `slot`. */
static void fill_line(const lw_depthwise_plan *p, worker_state *s, const tile *t, int64_t y,
                      int64_t other, int64_t left, int64_t columns, int64_t slot) {
    const lw_tensor *src = p->g->src;
    int64_t width = 2 * p->isa->vw, window = -1, wide = t->right - t->left;
    const uint8_t *a = src->q + pixel_at(src, t->n, y, left) * src->pixel_bytes, *b = a;
    if (other < t->bottom) b = src->q + pixel_at(src, t->n, other, left) * src->pixel_bytes;
    for (int64_t i = t->b->first; i < t->b->last; i++) {
        const granule *g = p->granules + i;
        if (g->window != window) {
            window = g->window;
            const int32_t *r = s->ratio + (window - t->b->w0) * p->seen + left - t->left;
            const int32_t *second = other < t->bottom ? r + (other - t->top) * wide : NULL;
            pair_ratios(r + (y - t->top) * wide, second, columns, s->pair);
        }
        p->isa->pair_rows((int)columns, a + g->c0, b + g->c0, src->pixel_bytes, s->pair,
                          src->zero_point,
                          s->ring + ((i - t->b->first) * p->slots + slot) * p->columns * width);
    }
}

/* The lines of the group that begins at output row y; those of the one before are kept. */
static void fill_group(const lw_depthwise_plan *p, worker_state *s, const tile *t, int64_t y,
                       int64_t left, int64_t columns) {
    const lw_conv_args *g = p->g;
    int64_t first = t->top + (y - t->y0) * g->stride_h, turn = (y - t->y0) / p->rows;
    for (int64_t k = p->reuse && turn ? p->slots - 1 : 0; k < p->slots; k++) {
        int64_t row = first + 2 * k * g->dilation_h, slot = p->reuse ? (turn + k) % p->slots : k;
        if (row < t->bottom) fill_line(p, s, t, row, row + g->dilation_h, left, columns, slot);
    }
    for (int64_t k = 0; k < p->slots; k++) {
        int64_t slot = p->reuse ? (turn + k) % p->slots : k;
        s->line[k] = s->ring + slot * p->columns * 2 * p->isa->vw;
    }
}

/* The sums of a group, of `columns` output pixels each. */
static void sum_group(const lw_depthwise_plan *p, worker_state *s, const tile *t,
                      int64_t columns) {
    const lw_conv_args *g = p->g;
    int64_t vw = p->isa->vw, line = p->columns * 2 * vw, step = p->isa->depthwise_columns;
    lw_depthwise_args a = {.pairs = p->slots,
                           .kw = g->weights->kw,
                           .p = (const int32_t *const *)s->line,
                           .step = g->stride_w * 2 * vw,
                           .tap = g->dilation_w * 2 * vw,
                           .ldy = p->ldy,
                           .row = p->pitch * p->ldy};
    lw_depthwise *sum = p->isa->depthwise[p->rows - 1][p->slots == 2 && a.kw == 3];
    for (int64_t i = t->b->first; i < t->b->last; i++)
        for (int64_t v = 0; v * vw < p->granules[i].n; v++) {
            int64_t lane = v * vw, local = i - t->b->first;
            a.w = p->weights + (2 * i + v) * p->weight_step;
            a.scale = s->scale + local * 2 * vw + lane, a.bias = p->bias + i * 2 * vw + lane;
            for (int64_t x = 0; x < columns; x += step) {
                a.at = local * p->slots * line + x * a.step + lane;
                a.y = s->y + x * p->ldy + p->granules[i].c0 - t->b->c0 + lane;
                sum(&a);
            }
        }
}

/* Nonzero if a value to be quantized is NaN or infinite. */
static int finish_group(const lw_depthwise_plan *p, worker_state *s, const tile *t, position at,
                        int rows, int columns) {
    int bad = 0, together = columns == p->pitch; /* then rows are adjacent in y too */
    area a = {at, AXIS_Y, AXIS_X, together ? rows : 1, columns};
    lw_post post = post_along(p->g, AXIS_Y, AXIS_X);
    for (int r = 0; r < rows; r += (int)a.lines, a.first.at[AXIS_Y]++) {
        post_at(&post, p->g, &a, t->b->c0, t->b->n, p->g->dst_q ? t->b->c0 / post.window : 0);
        bad |= p->isa->finish(&post, s->y + r * p->pitch * p->ldy, p->ldy);
    }
    return bad;
}

lw_status lw_depthwise_run(lw_depthwise_plan *p, int64_t index, int worker) {
    worker_state *s = p->workers + worker;
    tile t = find_tile(p, index);
    int64_t stride = p->g->stride_w, wide = (p->g->weights->kw - 1) * p->g->dilation_w + 1;
    int bad = 0;
    find_units(p, s, &t);
    for (int64_t x = t.x0; x < t.x1; x += p->strip) {
        int columns = (int)min64(p->strip, t.x1 - x);
        for (int64_t y = t.y0; y < t.y1; y += p->rows) {
            int rows = (int)min64(p->rows, t.y1 - y);
            position at = {{t.n, y, x}};
            fill_group(p, s, &t, y, t.left + (x - t.x0) * stride, (columns - 1) * stride + wide);
            sum_group(p, s, &t, columns);
            bad |= finish_group(p, s, &t, at, rows, columns);
        }
    }
    return bad ? LW_NONFINITE : LW_OK;
}

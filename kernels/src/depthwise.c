/* depthwise.c - depthwise layers: tiles of output pixels times blocks of channels.
 *
 * A task brings the source rows of its tile to 16 bits, one at a time, into a ring that stays in
 * L1, adds up one or two output rows from it, and finishes them. */
#include "depthwise_plan.h"
#include "int64.h"

#include <string.h>

enum { TILE = LW_DEPTHWISE_TILE };

int64_t lw_depthwise_tasks(const lw_depthwise_plan *p) {
    return p->g->src->n * p->tiles_y * p->tiles_x * p->block_count;
}

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

/* The source rows of the sums of output row y + r to lines r; what the ring holds is kept. */
static void fill_rows(const lw_depthwise_plan *p, worker_state *s, const tile *t, int64_t y,
                      int64_t r, int64_t left, int64_t n) {
    const lw_conv_args *g = p->g;
    int64_t first = t->top + (y + r - t->y0) * g->stride_h;
    for (int64_t k = 0; k < p->lines; k++) {
        int64_t row = first + k * g->dilation_h, slot = g->dilation_h == 1 ? row % p->slots : k;
        if (row < t->bottom && s->held[slot] != row) {
            fill_line(p, s, t, row, left, n, slot);
            s->held[slot] = row;
        }
        s->line[r * p->lines + k] = s->ring + slot * p->most_vectors * p->pairs * p->isa->vw;
    }
}

void lw_depthwise_sum(const lw_depthwise_plan *p, const worker_state *s, const block *b, int64_t r,
                      int64_t x, int64_t columns, const float *scale) {
    int64_t vw = p->isa->vw;
    lw_depthwise_args a = {.kh = p->g->weights->kh,
                           .taps = p->taps,
                           .w_step = p->weight_step,
                           .p = (const int32_t *const *)s->line + r * p->lines,
                           .columns = columns,
                           .ldy = p->ldy,
                           .row = p->padded * p->ldy};
    for (const granule *g = p->granules + b->first; g < p->granules + b->last; g++) {
        int64_t at = (g->at - b->v0) * vw;
        a.vectors = g->vectors;
        a.step = p->step * g->vectors * vw, a.tap = p->tap * g->vectors * vw;
        a.at = at * p->pairs + x / p->outs * a.step;
        a.w = p->weights + g->at * p->weight_step;
        a.scale = scale + at, a.bias = p->bias + g->at * vw;
        a.y = s->y + r * a.row + g->c0 - b->c0;
        p->sum(&a);
    }
}

int lw_depthwise_finish(const lw_depthwise_plan *p, worker_state *s, const block *b, position at,
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
        for (int64_t y = t.y0; y < t.y1; y += LW_GROUP_ROWS) {
            int rows = (int)min64(LW_GROUP_ROWS, t.y1 - y);
            for (int64_t r = 0; r < (p->winograd ? 1 : rows); r++) {
                fill_rows(p, s, &t, y, r, t.left + (x - t.x0) * stride,
                          (columns - 1) * stride + wide);
                lw_depthwise_sum(p, s, t.b, r, 0, columns, s->scale);
            }
            bad |= lw_depthwise_finish(p, s, t.b, (position){{t.n, y, x}}, rows, columns);
        }
    }
    return bad ? LW_NONFINITE : LW_OK;
}

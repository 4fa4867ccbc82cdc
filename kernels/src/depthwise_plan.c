/* depthwise_plan.c - what a depthwise layer will do: blocks of channels, the kernel that adds up
 * and its weights, and the memory of each worker. */
#include "conv_plan.h"
#include "int64.h"

#include <math.h>
#include <stdlib.h>

enum {
    TILE = LW_DEPTHWISE_TILE,
    BLOCK_CHANNELS = 64, /* at least, unless the layer has fewer */
    RING_BYTES = 24576,  /* of one worker, unless even the narrowest strip needs more */
    NEAR_BYTES = 34816,  /* L1 and a little */
    GRANULE = 4          /* vectors */
};

/* ---- channels ------------------------------------------------------------------------------ */

/* Blocks end where windows of the result, of the residual and of the source do, the last of which
 * hold whole panels of what makes it; a foreign product makes all channels at once. */
static int64_t block_channels(const lw_depthwise_plan *p) {
    const lw_conv_args *g = p->g, *producer = g->producer;
    int64_t window = g->dst_q ? g->dst_q->window : 1, oc = g->weights->oc;
    int64_t residual = g->residual_q ? g->residual_q->window : 1;
    int64_t panel = producer ? LW_FUSED_WINDOW : 1,
            step = ceil_div(BLOCK_CHANNELS, window) * window;
    if (producer && producer->gemm) return oc;
    while (step < oc && (step % residual || step % panel)) step += window;
    return step;
}

/* Channels that are brought to 16 bits by one number. */
static int64_t source_window(const lw_depthwise_plan *p) {
    return p->g->producer ? LW_FUSED_WINDOW : p->g->weights->window;
}

static void plan_granules(lw_depthwise_plan *p, block *b) {
    int64_t window = source_window(p), vw = p->isa->vw, end = b->c0 + b->n;
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

/* Pairs that the sums of output columns [0, columns) see. */
static int64_t pairs_seen(const lw_depthwise_plan *p, int64_t columns) {
    return (columns / p->outs - 1) * p->step + (p->taps - 1) * p->tap + 1;
}

static void plan_tiles(lw_depthwise_plan *p, int64_t fill) {
    const lw_conv_args *g = p->g;
    const lw_weights *w = g->weights;
    int64_t wide = (w->kw - 1) * g->dilation_w + 1;
    for (p->strip = min64(TILE, g->ow);; p->strip = ceil_div(p->strip, 2)) {
        p->padded = ceil_div(p->strip, fill) * fill;
        p->pairs = pairs_seen(p, p->padded);
        int64_t bytes = p->slots * p->most_vectors * p->pairs * p->isa->vw * 4;
        if (bytes <= RING_BYTES || p->strip <= TILE / 2) break;
    }
    int64_t high = (min64(TILE, g->oh) - 1) * g->stride_h + (w->kh - 1) * g->dilation_h + 1;
    p->seen = ceil_div(high * ((min64(TILE, g->ow) - 1) * g->stride_w + wide), 16) * 16;
    p->tiles_x = ceil_div(g->ow, TILE);
    p->tiles_y = ceil_div(g->oh, TILE);
}

/* Bands for which the last worker is done first: low ones share out well, but each makes kh -
 * stride source rows that its neighbour makes too. Workers start and end a little apart. */
static void plan_bands(lw_depthwise_plan *p, int workers) {
    const lw_conv_args *g = p->g;
    double apart = workers > 1 ? 0.125 : 0.0, least = INFINITY;
    int64_t band = ceil_div(g->oh, LW_GROUP_ROWS) * LW_GROUP_ROWS;
    for (; band > 0; band -= LW_GROUP_ROWS) {
        int64_t rows = (band - 1) * g->stride_h + g->weights->kh, bands = ceil_div(g->oh, band);
        int64_t tasks = g->producer->src->n * p->block_count * bands;
        double time = (double)rows * ((double)ceil_div(tasks, workers) + apart);
        if (time >= least) continue;
        least = time;
        p->band = band, p->bands = bands;
    }
}

/* What the sums of so many output columns of two rows see, and they. */
static int64_t strip_bytes(const lw_depthwise_plan *p, int64_t columns) {
    int64_t seen = p->slots * p->most_vectors * p->isa->vw * pairs_seen(p, columns);
    return (seen + LW_GROUP_ROWS * columns * p->ldy) * 4;
}

/* Strips are equal and, where that is near, as long as finish takes them: every one loads all
 * weights and waits for scales. */
static int64_t plan_strip(const lw_depthwise_plan *p, int64_t fill) {
    int64_t wide = p->g->ow, most = LW_FINISH_ROWS / LW_GROUP_ROWS / fill * fill, strip;
    for (int64_t strips = ceil_div(wide, most);; strips++) {
        strip = min64(round_up(ceil_div(wide, strips), p->outs), wide);
        if (strip <= TILE || strip_bytes(p, round_up(strip, fill)) <= NEAR_BYTES) return strip;
    }
}

/* A place of the ring holds a whole row. */
static void plan_ring(lw_depthwise_plan *p, int64_t fill) {
    const lw_conv_args *g = p->g;
    p->slots = (LW_GROUP_ROWS - 1) * g->stride_h + g->weights->kh;
    p->strip = plan_strip(p, fill);
    p->padded = ceil_div(p->strip, fill) * fill;
    int64_t last = (g->ow - 1) / p->strip * p->strip;
    p->pairs = max64(pairs_seen(p, last + p->padded), (g->pad_left + g->producer->ow + 1) / 2);
}

static void plan_geometry(lw_depthwise_plan *p, int workers) {
    int64_t fill = plan_sum(p);
    p->ldy = ceil_div(p->most_channels, 16) * 16 + 16; /* vectors go too far */
    p->post = post_along(p->g, AXIS_Y, AXIS_X);
    if (!p->g->producer) {
        plan_tiles(p, fill);
        return;
    }
    plan_ring(p, fill);
    plan_bands(p, workers);
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
            p->sb[at] = p->limit > 0 ? ldexpf(w->sb[c], -1 - p->exponent) : w->sb[c];
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
    s->y = take(memory, at, (size_t)(LW_GROUP_ROWS * p->padded * p->ldy) * sizeof *s->y);
    s->unit = take(memory, at, (size_t)p->most_windows * sizeof *s->unit);
    s->scale = take(memory, at, LW_GROUP_ROWS * lanes * sizeof *s->scale);
    s->line = take(memory, at, LW_GROUP_ROWS * (size_t)p->lines * sizeof *s->line);
    if (!p->dense || p->limit > 0) return;
    size_t line = lanes * (size_t)p->pairs;
    s->spare = take(memory, at, LW_GROUP_ROWS * (size_t)p->lines * line * sizeof *s->spare);
    s->exponent = take(memory, at, slots * (size_t)p->most_windows * sizeof *s->exponent);
    s->common = take(memory, at, (size_t)p->most_windows * sizeof *s->common);
    if (!p->finishes) return;
    s->top = take(memory, at, (size_t)(p->dense->lines * p->dense->ldc) * sizeof *s->top);
}

static lw_status plan_workers(lw_depthwise_plan *p, int workers) {
    size_t bytes = 0;
    worker_state none;
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

/* Whether tiles of the dense convolution take its sums to what the ring or `halves` wants. */
static int is_finishing(const lw_depthwise_plan *p, int bounded) {
    const lw_conv *dense = p->dense;
    const lw_activation activation = dense->args.activation;
    const float alpha = dense->args.alpha;
    int flat = activation == LW_LEAKY && alpha > 0 && alpha <= 1;
    int simple = activation == LW_NONE || activation == LW_RELU || flat;
    return (bounded || simple) && !dense->foreign && !dense->few &&
           dense->args.weights->mode != LW_AW;
}

/* Where the source is bounded, its sums come out as 16-bit values. */
static lw_status plan_dense(lw_depthwise_plan *p, int workers) {
    const lw_conv_args *g = p->g->producer;
    lw_status status;
    if (!g) return LW_OK;
    int bounded = g->activation == LW_CLIP && g->lo == 0 && g->hi >= LW_FUSED_LEAST &&
                  g->hi <= 1 / LW_FUSED_LEAST;
    p->dense = lw_conv_create_rows(g, p->blocks[0].n, !bounded, workers, &status);
    if (!p->dense) return status;
    p->finishes = is_finishing(p, bounded);
    if (!bounded) return status;
    p->exponent = lw_fused_exponent(g->hi);
    p->limit = ldexpf(g->hi, p->exponent);
    p->dense->scaled = 1;
    for (int64_t c = 0; c < g->weights->oc; c++) {
        p->dense->sb[c] = ldexpf(p->dense->sb[c], p->exponent);
        p->dense->bias[c] = ldexpf(p->dense->bias[c], p->exponent);
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
    if (*status == LW_OK) *status = plan_dense(p, workers);
    if (*status == LW_OK) {
        plan_geometry(p, workers);
        *status = plan_weights(p);
    }
    if (*status == LW_OK) *status = plan_workers(p, workers);
    if (*status == LW_OK) return p;
    lw_depthwise_destroy(p);
    return NULL;
}

void lw_depthwise_destroy(lw_depthwise_plan *p) {
    if (!p) return;
    lw_conv_destroy(p->dense);
    free(p->granules);
    free(p->blocks);
    free(p->weights);
    free(p->sb);
    free(p->bias);
    free(p->workers);
    free(p->memory);
    free(p);
}

/* fused.c - a dense convolution and the depthwise one that reads it, as one layer whose tensor
 * between them never exists as a whole.
 *
 * A task makes the source rows of its band and block of channels as it needs them, in 16 bits, into
 * a ring that stays in the nearest caches, adds up two output rows from it, and finishes them. */
#include "conv_plan.h"
#include "int64.h"

#include <math.h>
#include <string.h>

enum { NOTHING = 120 /* k of a row of zeros, above all others */, LARGEST_SHIFT = 15 };

/* One task: output rows [y0, y1) of a block of channels of image n. */
typedef struct band {
    const block *b;
    int64_t n, y0, y1;
} band;

int64_t lw_fused_tasks(const lw_depthwise_plan *p) {
    return p->g->producer->src->n * p->bands * p->block_count;
}

static band find_band(const lw_depthwise_plan *p, int64_t index) {
    int64_t i = index / p->block_count, y0 = i % p->bands * p->band;
    return (band){p->blocks + index % p->block_count, i / p->bands, y0,
                  min64(y0 + p->band, p->g->oh)};
}

/* Where the ring holds a source row, counted from the top of the padding. */
static int32_t *line_of(const lw_depthwise_plan *p, const worker_state *s, int64_t row) {
    return s->ring + row % p->slots * p->most_vectors * p->pairs * p->isa->vw;
}

/* k of each of its windows; NULL: all have the same. */
static int *exponents_of(const lw_depthwise_plan *p, const worker_state *s, int64_t row) {
    return p->limit > 0 ? NULL : s->exponent + row % p->slots * p->most_windows;
}

int lw_fused_exponent(float top) {
    const float most = LW_DEPTHWISE_LEVELS / 2 * 0x1p-14f;
    int exponent;
    float part = frexpf(top, &exponent); /* of [0.5, 1) */
    return (part <= most ? 14 : 13) - exponent;
}

/* 2^k, a normal float; 0 for a row of zeros. */
static float two_to(int k) {
    if (k == NOTHING) return 0.0f;
    int32_t bits = (k + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* Zeros to the pairs [first, end) of a line. */
static void clear(const lw_depthwise_plan *p, const band *t, int32_t *line, int64_t first,
                  int64_t end) {
    int64_t vw = p->isa->vw;
    for (const granule *g = p->granules + t->b->first; g < p->granules + t->b->last; g++) {
        int32_t *to = line + ((g->at - t->b->v0) * p->pairs + first * g->vectors) * vw;
        memset(to, 0, (size_t)((end - first) * g->vectors * vw) * sizeof *to);
    }
}

/* Zeros to what lies left and right of the image in every line: no row writes there. */
static void clear_borders(const lw_depthwise_plan *p, const worker_state *s, const band *t) {
    int64_t left = p->g->pad_left, right = left + p->dense->args.ow;
    for (int64_t slot = 0; slot < p->slots; slot++) {
        clear(p, t, line_of(p, s, slot), 0, min64(left / 2 + 1, p->pairs));
        clear(p, t, line_of(p, s, slot), right / 2, p->pairs);
    }
}

/* n pixels from column x of the padded row on, whose sums lie in c, to a row of the ring. */
static void put_pixels(const lw_depthwise_plan *p, const worker_state *s, const band *t,
                       const float *c, int64_t row, int64_t x, int64_t n) {
    int64_t vw = p->isa->vw;
    const int *exponent = exponents_of(p, s, row);
    int32_t *line = line_of(p, s, row);
    for (const granule *g = p->granules + t->b->first; g < p->granules + t->b->last; g++) {
        const lw_halves halves = {
            .n = n,
            .upper = x % 2,
            .y = c + g->c0 - t->b->c0,
            .ldy = p->dense->ldc,
            .limit = p->limit,
            .factor = exponent ? two_to(exponent[g->window - t->b->w0]) : 1.0f,
            .vectors = g->vectors,
            .out = line + ((g->at - t->b->v0) * p->pairs + x / 2 * g->vectors) * vw};
        p->isa->halves(&halves);
    }
}

/* k of a window from the bits of its largest |y|. Nonzero if one is NaN or infinite. */
static int find_exponent(int32_t bits, int *exponent) {
    float top;
    memcpy(&top, &bits, sizeof top);
    *exponent = !(top >= LW_FUSED_LEAST) ? NOTHING : lw_fused_exponent(top);
    return !(top < INFINITY);
}

/* Sums of a whole row become values; finds k of each window. */
static int activate_row(const lw_depthwise_plan *p, const worker_state *s, const band *t, float *c,
                        int64_t row) {
    const lw_conv_args *g = &p->dense->args;
    int *exponent = exponents_of(p, s, row), bad = 0;
    lw_activate_args args = {.activation = g->activation,
                             .alpha = g->alpha,
                             .lo = g->lo,
                             .hi = g->hi,
                             .count = g->ow,
                             .ldf = p->dense->ldc};
    for (int64_t w = 0; w < t->b->w1 - t->b->w0; w++) {
        args.n = min64(LW_FUSED_WINDOW, t->b->n - w * LW_FUSED_WINDOW);
        args.f = c + w * LW_FUSED_WINDOW;
        bad |= find_exponent(p->isa->activate(&args), exponent + w);
    }
    return bad;
}

/* The same where the largest |y| of each channel are known. */
static int find_exponents(const lw_depthwise_plan *p, const worker_state *s, const band *t,
                          const float *top, int64_t row) {
    int *exponent = exponents_of(p, s, row), bad = 0;
    for (int64_t w = 0; w < t->b->w1 - t->b->w0; w++) {
        int64_t at = w * LW_FUSED_WINDOW, n = min64(LW_FUSED_WINDOW, t->b->n - at);
        bad |= find_exponent(p->isa->largest(top + at, n), exponent + w);
    }
    return bad;
}

/* Where a panel's sums of source row `row` go from column x on: its pairs in the ring. */
static int32_t *pairs_at(const lw_depthwise_plan *p, const worker_state *s, const band *t,
                         const granule *g, const lw_panel *panel, int64_t row, int64_t x) {
    int64_t vw = p->isa->vw, at = (g->at - t->b->v0) * p->pairs + x / 2 * g->vectors;
    return line_of(p, s, row) + at * vw + (panel->n0 - g->c0);
}

/* An area of the dense convolution, whose tiles finish it: the first row is source row `row`, from
 * column x on. Of unbounded values to c. */
static void finish_sums(const lw_depthwise_plan *p, const worker_state *s, const band *t,
                        const area *a, float *c, int64_t row, int64_t x, int worker) {
    const lw_conv *dense = p->dense;
    const lw_block *b = dense->blocks + (t->b - p->blocks);
    const granule *g = p->granules + t->b->first;
    int64_t vw = p->isa->vw, bounded = p->limit > 0;
    lw_pixels first, line;
    lw_row_out out = {.limit = p->limit,
                      .alpha = dense->args.activation == LW_LEAKY ? dense->args.alpha : 1.0f,
                      .floored = dense->args.activation == LW_RELU,
                      .step = dense->ldc};
    lw_conv_pixels(dense, a, worker, &first);
    line = first;
    for (int64_t i = b->first; i < b->last; i++) {
        const lw_panel *panel = dense->args.weights->panels + i;
        while (panel->n0 >= g->c0 + g->n) g++;
        out.vectors = (int)ceil_div(panel->n, vw);
        if (bounded) out.step = g->vectors * vw;
        for (int64_t l = 0; l < a->lines; l++) { /* fields that others read at once: no copies */
            int64_t at = l * dense->ldc + panel->n0 - b->n0;
            line.a = first.a + l * first.a_step.line, line.sa = first.sa + l * first.sa_step.line;
            out.upper = bounded ? x % 2 : 0;
            out.pair = bounded ? pairs_at(p, s, t, g, panel, row + l, x) : NULL;
            out.y = bounded ? NULL : c + (a->count - 1) * l * dense->ldc + at;
            out.top = bounded ? NULL : s->top + at;
            lw_conv_row(dense, panel, a, l, &line, &out);
        }
    }
}

/* An area of the dense convolution to the ring, the first row to source row `row`, from column x
 * on. Nonzero if a value is NaN or infinite. */
static int make_area(const lw_depthwise_plan *p, worker_state *s, const band *t, const area *a,
                     int64_t row, int64_t x, int worker) {
    const lw_conv *dense = p->dense;
    float *c = dense->scratch + worker * dense->apart;
    int bad = 0;
    if (p->finishes) {
        if (s->top) memset(s->top, 0, (size_t)(a->lines * dense->ldc) * sizeof *s->top);
        finish_sums(p, s, t, a, c, row, x, worker);
        if (p->limit > 0) return 0;
    } else
        lw_conv_sum(dense, dense->blocks + (t->b - p->blocks), a, c, worker);
    for (int64_t l = 0; l < a->lines; l++) {
        float *sums = c + l * a->count * dense->ldc;
        if (p->limit == 0 && p->finishes)
            bad |= find_exponents(p, s, t, s->top + l * dense->ldc, row + l);
        else if (p->limit == 0)
            bad |= activate_row(p, s, t, sums, row + l);
        put_pixels(p, s, t, sums, row + l, x, a->count);
    }
    return bad;
}

/* `lines` rows of the dense convolution from y on. */
static int make_lines(const lw_depthwise_plan *p, worker_state *s, const band *t, int64_t y,
                      int64_t lines, int worker) {
    const lw_conv *dense = p->dense;
    int64_t row = y + p->g->pad_top, left = p->g->pad_left, wide = dense->args.ow;
    int bad = 0;
    for (int64_t x = 0; x < wide; x += dense->count) {
        area a = {{{t->n, y, x}}, AXIS_Y, AXIS_X, lines, min64(dense->count, wide - x)};
        bad |= make_area(p, s, t, &a, row, left + x, worker);
    }
    return bad;
}

/* Source rows [row, end). Nonzero if a value is NaN or infinite. */
static int make_rows(const lw_depthwise_plan *p, worker_state *s, const band *t, int64_t row,
                     int64_t end, int worker) {
    int64_t high = p->dense->args.oh;
    int bad = 0;
    while (row < end) {
        int64_t y = row - p->g->pad_top, lines = 1;
        if (y < 0 || y >= high) {
            clear(p, t, line_of(p, s, row), 0, p->pairs);
            for (int64_t w = 0; p->limit == 0 && w < p->most_windows; w++)
                exponents_of(p, s, row)[w] = NOTHING;
        } else {
            lines = min64(p->dense->lines, min64(end - row, high - y));
            bad |= make_lines(p, s, t, y, lines, worker);
        }
        row += lines;
    }
    return bad;
}

/* The smallest k of window w in `rows` source rows. */
static int common_exponent(const lw_depthwise_plan *p, const worker_state *s, int64_t row,
                           int64_t rows, int64_t w) {
    int least = NOTHING;
    for (int64_t k = 0; k < rows; k++) {
        int exponent = exponents_of(p, s, row + k)[w];
        least = exponent < least ? exponent : least;
    }
    return least;
}

/* A source row whose k differ from the common ones is shifted into a place beside the ring. */
static const int32_t *aligned(const lw_depthwise_plan *p, const worker_state *s, const band *t,
                              int64_t row, const int *common, int64_t place) {
    int64_t vw = p->isa->vw, shifted = 0;
    const int *exponent = exponents_of(p, s, row);
    const int32_t *line = line_of(p, s, row);
    int32_t *to = s->spare + place * p->most_vectors * p->pairs * vw;
    for (int64_t w = 0; w < t->b->w1 - t->b->w0; w++)
        shifted |= exponent[w] != common[w] && exponent[w] != NOTHING;
    if (!shifted) return line;
    for (const granule *g = p->granules + t->b->first; g < p->granules + t->b->last; g++) {
        int64_t w = g->window - t->b->w0, at = (g->at - t->b->v0) * p->pairs * vw;
        int64_t shift = min64(exponent[w] - common[w], LARGEST_SHIFT);
        p->isa->shift_halves(p->pairs * g->vectors * vw, line + at, (int)shift, to + at);
    }
    return to;
}

/* The lines that output row r of a group sees from source row `row` on, `rows` of which are there,
 * and U * sb of every channel. */
static const float *find_lines(const lw_depthwise_plan *p, const worker_state *s, const band *t,
                               int64_t r, int64_t row, int64_t rows) {
    int64_t vw = p->isa->vw;
    const int32_t **line = s->line + r * p->lines;
    for (int64_t k = 0; k < p->lines; k++) line[k] = line_of(p, s, row + k);
    if (p->limit > 0) return p->sb + t->b->v0 * vw;
    float *scale = s->scale + r * p->most_vectors * vw;
    int *common = s->common;
    for (int64_t w = 0; w < t->b->w1 - t->b->w0; w++)
        common[w] = common_exponent(p, s, row, rows, w);
    for (int64_t k = 0; k < rows; k++)
        line[k] = aligned(p, s, t, row + k, common, r * p->lines + k);
    for (const granule *g = p->granules + t->b->first; g < p->granules + t->b->last; g++) {
        float unit = two_to(-1 - common[g->window - t->b->w0]);
        for (int64_t i = 0; i < g->vectors * vw; i++)
            scale[(g->at - t->b->v0) * vw + i] = unit * p->sb[g->at * vw + i];
    }
    return scale;
}

lw_status lw_fused_run(lw_depthwise_plan *p, int64_t index, int worker) {
    worker_state *s = p->workers + worker;
    band t = find_band(p, index);
    int64_t kh = p->g->weights->kh, stride = p->g->stride_h, made = t.y0 * stride;
    int bad = 0;
    clear_borders(p, s, &t);
    for (int64_t y = t.y0; y < t.y1; y += LW_GROUP_ROWS) {
        const float *scale[LW_GROUP_ROWS];
        int rows = (int)min64(LW_GROUP_ROWS, t.y1 - y), sums = p->winograd ? 1 : rows;
        int64_t first = y * stride, end = first + (rows - 1) * stride + kh;
        bad |= make_rows(p, s, &t, made, end, worker);
        made = end;
        for (int r = 0; r < sums; r++)
            scale[r] = find_lines(p, s, &t, r, first + r * stride, p->winograd ? end - first : kh);
        for (int64_t x = 0; x < p->g->ow; x += p->strip) {
            int columns = (int)min64(p->strip, p->g->ow - x);
            for (int r = 0; r < sums; r++) lw_depthwise_sum(p, s, t.b, r, x, columns, scale[r]);
            bad |= lw_depthwise_finish(p, s, t.b, (position){{t.n, y, x}}, rows, columns);
        }
    }
    return bad ? LW_NONFINITE : LW_OK;
}

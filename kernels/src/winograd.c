/* winograd.c - 3 x 3 convolutions by Winograd's F(2, 3) along y: four products of one kernel row
 * for every two lines of output.
 *
 * A task transforms the source lines of its band into windows of its own, which stay in L2, and
 * multiplies them block by block: x[1] and x[2] meet as sum and difference in the tiles of x[2], to
 * which those of x[0] and x[3] are added. Bands go through pairs of lines of all images. */
#include "conv_plan.h"
#include "int64.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ_PIXELS = 5,         /* that would take the time in which a block's weights come from L3 */
    TILES = 4,               /* register tiles of pixels of a line that take turns at each panel */
    NEAR_BYTES = 128 * 1024, /* of transformed lines beside such weights */
    FAR_BYTES = 2 << 20      /* of those that serve all blocks of other weights in turn */
};

struct lw_winograd_plan {
    const lw_conv_args *g;
    const lw_weights *w;
    lw_tensor lines; /* an image for every worker, of a line for every pair of its band */
    lw_conv *dense;  /* the products of all lines: a group each */
    float *bias;     /* (LW_LINES * oc) */
    lw_block *blocks;
    int64_t oc, block_count, panels; /* panels of a group */
    int64_t pairs, bands, band;      /* of an image; bands of all images, of so many pairs */
    int64_t groups;                  /* of blocks, each a task of its own */
    int64_t pair_lines, count;       /* of an area, at most */
    int near;                        /* whether all weights stay in L2 */
    lw_post post;
    float *scratch; /* per worker: both lines of an area, the maxima, or all sums of an area */
    int64_t ldc, apart;
    int32_t *ratio; /* per worker: for transform */
    int64_t ratios; /* of a worker */
    float *scale;   /* per worker: the scales of source lines, where others lie between them */
    int64_t scales; /* of a line */
};

/* Pairs [first, first + count) of all images. */
typedef struct band {
    int64_t first, count;
} band;

/* ---- plan --------------------------------------------------------------------------------- */

int lw_winograd_takes(const lw_conv_args *g) {
    const lw_max_pool *m = g->max_pool;
    if (g->producer || g->shortcut || g->ow < 2) return 0;
    if (g->stride_h != 1 || g->stride_w != 1 || g->dilation_h != 1 || g->dilation_w != 1) return 0;
    if (!m) return 1;
    return is_floored(g) && !g->residual && !g->residual_q && m->kh == 2 && m->kw == 2 &&
           m->stride_h == 2 && m->stride_w == 2 && !m->pad_top && !m->pad_left &&
           2 * m->oh <= g->oh + 1 && 2 * m->ow <= g->ow + 1;
}

static lw_status plan_blocks(lw_winograd_plan *p) {
    p->panels = p->w->panel_count / LW_LINES;
    p->blocks = lw_conv_blocks(p->g, p->panels, LW_BLOCK_CHANNELS, &p->block_count);
    if (!p->blocks) return LW_NOMEM;
    for (int64_t i = 0; i < p->block_count; i++) /* vectors read too far */
        p->ldc = max64(p->ldc, round_up(p->blocks[i].n, p->w->isa->nr) + 16);
    return LW_OK;
}

/* Pairs of a band for which the last worker is done first: how many tasks, and what each takes. */
static void plan_bands(lw_winograd_plan *p, int workers) {
    const lw_conv_args *g = p->g;
    int64_t all = g->src->n * p->pairs, line = g->ow * p->w->ic, least = INT64_MAX;
    int64_t most = max64((p->near ? NEAR_BYTES : FAR_BYTES) / line, p->pair_lines);
    int64_t lines = min64(min64(most, all), max64(1, all / workers)), split = workers > 1;
    for (int64_t groups = 1; groups <= (split ? p->block_count : 1); groups++) {
        if (p->block_count % groups) continue;
        for (int64_t pairs = min64(most, all); pairs >= min64(lines, (most + 1) / 2); pairs--) {
            int64_t rounds = ceil_div(ceil_div(all, pairs) * groups, workers);
            int64_t blocks = p->block_count / groups, read = p->near ? 0 : READ_PIXELS * blocks;
            /* the transform takes about a tenth of the time of a block's products */
            int64_t time = rounds * (pairs * g->ow * (10 * blocks + 1) + 10 * read);
            if (time < least) least = time, p->band = pairs, p->groups = groups;
        }
    }
    p->bands = ceil_div(all, p->band);
}

static lw_status plan_lines(lw_winograd_plan *p, int workers) {
    const lw_tensor *src = p->g->src;
    lw_tensor *t = &p->lines;
    t->n = workers, t->h = p->band, t->w = src->w, t->c = p->w->ic;
    t->left = p->g->pad_left;
    t->right = max64(0, p->g->ow + 2 - src->w - t->left);
    t->window = p->w->window, t->windows = t->c / t->window;
    t->pixel_bytes = t->c, t->pixel_windows = t->windows;
    t->zero_point = LW_MIDDLE;
    size_t pixels = (size_t)(t->n * pixel_step(t, AXIS_N));
    t->q = lw_alloc(pixels * (size_t)t->pixel_bytes);
    t->scale = lw_alloc(pixels * (size_t)t->pixel_windows * sizeof *t->scale);
    p->scales = src->w * t->windows / LW_LINES;
    p->ratios = round_up(p->scales + 64, 64) * (LW_LINES + 1);
    p->ratio = lw_alloc((size_t)(workers * p->ratios) * sizeof *p->ratio);
    p->scales = round_up(p->scales + 16, 64);
    p->scale = lw_alloc((size_t)(workers * LW_LINES * p->scales) * sizeof *p->scale);
    return t->q && t->scale && p->ratio && p->scale ? LW_OK : LW_NOMEM;
}

static lw_status plan_dense(lw_winograd_plan *p, int workers) {
    lw_status status = LW_NOMEM;
    lw_conv_args lines = {.src = &p->lines,
                          .weights = p->w,
                          .oh = p->band,
                          .ow = p->g->ow,
                          .stride_h = 1,
                          .stride_w = 1,
                          .pad_left = p->g->pad_left,
                          .dilation_h = 1,
                          .dilation_w = 1,
                          .gemm = p->g->gemm};
    p->bias = lw_alloc((size_t)(LW_LINES * p->oc) * sizeof *p->bias);
    if (!p->bias) return status;
    if (p->g->bias) memcpy(p->bias + p->oc, p->g->bias, (size_t)p->oc * sizeof *p->bias);
    lines.bias = p->bias;
    p->dense = lw_conv_create_rows(&lines, LW_BLOCK_CHANNELS, -1, workers, &status);
    if (!p->dense) return status;
    if (!p->g->gemm) p->dense->ldc = p->ldc; /* of our blocks */
    return LW_OK;
}

static lw_status plan_scratch(lw_winograd_plan *p, int workers) {
    int64_t pixels = p->pair_lines * p->count;
    p->apart = round_up(3 * pixels * p->ldc, LW_PAGE_FLOATS) + LW_PAGE_FLOATS;
    if (p->g->gemm) p->apart += round_up(pixels * p->dense->ldc, LW_PAGE_FLOATS);
    p->scratch = lw_alloc((size_t)(workers * p->apart) * sizeof *p->scratch);
    return p->scratch ? LW_OK : LW_NOMEM;
}

lw_winograd_plan *lw_winograd_create(const lw_conv_args *g, int workers, lw_status *status) {
    lw_winograd_plan *p = lw_alloc(sizeof *p);
    *status = LW_NOMEM;
    if (!p) return NULL;
    p->g = g, p->w = g->weights;
    p->oc = p->w->oc / LW_LINES;
    p->pairs = ceil_div(g->oh, 2);
    p->near = lw_weights_bytes(p->w) <= LW_RESIDENT_BYTES;
    p->count = min64(g->ow, TILES * p->w->isa->mr);
    p->pair_lines = max64(1, TILES * p->w->isa->mr / g->ow);
    p->post = post_along(g, AXIS_Y, AXIS_X);
    *status = plan_blocks(p);
    if (*status == LW_OK) plan_bands(p, workers);
    if (*status == LW_OK) *status = plan_lines(p, workers);
    if (*status == LW_OK) *status = plan_dense(p, workers);
    if (*status == LW_OK) *status = plan_scratch(p, workers);
    if (*status == LW_OK) return p;
    lw_winograd_destroy(p);
    return NULL;
}

void lw_winograd_destroy(lw_winograd_plan *p) {
    if (!p) return;
    lw_conv_destroy(p->dense);
    free(p->lines.q);
    free(p->lines.scale);
    free(p->bias);
    free(p->blocks);
    free(p->scratch);
    free(p->ratio);
    free(p->scale);
    free(p);
}

/* ---- run ---------------------------------------------------------------------------------- */

int64_t lw_winograd_tasks(const lw_winograd_plan *p) { return p->bands * p->groups; }

/* Source line number l of a pair, which lies in the border where the image ends; where that ends,
 * too, it is only of an output line that does not exist. */
static int64_t source_line(const lw_winograd_plan *p, int64_t pair, int l) {
    const lw_tensor *src = p->g->src;
    int64_t y = 2 * (pair % p->pairs) + l - p->g->pad_top;
    return pixel_at(src, pair / p->pairs, min64(y, src->h + src->bottom - 1) + src->top, src->left);
}

/* The scales of a line side by side. */
static const float *line_scales(const lw_winograd_plan *p, int64_t pixel, int64_t windows,
                                float *to) {
    const lw_tensor *src = p->g->src;
    const float *from = src->scale + pixel * src->pixel_windows;
    if (src->pixel_windows == windows) return from;
    for (int64_t x = 0; x < src->w; x++)
        for (int64_t i = 0; i < windows; i++)
            to[x * windows + i] = from[x * src->pixel_windows + i];
    return to;
}

/* The lines of a pair to line `row` of the worker's image. */
static void transform_pair(lw_winograd_plan *p, int64_t pair, int64_t row, int worker) {
    const lw_tensor *src = p->g->src, *t = &p->lines;
    int64_t windows = t->windows / LW_LINES, to = pixel_at(t, worker, row, t->left);
    float *scale = p->scale + worker * LW_LINES * p->scales;
    lw_lines_args args = {.q_step = src->pixel_bytes,
                          .count = src->w * windows,
                          .windows = windows,
                          .window = t->window,
                          .zero_point = src->zero_point,
                          .ratio = p->ratio + worker * p->ratios,
                          .to = t->q + to * t->pixel_bytes,
                          .to_scale = t->scale + to * t->pixel_windows};
    for (int l = 0; l < LW_LINES; l++) {
        int64_t pixel = source_line(p, pair, l);
        args.q[l] = src->q + pixel * src->pixel_bytes;
        args.scale[l] = line_scales(p, pixel, windows, scale + l * p->scales);
    }
    p->w->isa->transform(&args);
}

/* The sums of both lines of an area, each pixel's n of one and, `twin` floats on, of the other. */
static void sum_pairs(const lw_winograd_plan *p, const lw_block *b, const area *a, float *c,
                      ptrdiff_t twin, int worker) {
    lw_block line[LW_LINES];
    for (int l = 0; l < LW_LINES; l++)
        line[l] = (lw_block){l * p->oc + b->n0, b->n, l * p->panels + b->first,
                             l * p->panels + b->last, 0};
    lw_conv_sum(p->dense, line + 1, a, c, worker);
    lw_conv_add(p->dense, line + 2, a, c, twin, worker);
    lw_conv_add(p->dense, line + 0, a, c, 0, worker);
    lw_conv_add(p->dense, line + 3, a, c + twin, 0, worker);
}

/* The same of a block, from sums x of all blocks and lines that another library made. */
static void add_lines(const lw_winograd_plan *p, const lw_block *b, const float *x, int64_t pixels,
                      float *c, ptrdiff_t twin) {
    for (int64_t i = 0; i < pixels; i++, x += p->dense->ldc, c += p->ldc)
        for (int64_t n = 0; n < b->n; n++) {
            const float *at = x + b->n0 + n;
            float first = at[p->oc], second = at[2 * p->oc];
            c[n] = at[0] + (first + second);
            c[twin + n] = at[3 * p->oc] + (first - second);
        }
}

/* A line of maxima, of one or two lines; the last column may be of one, too. */
static void max_pixels(const lw_winograd_plan *p, const float *c, ptrdiff_t twin, int lines,
                       int64_t count, int64_t n, float *y) {
    const float *line[2] = {c, c + twin};
    lw_max_lines_args args = {.line = line,
                              .lines = lines,
                              .kw = 2,
                              .stride = 2,
                              .floored = 1,
                              .step = p->ldc,
                              .count = count / 2,
                              .n = n,
                              .y = y,
                              .ldy = p->ldc};
    if (args.count) p->w->isa->max_lines(&args);
    if (count % 2 == 0) return;
    line[0] += (count - 1) * p->ldc, line[1] += (count - 1) * p->ldc;
    args.kw = 1, args.count = 1, args.y += count / 2 * p->ldc;
    p->w->isa->max_lines(&args);
}

/* What follows the sums of one pair of lines. */
static lw_status finish_pair(const lw_winograd_plan *p, const lw_block *b, area *a, float *c,
                             ptrdiff_t twin, float *y) {
    const lw_max_pool *m = p->g->max_pool;
    lw_post post = p->post;
    lw_step step = {twin, p->ldc};
    int64_t *at = a->first.at;
    if (m) {
        int64_t line = at[AXIS_Y] / 2, end = min64(m->ow, (at[AXIS_X] + a->count + 1) / 2);
        if (line >= m->oh || end <= at[AXIS_X] / 2) return LW_OK;
        max_pixels(p, c, twin, (int)a->lines, a->count, b->n, y);
        at[AXIS_Y] = line, at[AXIS_X] /= 2;
        a->lines = 1, a->count = end - at[AXIS_X];
        c = y;
    }
    post_at(&post, p->g, a, b->n0, b->n, b->window);
    return p->w->isa->finish(&post, c, step);
}

/* Pairs of lines of a band by one block. */
static lw_status run_area(const lw_winograd_plan *p, const band *t, const lw_block *b,
                          const area *a, int worker) {
    lw_status status = LW_OK;
    int64_t x = a->first.at[AXIS_X], count = a->count;
    float *c = p->scratch + worker * p->apart;
    ptrdiff_t twin = p->pair_lines * p->count * p->ldc;
    float *y = c + 2 * twin;
    if (p->g->gemm)
        add_lines(p, b, y + twin, a->lines * count, c, twin);
    else
        sum_pairs(p, b, a, c, twin, worker);
    for (int64_t i = 0; i < a->lines; i++, c += count * p->ldc) {
        int64_t pair = t->first + a->first.at[AXIS_Y] + i, line = 2 * (pair % p->pairs);
        area piece = {{{pair / p->pairs, line, x}}, AXIS_Y, AXIS_X, 1, count};
        if (line + 1 < p->g->oh) piece.lines = 2;
        if (finish_pair(p, b, &piece, c, twin, y)) status = LW_NONFINITE;
    }
    return status;
}

/* All of a band, whose lines are transformed, by blocks [block, end). */
static lw_status run_areas(lw_winograd_plan *p, const band *t, int64_t block, int64_t end,
                           int worker) {
    lw_status status = LW_OK;
    for (int64_t row = 0; row < t->count; row += p->pair_lines) {
        int64_t lines = min64(p->pair_lines, t->count - row);
        for (int64_t x = 0; x < p->g->ow; x += p->count) {
            area a = {{{worker, row, x}}, AXIS_Y, AXIS_X, lines, min64(p->count, p->g->ow - x)};
            if (p->g->gemm) {
                lw_block all = {.n = p->w->oc, .last = p->w->panel_count};
                float *c = p->scratch + worker * p->apart;
                lw_conv_sum(p->dense, &all, &a, c + 3 * p->pair_lines * p->count * p->ldc, worker);
            }
            for (int64_t i = block; i < end; i++)
                if (run_area(p, t, p->blocks + i, &a, worker)) status = LW_NONFINITE;
        }
    }
    return status;
}

/* Weights that do not stay in L2 serve the whole band, block by block. */
lw_status lw_winograd_run(lw_winograd_plan *p, int64_t task, int worker) {
    lw_status status = LW_OK;
    int64_t first = task / p->groups * p->band, blocks = p->block_count / p->groups;
    band t = {first, min64(p->band, p->g->src->n * p->pairs - first)};
    int64_t block = task % p->groups * blocks, end = block + blocks;
    int64_t step = p->near || p->g->gemm ? blocks : 1;
    for (int64_t row = 0; row < t.count; row++) transform_pair(p, first + row, row, worker);
    for (; block < end; block += step)
        if (run_areas(p, &t, block, block + step, worker)) status = LW_NONFINITE;
    return status;
}

/* matmul.c - the product of two activations: the columns of b become packed weights at every run,
 * then the rows of a are multiplied by them, block by block. */
#include "int64.h"
#include "weights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    PACK_ROWS = 64, /* columns of b that are quantized together: whole panels of every set */
    TILES = 8,      /* register tiles of rows in a block */
    CBLAS_ROW_MAJOR = 101,
    CBLAS_NO_TRANS = 111,
    CBLAS_FIX_OFFSET = 173
};

/* What one worker fills: floats that were not adjacent, their levels and scales; for a foreign
 * product also integer sums and float sums, ldn apart. */
typedef struct workspace {
    float *x, *scale, *factor, *f; /* factor: of a softmax, of each row */
    uint8_t *q;
    int32_t *acc;
} workspace;

/* b of one item for a foreign product: levels (k, ldn), then for each window comp and scales. */
typedef struct plain_b {
    int8_t *q;
    int32_t *comp;
    float *scale;
} plain_b;

struct lw_matmul {
    lw_matmul_args args; /* arrays of it are copied below */
    const lw_isa *isa;
    lw_weights *shape;              /* of b, without its numbers */
    lw_win *win;                    /* one per window */
    int64_t windows, ldq;           /* of a row; bytes from row to row */
    int64_t ldn;                    /* columns, padded */
    int64_t block, blocks;          /* rows of a block; blocks of an item */
    int64_t pack_tasks, pack_bytes; /* of one b */
    uint8_t *packs;                 /* all b */
    int64_t *a_at, *mask_at, *y_at, *pack, *b_at;
    float *scale, *zero; /* (ldn) */
    workspace *work;     /* of each worker */
    int workers;
    atomic_int failed;
};

/* ---- plan --------------------------------------------------------------------------------- */

static lw_status plan_shape(lw_matmul *p) {
    const lw_matmul_args *g = &p->args;
    lw_weights_args wanted = {.oc = g->n,
                              .kh = 1,
                              .kw = 1,
                              .ic = g->k,
                              .groups = 1,
                              .window = g->window,
                              .weight_window = min64(g->window, g->k),
                              .zero_point = g->zero_point};
    lw_status status;
    p->shape = lw_weights_create(p->isa, &wanted, NULL, 0, &status);
    if (!p->shape) return status;
    p->windows = p->shape->chunk_count;
    p->ldq = round_up(g->k, 4);
    p->ldn = round_up(g->n, p->isa->nr);
    p->win = lw_alloc((size_t)p->windows * sizeof *p->win);
    p->scale = lw_alloc((size_t)p->ldn * sizeof *p->scale);
    p->zero = lw_alloc((size_t)p->ldn * sizeof *p->zero);
    if (!p->win || !p->scale || !p->zero) return LW_NOMEM;
    for (int64_t n = 0; n < p->ldn; n++) p->scale[n] = g->scale;
    for (int64_t i = 0; i < p->windows; i++) {
        const lw_chunk *c = p->shape->chunks + i;
        p->win[i] = (lw_win){c->c0, c->win, (c->len + 3) / 4, c->b_off};
    }
    return LW_OK;
}

static int64_t *copied(const int64_t *x, int64_t count) {
    int64_t *copy = lw_alloc((size_t)count * sizeof *copy);
    return copy ? memcpy(copy, x, (size_t)count * sizeof *copy) : NULL;
}

static lw_status plan_items(lw_matmul *p) {
    const lw_matmul_args *g = &p->args;
    p->a_at = copied(g->a_at, g->items);
    p->mask_at = copied(g->mask ? g->mask_at : g->a_at, g->items);
    p->y_at = copied(g->y_at, g->items);
    p->pack = copied(g->pack, g->items);
    p->b_at = copied(g->b_at, g->packs);
    p->pack_tasks = ceil_div(g->n, PACK_ROWS);
    p->pack_bytes = round_up((int64_t)p->shape->bytes, LW_ALIGN);
    if (g->gemm) p->pack_bytes = round_up((g->k + 8 * p->windows) * p->ldn, LW_ALIGN);
    p->packs = lw_alloc((size_t)(g->packs * p->pack_bytes));
    return p->a_at && p->mask_at && p->y_at && p->pack && p->b_at && p->packs ? LW_OK : LW_NOMEM;
}

/* Blocks of whole tiles, as equal as possible. */
static void plan_blocks(lw_matmul *p) {
    int64_t mr = p->isa->mr, tiles = ceil_div(p->args.m, mr);
    int64_t most = min64(TILES * mr, LW_FINISH_ROWS) / mr;
    p->block = ceil_div(tiles, ceil_div(tiles, most)) * mr;
    p->blocks = ceil_div(p->args.m, p->block);
}

static int plan_workspace(const lw_matmul *p, workspace *w) {
    size_t rows = PACK_ROWS, sums = (size_t)(p->block * p->ldn);
    w->x = lw_alloc(rows * (size_t)p->args.k * sizeof *w->x);
    w->q = lw_alloc(rows * (size_t)p->ldq);
    w->scale = lw_alloc(rows * (size_t)p->windows * sizeof *w->scale);
    w->factor = lw_alloc(rows * sizeof *w->factor);
    if (p->args.gemm) {
        w->acc = lw_alloc(sums * sizeof *w->acc);
        w->f = lw_alloc(sums * sizeof *w->f);
    }
    return w->x && w->q && w->scale && w->factor && (!p->args.gemm || (w->acc && w->f));
}

static lw_status plan(lw_matmul *p) {
    lw_status status = plan_shape(p);
    if (status == LW_OK) status = plan_items(p);
    if (status != LW_OK) return status;
    plan_blocks(p);
    p->work = lw_alloc((size_t)p->workers * sizeof *p->work);
    if (!p->work) return LW_NOMEM;
    for (int i = 0; i < p->workers; i++)
        if (!plan_workspace(p, p->work + i)) return LW_NOMEM;
    return LW_OK;
}

/* ---- quantize ------------------------------------------------------------------------------ */

/* `rows` rows of K floats, `row` apart and their elements `step`, side by side. */
static void gather_rows(const lw_matmul *p, const workspace *w, const float *x, int64_t rows,
                        int64_t row, int64_t step) {
    int64_t k = p->args.k;
    for (int64_t i = 0; i < k; i++)
        for (int64_t r = 0; r < rows; r++) w->x[r * k + i] = x[r * row + i * step];
}

/* `rows` rows of K floats, `row` apart and their elements `step`, as levels. */
static lw_status take_rows(const lw_matmul *p, const workspace *w, const float *x, int64_t rows,
                           int64_t row, int64_t step, int zero_point) {
    if (step != 1) {
        gather_rows(p, w, x, rows, row, step);
        x = w->x, row = p->args.k;
    }
    return p->isa->quantize(rows, x, row, p->args.k, p->args.window, zero_point, w->q, p->ldq,
                            w->scale, p->windows);
}

/* The same of their softmax: the scales take the factors of the rows. */
static lw_status take_shares(const lw_matmul *p, const workspace *w, const float *x,
                             const float *mask, int64_t rows) {
    const lw_matmul_args *g = &p->args;
    int64_t row = g->a_stride[0];
    if (g->a_stride[1] != 1) {
        gather_rows(p, w, x, rows, row, g->a_stride[1]);
        x = w->x, row = g->k;
    }
    lw_status status = p->isa->softmax(rows, x, row, mask, g->mask_stride, g->k, w->x, w->factor);
    if (take_rows(p, w, w->x, rows, g->k, 1, 0)) status = LW_NONFINITE;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < p->windows; i++) w->scale[r * p->windows + i] *= w->factor[r];
    return status;
}

static plain_b plain_at(const lw_matmul *p, int64_t pack) {
    uint8_t *at = p->packs + pack * p->pack_bytes;
    int64_t scales = p->windows * p->ldn;
    int32_t *comp = (int32_t *)(void *)at;
    return (plain_b){(int8_t *)(at + 8 * scales), comp, (float *)(void *)(comp + scales)};
}

/* Rows of levels become columns. */
static void place_columns(const lw_matmul *p, const workspace *w, int64_t first, int64_t rows,
                          plain_b b) {
    for (int64_t i = 0; i < p->windows; i++) {
        const lw_chunk *c = p->shape->chunks + i;
        for (int64_t r = 0; r < rows; r++) {
            int32_t sum = 0;
            for (int64_t k = c->c0; k < c->c0 + c->len; k++) {
                int8_t level = (int8_t)(w->q[r * p->ldq + k] - 128);
                b.q[k * p->ldn + first + r] = level;
                sum += level;
            }
            b.comp[i * p->ldn + first + r] = -p->args.zero_point * sum;
            b.scale[i * p->ldn + first + r] = w->scale[r * p->windows + i];
        }
    }
}

static void pack_task(void *context, int64_t index, int worker) {
    lw_matmul *p = context;
    const workspace *w = p->work + worker;
    int64_t pack = index / p->pack_tasks, first = index % p->pack_tasks * PACK_ROWS;
    int64_t rows = min64(PACK_ROWS, p->args.n - first), column = p->args.b_stride[1];
    const float *b = p->args.b + p->b_at[pack] + first * column;
    if (take_rows(p, w, b, rows, column, p->args.b_stride[0], 128)) atomic_store(&p->failed, 1);
    if (p->args.gemm)
        place_columns(p, w, first, rows, plain_at(p, pack));
    else
        lw_weights_pack_rows(p->shape, first, rows, w->q, p->ldq, w->scale, p->windows,
                             p->packs + pack * p->pack_bytes);
}

/* ---- multiply ------------------------------------------------------------------------------ */

/* Rows in tiles as equal as possible, those with a row more first. */
static void multiply(const lw_matmul *p, const workspace *w, int64_t rows, const uint8_t *panels,
                     float *y) {
    int64_t tiles = ceil_div(rows, p->isa->mr), tile = rows / tiles, large = rows % tiles;
    const int64_t counts[] = {large * (tile + 1), (tiles - large) * tile};
    lw_dot *const dots[] = {large ? p->isa->dot[LW_AW][tile] : NULL, p->isa->dot[LW_AW][tile - 1]};
    lw_out out = {.step = {0, p->args.y_stride}};
    for (const lw_panel *b = p->shape->panels; b < p->shape->panels + p->shape->panel_count; b++) {
        lw_pixels from = {w->q, w->scale, {0, p->ldq}, {0, p->windows}, 1, 0};
        out.sb = p->scale + b->n0, out.bias = p->zero + b->n0;
        out.y = y + b->n0, out.n = b->n;
        for (int i = 0; i < 2; i++) {
            from.count = (int)counts[i];
            if (!from.count) continue;
            dots[i]((int)p->windows, p->win, &from, panels + b->offset, &out);
            from.a += from.count * p->ldq, from.sa += from.count * p->windows;
            out.y += from.count * p->args.y_stride;
        }
    }
}

static void multiply_foreign(const lw_matmul *p, const workspace *w, int64_t rows, plain_b b,
                             float *y) {
    int64_t n = p->args.n;
    int32_t zero = 0;
    memset(w->f, 0, (size_t)(rows * p->ldn) * sizeof *w->f);
    for (int64_t i = 0; i < p->windows; i++) {
        const lw_chunk *c = p->shape->chunks + i;
        p->args.gemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, CBLAS_FIX_OFFSET, (int)rows,
                     (int)n, c->len, 1.0f, w->q + c->c0, (int)p->ldq, 0, b.q + c->c0 * p->ldn,
                     (int)p->ldn, 0, 0.0f, w->acc, (int)p->ldn, &zero);
        for (int64_t r = 0; r < rows; r++)
            p->isa->accumulate(n, w->acc + r * p->ldn, b.comp + i * p->ldn, b.scale + i * p->ldn,
                               w->scale[r * p->windows + i], NULL, w->f + r * p->ldn);
    }
    lw_post post = {.lines = 1,
                    .count = (int)rows,
                    .n = n,
                    .sb = p->scale,
                    .bias = p->zero,
                    .dst = y,
                    .dst_step = {0, p->args.y_stride}};
    p->isa->finish(&post, w->f, (lw_step){0, p->ldn});
}

static void multiply_task(void *context, int64_t index, int worker) {
    lw_matmul *p = context;
    const lw_matmul_args *g = &p->args;
    const workspace *w = p->work + worker;
    int64_t item = index / p->blocks, first = index % p->blocks * p->block;
    int64_t rows = min64(p->block, g->m - first), pack = p->pack[item];
    const float *a = g->a + p->a_at[item] + first * g->a_stride[0];
    float *y = g->y + p->y_at[item] + first * g->y_stride;
    const float *mask = g->mask;
    if (mask) mask += p->mask_at[item] + first * g->mask_stride;
    if (g->softmax ? take_shares(p, w, a, mask, rows)
                   : take_rows(p, w, a, rows, g->a_stride[0], g->a_stride[1], g->zero_point))
        atomic_store(&p->failed, 1);
    if (g->gemm)
        multiply_foreign(p, w, rows, plain_at(p, pack), y);
    else
        multiply(p, w, rows, p->packs + pack * p->pack_bytes, y);
}

/* ---- public ------------------------------------------------------------------------------- */

lw_matmul *lw_matmul_create(const lw_isa *isa, const lw_matmul_args *args, int threads,
                            lw_status *status) {
    lw_matmul *p = lw_alloc(sizeof *p);
    *status = LW_NOMEM;
    if (!p) return NULL;
    p->args = *args, p->isa = isa, p->workers = threads;
    *status = plan(p);
    if (*status == LW_OK) return p;
    lw_matmul_destroy(p);
    return NULL;
}

lw_status lw_matmul_run(lw_matmul *p, lw_pool *pool) {
    lw_pool_run(pool, p->args.packs * p->pack_tasks, pack_task, p);
    lw_pool_run(pool, p->args.items * p->blocks, multiply_task, p);
    return atomic_exchange(&p->failed, 0) ? LW_NONFINITE : LW_OK;
}

void lw_matmul_destroy(lw_matmul *p) {
    if (!p) return;
    for (int i = 0; p->work && i < p->workers; i++) {
        free(p->work[i].x);
        free(p->work[i].q);
        free(p->work[i].scale);
        free(p->work[i].factor);
        free(p->work[i].acc);
        free(p->work[i].f);
    }
    lw_weights_destroy(p->shape);
    free(p->win);
    free(p->packs);
    free(p->a_at);
    free(p->mask_at);
    free(p->y_at);
    free(p->b_at);
    free(p->pack);
    free(p->scale);
    free(p->zero);
    free(p->work);
    free(p);
}

/* columns.c - arithmetic with the columns of narrow matrices, a block of rows at a time. */
#include "int64.h"
#include "isa.h"
#include "weights.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, LANES = 16 /* to which vectors fill up what they read and write */ };

struct lw_columns {
    lw_columns_args args;
    const lw_isa *isa;
    lw_columns_part *part;
    lw_columns_step *step;
    int32_t *result;
    int64_t blocks;        /* of an image */
    int64_t fixed, padded; /* the first constant, and floats from one to the next */
    int copies;            /* whether the result is what is loaded */
    float *constant;
    float *scratch; /* per worker: a block of every column */
};

/* Columns in memory become rows of y, a block apart. */
static inline __attribute__((always_inline)) void
split_of(const int64_t n, int64_t rows, const float *restrict x, float *restrict y) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) y[j * BLOCK + i] = x[i * n + j];
}

static void split(int64_t n, int64_t rows, const float *x, float *y) {
    switch (n) { /* usual widths compile to their own loops */
    case 2: split_of(2, rows, x, y); break;
    case 4: split_of(4, rows, x, y); break;
    default: split_of(n, rows, x, y);
    }
}

static inline __attribute__((always_inline)) void
join_of(const int64_t n, int64_t rows, const float *const *x, float *restrict y) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) y[i * n + j] = x[j][i];
}

static void join(int64_t n, int64_t rows, const float *const *x, float *y) {
    switch (n) {
    case 2: join_of(2, rows, x, y); break;
    case 4: join_of(4, rows, x, y); break;
    default: join_of(n, rows, x, y);
    }
}

/* What of rows [first, end) of an image a part holds: to its columns, or as it is to y. */
static void load(const lw_columns *p, const lw_columns_part *part, int64_t image, int64_t first,
                 int64_t end, float *scratch, float *y) {
    int64_t from = max64(first, part->first), to = min64(end, part->first + part->rows);
    if (from >= to) return;
    const float *x = part->x + (image * part->rows + from - part->first) * part->n;
    if (p->copies)
        memcpy(y + (from - first) * part->n, x, (size_t)((to - from) * part->n) * sizeof *x);
    else
        split(part->n, to - from, x, scratch + part->column * BLOCK + from - first);
}

static const float *column_at(const lw_columns *p, const float *scratch, int64_t column,
                              int64_t first) {
    int64_t constant = column - p->fixed;
    if (constant < 0 || constant >= p->args.constants) return scratch + column * BLOCK;
    return p->constant + constant * p->padded + first;
}

static void columns_task(void *context, int64_t index, int worker) {
    const lw_columns *p = context;
    const lw_columns_args *g = &p->args;
    int64_t image = index / p->blocks, first = index % p->blocks * BLOCK;
    int64_t rows = min64(BLOCK, g->rows - first), made = p->fixed + g->constants;
    float *scratch = p->scratch + worker * (made + g->steps) * BLOCK;
    float *y = g->y + (image * g->rows + first) * g->n;
    const float *result[LW_MAX_COLUMNS];
    for (int64_t i = 0; i < g->parts; i++)
        load(p, p->part + i, image, first, first + rows, scratch, y);
    if (p->copies) return;
    for (int64_t i = 0; i < g->steps; i++) {
        const lw_columns_step *s = p->step + i;
        p->isa->column(s->op, round_up(rows, LANES), column_at(p, scratch, s->a, first),
                       column_at(p, scratch, s->b, first), scratch + (made + i) * BLOCK);
    }
    for (int64_t j = 0; j < g->n; j++) result[j] = column_at(p, scratch, p->result[j], first);
    join(g->n, rows, result, y);
}

static void *copy_of(const void *x, int64_t count, size_t size) {
    void *copy = lw_alloc((size_t)max64(count, 1) * size);
    if (copy && count) memcpy(copy, x, (size_t)count * size);
    return copy;
}

/* Whether the result has the columns that are loaded, in their order. */
static int is_copy(const lw_columns *p) {
    const lw_columns_args *g = &p->args;
    if (g->constants || g->steps || g->n != p->fixed) return 0;
    for (int64_t i = 0; i < g->parts; i++)
        if (g->part[i].n != g->n) return 0;
    for (int64_t j = 0; j < g->n; j++)
        if (g->result[j] != j) return 0;
    return 1;
}

lw_columns *lw_columns_create(const lw_isa *isa, const lw_columns_args *args, int threads) {
    lw_columns *p = lw_alloc(sizeof *p);
    if (!p) return NULL;
    p->args = *args;
    p->isa = isa;
    p->blocks = ceil_div(args->rows, BLOCK);
    p->padded = round_up(args->rows, LANES);
    for (int64_t i = 0; i < args->parts; i++)
        p->fixed = max64(p->fixed, args->part[i].column + args->part[i].n);
    p->copies = is_copy(p);
    p->part = copy_of(args->part, args->parts, sizeof *p->part);
    p->step = copy_of(args->step, args->steps, sizeof *p->step);
    p->result = copy_of(args->result, args->n, sizeof *p->result);
    p->constant = lw_alloc((size_t)max64(args->constants * p->padded, 1) * sizeof *p->constant);
    int64_t columns = p->fixed + args->constants + args->steps;
    p->scratch = lw_alloc((size_t)(threads * columns * BLOCK) * sizeof *p->scratch);
    if (p->part && p->step && p->result && p->constant && p->scratch) {
        for (int64_t i = 0; i < args->constants; i++)
            memcpy(p->constant + i * p->padded, args->constant + i * args->rows,
                   (size_t)args->rows * sizeof *p->constant);
        return p;
    }
    lw_columns_destroy(p);
    return NULL;
}

void lw_columns_run(lw_columns *p, lw_pool *pool) {
    lw_pool_run(pool, p->args.images * p->blocks, columns_task, p);
}

void lw_columns_destroy(lw_columns *p) {
    if (!p) return;
    free(p->part);
    free(p->step);
    free(p->result);
    free(p->constant);
    free(p->scratch);
    free(p);
}

/* linear.c - images of another size whose pixels lie between those that there are. */
#include "isa.h"

typedef struct linear_job {
    const lw_isa *isa;
    const lw_linear_args *args;
} linear_job;

/* One task is one output row. */
static void linear_task(void *context, int64_t index, int worker) {
    const linear_job *j = context;
    const lw_linear_args *g = j->args;
    int64_t n = index / g->oh, y = index % g->oh;
    const float *over = g->src + n * g->src_stride[0] + g->row[y] * g->src_stride[1];
    (void)worker;
    const lw_linear_row_args row = {
        .n = g->ow,
        .c = g->c,
        .over = over,
        .under = over + (g->row_part[y] > 0 ? g->src_stride[1] : 0),
        .part = g->row_part[y],
        .column = g->column,
        .parts = g->column_part,
        .step = g->src_stride[2],
        .y = g->dst + n * g->dst_stride[0] + y * g->dst_stride[1],
        .y_step = g->dst_stride[2],
    };
    j->isa->linear_row(&row);
}

void lw_linear(const lw_isa *isa, lw_pool *pool, const lw_linear_args *args) {
    linear_job j = {isa, args};
    lw_pool_run(pool, args->n * args->oh, linear_task, &j);
}

/* depthwise_plan.h - a depthwise layer as it is planned: blocks of channels, cut into granules, and
 * the memory of each worker. Made by depthwise_plan.c, run by depthwise.c from a quantized tensor
 * and by fused.c from the rows of a dense convolution. */
#ifndef LW_SRC_DEPTHWISE_PLAN_H
#define LW_SRC_DEPTHWISE_PLAN_H

#include "rows.h"
#include "weights.h"

#define LW_FUSED_LEAST 0x1p-100f /* below it a row is 0 */

enum { LW_GROUP_ROWS = 2 /* output rows that are finished at once */ };

/* At most four vectors of channels, of one source window where there are windows, inside one
 * block. */
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
    float *scale;   /* (rows, vectors of a block, vw): U * sb */
    int32_t *spare; /* of a fused layer: as ring, but for each of `line` */
    float *top;    /* of a fused layer: (lines, channels): largest |y| of rows under way; or NULL */
    int *exponent; /* of a fused layer: (slots, windows of a block): k of each */
    int *common;   /* (windows of a block): that of a few rows */
    const int32_t **line; /* (rows, rows of taps) */
} worker_state;

typedef struct lw_depthwise_plan {
    const lw_conv_args *g;
    const lw_isa *isa;
    struct lw_conv *dense; /* what makes the source rows; NULL: they are those of a tensor */
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
    int64_t strip, padded, pairs; /* output columns at once; filled up; pairs of a place */
    int64_t seen;                 /* source pixels of a tile, padded to whole vectors */
    int64_t bands, band;          /* of a fused layer: tasks along y, output rows of one; */
    float limit;                  /* the largest 16-bit value, 0: it has no bound; */
    int exponent;                 /* and k of all rows, if it has one */
    int finishes;                 /* whether tiles of `dense` make more of their sums */
    int32_t *weights;             /* (vectors, weight_step) */
    int64_t weight_step;
    float *sb, *bias; /* (vectors, vw) */
    int64_t ldy;
    worker_state *workers;
    int worker_count;
    void *memory; /* of the workers */
} lw_depthwise_plan;

/* args must stay where they are. NULL and *status on failure. */
lw_depthwise_plan *lw_depthwise_create(const lw_conv_args *args, int workers, lw_status *status);
int64_t lw_depthwise_tasks(const lw_depthwise_plan *plan);
lw_status lw_depthwise_run(lw_depthwise_plan *plan, int64_t task, int worker);
void lw_depthwise_destroy(lw_depthwise_plan *plan);

/* The sums of `columns` output columns from x of the lines for row r on, to row r of y; of the row
 * below, too, by Winograd. scale : of the first vector of the block. */
void lw_depthwise_sum(const lw_depthwise_plan *plan, const worker_state *s, const block *b,
                      int64_t r, int64_t x, int64_t columns, const float *scale);

/* What follows the sums of y. Nonzero if a value to be quantized is NaN or infinite. */
int lw_depthwise_finish(const lw_depthwise_plan *plan, worker_state *s, const block *b, position at,
                        int rows, int columns);

/* The same of a depthwise layer whose args have a producer, and the most k for which the 16-bit
 * values x * 2^k of all |x| <= top are in their range; top >= LW_FUSED_LEAST. */
int lw_fused_exponent(float top);
int64_t lw_fused_tasks(const lw_depthwise_plan *plan);
lw_status lw_fused_run(lw_depthwise_plan *plan, int64_t task, int worker);

#endif

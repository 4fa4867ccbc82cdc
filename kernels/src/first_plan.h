/* first_plan.h - what first.c offers to conv.c. */
#ifndef LW_SRC_FIRST_PLAN_H
#define LW_SRC_FIRST_PLAN_H

#include "weights.h"

/* Of weights of gathered pixels: how to gather them. The caller frees piece; NULL: no memory. */
lw_patches lw_patches_of(const lw_conv_args *args);

typedef struct lw_first_plan lw_first_plan;

/* Whether lw_first_create takes the layer: weights of gathered pixels, and a quantized result
 * alone. */
int lw_first_takes(const lw_conv_args *args);

/* args must stay where they are. NULL and *status on failure. */
lw_first_plan *lw_first_create(const lw_conv_args *args, int workers, lw_status *status);
int64_t lw_first_tasks(const lw_first_plan *plan);
lw_status lw_first_run(lw_first_plan *plan, int64_t task, int worker);
void lw_first_destroy(lw_first_plan *plan);

typedef struct lw_maxima_plan lw_maxima_plan;

/* Whether lw_maxima_create takes the layer, which has a max_pool: weights of gathered pixels and
 * the maximum of 3 x 3 at stride 2 behind what makes values below 0 one and the same. */
int lw_maxima_takes(const lw_conv_args *args);

/* As lw_first_create. */
lw_maxima_plan *lw_maxima_create(const lw_conv_args *args, int workers, lw_status *status);
int64_t lw_maxima_ld(const lw_maxima_plan *plan); /* floats from pixel to pixel */
/* Row `row` of maxima of image n, ahead of the activation. first: of those that the worker makes,
 * one after the other. Good until the next. */
float *lw_maxima_row(lw_maxima_plan *plan, int64_t n, int64_t row, int first, int worker);
void lw_maxima_destroy(lw_maxima_plan *plan);

#endif

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

#endif

/* pooled_plan.h - what pooled.c offers to conv.c. */
#ifndef LW_SRC_POOLED_PLAN_H
#define LW_SRC_POOLED_PLAN_H

#include "lw.h"

typedef struct lw_pooled_plan lw_pooled_plan;

/* Whether lw_pooled_create takes the layer, which has a max_pool. */
int lw_pooled_takes(const lw_conv_args *args);

/* args must stay where they are. NULL and *status on failure. */
lw_pooled_plan *lw_pooled_create(const lw_conv_args *args, int workers, lw_status *status);
int64_t lw_pooled_tasks(const lw_pooled_plan *plan);
lw_status lw_pooled_run(lw_pooled_plan *plan, int64_t task, int worker);
void lw_pooled_destroy(lw_pooled_plan *plan);

#endif

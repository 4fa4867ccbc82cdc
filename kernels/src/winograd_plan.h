/* winograd_plan.h - what winograd.c offers to conv.c. */
#ifndef LW_SRC_WINOGRAD_PLAN_H
#define LW_SRC_WINOGRAD_PLAN_H

#include "lw.h"

typedef struct lw_winograd_plan lw_winograd_plan;

/* Whether lw_winograd_create takes the layer, whose weights are made for it. */
int lw_winograd_takes(const lw_conv_args *args);

/* args must stay where they are. NULL and *status on failure. */
lw_winograd_plan *lw_winograd_create(const lw_conv_args *args, int workers, lw_status *status);
int64_t lw_winograd_tasks(const lw_winograd_plan *plan);
lw_status lw_winograd_run(lw_winograd_plan *plan, int64_t task, int worker);
void lw_winograd_destroy(lw_winograd_plan *plan);

#endif

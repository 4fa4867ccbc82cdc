/* depthwise_plan.h - what depthwise.c offers to conv.c. */
#ifndef LW_SRC_DEPTHWISE_PLAN_H
#define LW_SRC_DEPTHWISE_PLAN_H

#include "weights.h"

typedef struct lw_depthwise_plan lw_depthwise_plan;

/* args must stay where they are. NULL and *status on failure. */
lw_depthwise_plan *lw_depthwise_create(const lw_conv_args *args, int workers, lw_status *status);
int64_t lw_depthwise_tasks(const lw_depthwise_plan *plan);
lw_status lw_depthwise_run(lw_depthwise_plan *plan, int64_t task, int worker);
void lw_depthwise_destroy(lw_depthwise_plan *plan);

#endif

/* conv_plan.h - a convolution or product as it is planned: blocks of output channels times areas of
 * output pixels. Made by conv_plan.c, run by conv.c; foreign.c does products by another library. */
#ifndef LW_SRC_CONV_PLAN_H
#define LW_SRC_CONV_PLAN_H

#include "depthwise_plan.h"
#include "first_plan.h"
#include "pooled_plan.h"
#include "rows.h"
#include "weights.h"
#include "winograd_plan.h"

#include <stdatomic.h>

enum {
    LW_BLOCK_CHANNELS = 128, /* output channels of a block, at least, unless the layer has fewer */
    LW_RESIDENT_BYTES = 512 * 1024 /* of weights that stay in L2 beside activations */
};

/* Output channels [n0, n0 + n), made of panels [first, last); window number `window` begins there.
 */
typedef struct lw_block {
    int64_t n0, n, first, last, window;
} lw_block;

/* A line of pixels as register tiles: `large` of `tile` + 1 pixels, then `small` of `tile`. */
typedef struct lw_tiles {
    int tile, large, small;
} lw_tiles;

/* Pixels [first, end) along a line, whose taps lie in the image in columns [left, right) of the
 * kernel only; in the others every scale is 0. */
typedef struct lw_segment {
    int64_t first, end, left, right;
    const lw_list *lists; /* of the columns' windows */
} lw_segment;

/* Weights for a foreign product. */
typedef struct lw_foreign lw_foreign;

struct lw_conv {
    lw_conv_args args, producer; /* args.producer is &producer, or NULL */
    lw_max_pool max_pool;        /* likewise */
    lw_tensor line[3];           /* src, dst_q and residual_q of args as one line, where they are */
    const lw_isa *isa;
    float *sb, *bias;     /* (oc); sb is 1 in mode AW: fma(f, 1, bias) = f + bias */
    int scaled;           /* sb is something else than 1 */
    lw_win *win;          /* one per chunk or run of chunks */
    lw_list *lists;       /* into win: of all segments */
    lw_segment *segments; /* of a line */
    int64_t segment_count;
    lw_block *blocks;
    int64_t block_count, block_channels; /* channels of a block, at least */
    int line_axis, pixel_axis, other_axis;
    int64_t lines, count;                   /* of an area, at most */
    int64_t area_lines, area_strips, areas; /* areas along each axis; all of them */
    int64_t group;                          /* areas at which all blocks take turns */
    lw_post post;                           /* of any area */
    lw_tiles *wide, *narrow;                /* of so many pixels; tile 0: none */
    lw_dot *few;                            /* instead of both, where rows are short; or NULL */
    int64_t ldc, apart;                     /* floats from row to row, from worker to worker */
    float *scratch;                         /* per worker: (lines * count, ldc), at least */
    struct lw_conv *shortcut;               /* whose sums are added, area by area; or NULL */
    int plain; /* whether tiles give what the caller asks for: no scratch, no second pass */
    int adds;  /* whether tiles add the residual, not what follows them */
    int rows;  /* whether another layer takes the sums; 2: of whole lines */
    int held;  /* lines that the scratch has room for, if more than those of an area */
    int workers, skips; /* skips: whether taps that lie outside of the image may be left out */
    lw_depthwise_plan *depthwise; /* or NULL; then it needs nothing of the rest */
    lw_first_plan *first;         /* the same */
    lw_pooled_plan *pooled;       /* the same */
    lw_winograd_plan *winograd;   /* the same */
    lw_foreign *foreign;          /* or NULL */
    lw_patches patches;           /* of weights of gathered pixels */
    uint8_t *patch;               /* per worker, patch_bytes apart; or NULL */
    int64_t patch_bytes;
    atomic_int failed;
};

/* args must stay where they are; p->args, p->isa and p->block_channels are set. */
lw_status lw_conv_plan(lw_conv *p);
void lw_conv_forget(lw_conv *p);

/* Blocks of `panels` panels of a layer: at least so many channels each, ending with windows of
 * dst_q and of the residual. The caller frees them; NULL: no memory. */
lw_block *lw_conv_blocks(const lw_conv_args *g, int64_t panels, int64_t least, int64_t *count);

/* Area number i, and where its pixels have their first tap: of gathered ones, in the memory of the
 * worker. */
void lw_conv_area(const lw_conv *p, int64_t i, area *a);
void lw_conv_pixels(const lw_conv *p, const area *a, int worker, lw_pixels *pixels);

/* A convolution whose sums, fma(f, sb, bias), another layer takes: it is never run. Of an image
 * that is wider than a pixel, ungrouped; lines follow on y, pixels on x. whole : an area has all
 * pixels of its lines, and the scratch of a worker holds so many lines, if not 0; below 0 there is
 * no scratch. */
lw_conv *lw_conv_create_rows(const lw_conv_args *args, int64_t block_channels, int whole,
                             int workers, lw_status *status);
/* The sums of an area by a block to c, (lines * count, ldc). */
void lw_conv_sum(const lw_conv *p, const lw_block *b, const area *a, float *c, int worker);
/* The same added to c, or to it and, taken off, to its twin so many floats on, unless that is 0.
 * Not of a foreign product or mode C. */
void lw_conv_add(const lw_conv *p, const lw_block *b, const area *a, float *c, ptrdiff_t twin,
                 int worker);
/* The same of one panel by a line of an area, whose pixels `from` are, as lw_dot_row has it; sets
 * sb and bias of out, and moves both past the line. Not of a foreign product, few channels or mode
 * AW. */
void lw_conv_row(const lw_conv *p, const lw_panel *panel, const area *a, int64_t line,
                 lw_pixels *from, lw_row_out *out);

lw_foreign *lw_foreign_create(const lw_conv *p);
void lw_foreign_destroy(lw_foreign *f);
/* The sums of all output channels of an area to c. */
void lw_foreign_sum(const lw_conv *p, const area *a, float *c, int worker);

#endif

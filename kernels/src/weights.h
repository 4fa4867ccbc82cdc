/* weights.h - packed weights: panels of nr output channels over lists of chunks. */
#ifndef LW_SRC_WEIGHTS_H
#define LW_SRC_WEIGHTS_H

#include "isa.h"

/* `len` channels from c0 (of all input channels) at kernel tap `tap`, inside window `win`. Its
 * data start b_off bytes into each panel. part: of fine weights, 0 the upper and 1 the lower one.
 */
typedef struct lw_chunk {
    int32_t tap, c0, len, win, b_off, part;
} lw_chunk;

/* Output channels [n0, n0 + n) that share the chunks of list `list`. */
typedef struct lw_panel {
    int64_t n0, n, list;
    size_t offset; /* bytes into data */
} lw_panel;

typedef struct lw_list {
    int64_t first, count; /* chunks */
} lw_list;

struct lw_weights {
    const lw_isa *isa;
    int64_t oc, kh, kw, ic, groups, window, weight_window;
    int zero_point, depthwise, fine;
    int patches;  /* one chunk of all taps, of gathered pixels */
    int winograd; /* one group for each transformed line */
    lw_mode mode;
    lw_list *lists;
    lw_chunk *chunks;
    lw_panel *panels;
    int64_t list_count, chunk_count, panel_count;
    uint8_t *blob; /* holds what follows */
    size_t bytes;
    int borrowed;  /* whether the caller owns the blob */
    float *sb;     /* (oc); NULL in mode AW, unless depthwise */
    uint8_t *data; /* panels */
    int64_t ldw;   /* depthwise: from tap to tap of dw */
    int16_t *dw;
};

/* Of the activations of a chunk: sums of lines that are not negative are not, either. */
static inline int lw_zero_point(const lw_weights *w, const lw_chunk *chunk) {
    int sum = w->winograd && chunk->c0 / (w->ic / LW_LINES) == LW_SUM_LINE;
    return w->winograd && !sum ? LW_MIDDLE : w->zero_point;
}

/* Bytes of a chunk ahead of its weights: comp and, in mode AW, sb. */
static inline size_t lw_chunk_head(const lw_weights *w) {
    return w->mode == LW_C ? 0 : (size_t)w->isa->nr * 4 * (w->mode == LW_AW ? 2 : 1);
}

/* Bytes of a panel ahead of its chunks: comp in mode C. */
static inline size_t lw_panel_head(const lw_weights *w) {
    return w->mode == LW_C ? (size_t)w->isa->nr * 4 : 0;
}

/* Where comp of a chunk lies in its panel. */
static inline size_t lw_comp_at(const lw_weights *w, const lw_chunk *chunk) {
    return w->mode == LW_C ? 0 : (size_t)chunk->b_off;
}

/* Mode AW, one matrix (oc, ic), windows of both kinds alike: output channels [first, first + rows)
 * of `data`, which lies as w->data does, become what lw_weights_create makes of q - 128. first
 * begins a panel; bytes that hold no weight stay. q : u8 rows, ldq bytes apart; scale : likewise.
 */
void lw_weights_pack_rows(const lw_weights *w, int64_t first, int64_t rows, const uint8_t *q,
                          int64_t ldq, const float *scale, int64_t lds, uint8_t *data);

/* Between the scratch of workers: the prefetcher of one would fetch what another writes. */
enum { LW_PAGE_FLOATS = 1024 };

void *lw_alloc(size_t bytes); /* zeroed, LW_ALIGN aligned, LW_SLACK bytes longer; free() it */

#endif

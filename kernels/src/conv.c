/* conv.c - the macro-kernel: blocks of pixels times blocks of output channels, whose float sums
 * stay in a small scratch until the one pass that finishes, stores and quantizes them. */
#include "depthwise_plan.h"
#include "rows.h"
#include "weights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    TILES = 4,            /* register tiles of pixels in a block */
    BLOCK_CHANNELS = 128, /* output channels of a block, at least, unless the layer has fewer */
    PIECE = 64, /* steps of four channels after which tiles of mode C fetch what comes next */
    RESIDENT_BYTES = 512 * 1024, /* of weights that stay in L2 beside activations */
    MAX_PIXELS = 256,
    GEMM_PIXELS = 256, /* pixels of a block when a foreign product does the work */
    PAGE_FLOATS = 1024,
    CBLAS_ROW_MAJOR = 101,
    CBLAS_NO_TRANS = 111,
    CBLAS_FIX_OFFSET = 173
};

/* Output channels [n0, n0 + n), made of panels [first, last). */
typedef struct block {
    int64_t n0, n, first, last;
} block;

/* A foreign product: the weights of one list of chunks as row-major (k, n) matrices. */
typedef struct product {
    int64_t n0, n, ldn; /* output channels; columns, padded */
    size_t b, comp, sb; /* offsets of the first chunk in the three arrays below */
} product;

struct lw_conv {
    lw_conv_args args;
    const lw_isa *isa;
    float *sb, *bias; /* (oc); sb is 1 in mode AW: fma(f, 1, bias) = f + bias */
    lw_win *win;      /* one per chunk or run of chunks */
    lw_list *lists;   /* into win */
    block *blocks;
    int64_t block_count, pixels, pixel_block, pixel_blocks;
    int64_t wide, high; /* of the bordered source */
    float *scratch;     /* per worker, `apart` floats apart: (pixel_block, ldc) */
    int64_t ldc, apart;
    int workers, dense; /* dense: our tiles do the work */
    lw_depthwise_plan *depthwise; /* or NULL; then it needs nothing of the rest */
    atomic_int failed;

    product *products;
    int8_t *gemm_b;
    int32_t *gemm_comp, *gemm_acc; /* acc: per worker (pixel_block, gemm_ld) */
    float *gemm_sb;
    uint8_t *gemm_a; /* per worker: (pixel_block, gemm_lda) */
    int64_t gemm_ld, gemm_lda;
};

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

/* ---- plan --------------------------------------------------------------------------------- */

/* Pixels from the base of an output pixel to one of its taps. */
static int64_t tap_pixels(const lw_conv *p, int64_t tap) {
    const lw_weights *w = p->args.weights;
    return tap / w->kw * p->args.dilation_h * p->wide + tap % w->kw * p->args.dilation_w;
}

/* In mode C chunks may be cut and joined. */
static int is_one_sum(const lw_conv *p) { return p->args.weights->mode == LW_C && !p->args.gemm; }

/* In mode C the taps of a kernel row that lie side by side in memory are one chunk. */
static int continues(const lw_conv *p, const lw_chunk *last, const lw_chunk *next) {
    const lw_weights *w = p->args.weights;
    return is_one_sum(p) && p->args.dilation_w == 1 &&
           next->tap / w->kw == last->tap / w->kw && next->len == w->ic &&
           round_up(w->ic, 4) == p->args.src->pixel_bytes;
}

/* The windows of list l go to p->win from `first` on; returns their end. */
static int64_t plan_list(lw_conv *p, int64_t l, int64_t first) {
    const lw_weights *w = p->args.weights;
    const lw_tensor *src = p->args.src;
    const lw_chunk *c = w->chunks + w->lists[l].first;
    int64_t at = first;
    int32_t piece = is_one_sum(p) ? PIECE : INT32_MAX, step = w->isa->nr * 4;
    for (int64_t i = 0; i < w->lists[l].count; i++, c++) {
        int64_t pixel = tap_pixels(p, c->tap);
        int32_t k4 = (c->len + 3) / 4;
        if (i && continues(p, c - 1, c) && p->win[at - 1].k4 + k4 <= piece) {
            p->win[at - 1].k4 += k4;
            continue;
        }
        for (int32_t k = 0; k < k4; k += piece)
            p->win[at++] = (lw_win){(int32_t)(pixel * src->pixel_bytes + c->c0 + 4 * k),
                                    (int32_t)(pixel * src->pixel_windows + c->win),
                                    (int32_t)min64(piece, k4 - k), c->b_off + k * step};
    }
    p->lists[l] = (lw_list){first, at - first};
    return at;
}

static lw_status plan_windows(lw_conv *p) {
    const lw_weights *w = p->args.weights;
    const lw_tensor *src = p->args.src;
    int64_t taps = w->kh * w->kw;
    int64_t count = w->chunk_count;
    if (is_one_sum(p)) count *= w->ic / (4 * PIECE) + 1;
    int64_t reach = (tap_pixels(p, taps - 1) + 1) * max64(src->pixel_bytes, src->pixel_windows * 4);
    if (reach > INT32_MAX) return LW_INVALID;
    p->win = lw_alloc((size_t)count * sizeof *p->win);
    p->lists = lw_alloc((size_t)w->list_count * sizeof *p->lists);
    if (!p->win || !p->lists) return LW_NOMEM;
    for (int64_t l = 0, at = 0; l < w->list_count; l++) at = plan_list(p, l, at);
    return LW_OK;
}

/* A block may end where windows of dst_q and of the residual end. */
static int is_block_end(const lw_conv *p, int64_t channels, int64_t end) {
    const lw_tensor *q = p->args.dst_q, *r = p->args.residual_q;
    if (end == p->args.weights->oc) return 1;
    return channels >= BLOCK_CHANNELS && (!q || end % q->window == 0) &&
           (!r || end % r->window == 0);
}

static lw_status plan_blocks(lw_conv *p) {
    const lw_weights *w = p->args.weights;
    p->blocks = lw_alloc((size_t)max64(w->panel_count, 1) * sizeof *p->blocks);
    if (!p->blocks) return LW_NOMEM;
    if (p->args.gemm) {
        p->blocks[p->block_count++] = (block){0, w->oc, 0, w->panel_count};
        return LW_OK;
    }
    block b = {0, 0, 0, 0};
    for (int64_t i = 0; i < w->panel_count; i++) {
        b.n += w->panels[i].n;
        b.last = i + 1;
        if (!is_block_end(p, b.n, b.n0 + b.n)) continue;
        p->blocks[p->block_count++] = b;
        b = (block){b.n0 + b.n, 0, i + 1, i + 1};
    }
    return LW_OK;
}

static int64_t choose_pixel_block(const lw_conv *p) {
    if (p->args.gemm) return GEMM_PIXELS;
    return TILES * p->isa->mr;
}

static lw_status plan_scratch(lw_conv *p) {
    int64_t widest = 0;
    for (int64_t i = 0; i < p->block_count; i++) {
        const block *b = p->blocks + i;
        int64_t end = b->n;
        if (b->last) /* tiles write whole panels */
            end += p->isa->nr - p->args.weights->panels[b->last - 1].n;
        widest = max64(widest, end);
    }
    p->pixels = p->args.src->n * p->args.oh * p->args.ow;
    p->pixel_block = min64(choose_pixel_block(p), p->pixels);
    p->pixel_blocks = (p->pixels - 1) / p->pixel_block + 1;
    p->ldc = round_up(widest, 16) + 16; /* vectors read too far */
    /* A page between workers: the prefetcher of one would fetch what another writes. */
    p->apart = round_up(p->pixel_block * p->ldc, PAGE_FLOATS) + PAGE_FLOATS;
    p->scratch = lw_alloc((size_t)(p->workers * p->apart) * sizeof *p->scratch);
    return p->scratch ? LW_OK : LW_NOMEM;
}

static lw_status plan_channels(lw_conv *p) {
    int64_t oc = p->args.weights->oc, padded = oc + p->isa->nr; /* tiles read whole panels */
    p->bias = lw_alloc((size_t)padded * sizeof *p->bias);
    p->sb = lw_alloc((size_t)padded * sizeof *p->sb);
    if (!p->bias || !p->sb) return LW_NOMEM;
    for (int64_t n = 0; n < oc; n++) {
        p->bias[n] = p->args.bias ? p->args.bias[n] + 0.0f : 0.0f; /* -0 becomes +0 */
        p->sb[n] = p->args.weights->sb ? p->args.weights->sb[n] : 1.0f;
    }
    return LW_OK;
}

/* ---- foreign product: plan ---------------------------------------------------------------- */

/* comp is made anew: that of the panel also serves an instruction that takes signed bytes. */
static void unpack_chunk(const lw_weights *w, const lw_panel *panel, const lw_chunk *chunk,
                         int64_t column, int64_t ldn, int8_t *b, int32_t *comp, float *sb) {
    int64_t nr = w->isa->nr;
    const uint8_t *at = w->data + panel->offset + chunk->b_off;
    const int8_t *q = (const int8_t *)at + lw_chunk_head(w);
    for (int64_t lane = 0; lane < panel->n; lane++) {
        if (sb) sb[column + lane] = ((const float *)(const void *)at)[nr + lane];
        for (int64_t k = 0; k < chunk->len; k++) {
            int8_t one = q[(k / 4 * nr + lane) * 4 + k % 4];
            b[k * ldn + column + lane] = one;
            comp[column + lane] -= w->zero_point * one;
        }
    }
}

static void size_products(lw_conv *p, size_t *b, size_t *columns) {
    const lw_weights *w = p->args.weights;
    for (int64_t i = 0; i < w->panel_count; i++) {
        product *f = p->products + w->panels[i].list;
        if (!f->n) f->n0 = w->panels[i].n0;
        f->n += w->panels[i].n;
    }
    *b = *columns = 0;
    for (int64_t l = 0; l < w->list_count; l++) {
        product *f = p->products + l;
        f->ldn = round_up(f->n, 16);
        f->b = *b;
        f->comp = f->sb = *columns;
        p->gemm_ld = max64(p->gemm_ld, f->ldn);
        for (int64_t i = 0, depth = 0; i < w->lists[l].count; i++) {
            int64_t len = w->chunks[w->lists[l].first + i].len;
            depth = w->mode == LW_C ? depth + len : len;
            p->gemm_lda = max64(p->gemm_lda, depth);
            *b += (size_t)(len * f->ldn);
            *columns += (size_t)f->ldn;
        }
    }
}

static lw_status plan_products(lw_conv *p) {
    const lw_weights *w = p->args.weights;
    size_t b, columns, rows = (size_t)(p->workers * p->pixel_block);
    p->products = lw_alloc((size_t)w->list_count * sizeof *p->products);
    if (!p->products) return LW_NOMEM;
    size_products(p, &b, &columns);
    p->gemm_b = lw_alloc(b);
    p->gemm_comp = lw_alloc(columns * sizeof *p->gemm_comp);
    p->gemm_acc = lw_alloc(rows * (size_t)p->gemm_ld * sizeof *p->gemm_acc);
    p->gemm_a = lw_alloc(rows * (size_t)p->gemm_lda);
    if (w->mode == LW_AW) p->gemm_sb = lw_alloc(columns * sizeof *p->gemm_sb);
    if (!p->gemm_b || !p->gemm_comp || !p->gemm_acc || !p->gemm_a ||
        (w->mode == LW_AW && !p->gemm_sb))
        return LW_NOMEM;
    for (int64_t i = 0; i < w->panel_count; i++) {
        const lw_panel *panel = w->panels + i;
        const product *f = p->products + panel->list;
        const lw_chunk *chunk = w->chunks + w->lists[panel->list].first;
        size_t b_at = f->b, column_at = f->comp;
        for (int64_t c = 0; c < w->lists[panel->list].count; c++, chunk++) {
            unpack_chunk(w, panel, chunk, panel->n0 - f->n0, f->ldn, p->gemm_b + b_at,
                         p->gemm_comp + column_at, p->gemm_sb ? p->gemm_sb + column_at : NULL);
            b_at += (size_t)(chunk->len * f->ldn);
            if (w->mode != LW_C) column_at += (size_t)f->ldn; /* there one for all chunks */
        }
    }
    return LW_OK;
}

/* ---- run ---------------------------------------------------------------------------------- */

/* The pixels of one block: where each begins in q and in scale. */
typedef struct pixel_set {
    int64_t first, count;
    const uint8_t *a[MAX_PIXELS + LW_MR_MAX]; /* of plain products: pixels that follow, too */
    const float *sa[MAX_PIXELS + LW_MR_MAX];
} pixel_set;

static position locate(const lw_conv *p, int64_t pixel) {
    int64_t row = pixel / p->args.ow;
    return (position){row / p->args.oh, row % p->args.oh, pixel % p->args.ow};
}

static position next_row(const lw_conv *p, position at) {
    return at.y + 1 < p->args.oh ? (position){at.n, at.y + 1, 0} : (position){at.n + 1, 0, 0};
}

static const float *scale_of(const lw_tensor *t, int64_t image, int64_t pixel) {
    static const float one = 1.0f;
    if (t->scale) return t->scale + pixel * t->pixel_windows;
    return t->image_scale ? t->image_scale + image : &one;
}

/* Whether tiles give what the caller asks for: then they need no scratch and no second pass. */
static int is_plain(const lw_conv *p) {
    const lw_conv_args *g = &p->args;
    return p->dense && g->dst && !g->dst_q && !g->residual && !g->residual_q &&
           g->activation == LW_NONE;
}

static void collect_pixels(const lw_conv *p, int64_t index, pixel_set *set) {
    const lw_tensor *src = p->args.src;
    int64_t step = src->scale ? p->args.stride_w * src->pixel_windows : 0;
    int64_t q_step = p->args.stride_w * src->pixel_bytes;
    set->first = index * p->pixel_block;
    set->count = min64(p->pixel_block, p->pixels - set->first);
    position at = locate(p, set->first);
    int64_t count = set->count + (is_plain(p) ? LW_MR_MAX : 0), seen = min64(count, p->pixels - set->first);
    for (int64_t i = 0; i < seen;) { /* one output row at a time */
        int64_t y = at.y * p->args.stride_h - p->args.pad_top + src->top;
        int64_t x = at.x * p->args.stride_w - p->args.pad_left + src->left;
        int64_t pixel = (at.n * p->high + y) * p->wide + x;
        int64_t end = min64(seen, i + p->args.ow - at.x);
        const uint8_t *q = src->q + pixel * src->pixel_bytes;
        const float *scale = scale_of(src, at.n, pixel);
        for (int64_t j = i; j < end; j++) set->a[j] = q + (j - i) * q_step;
        for (int64_t j = i; j < end; j++) set->sa[j] = scale + (j - i) * step;
        i = end;
        at = next_row(p, at);
    }
    for (int64_t i = seen; i < count; i++) set->a[i] = set->a[seen - 1];
}

/* Rows of one chunk, gathered to be lda apart. */
static void gather(const pixel_set *set, int64_t a_off, int64_t len, uint8_t *to, int64_t lda) {
    for (int64_t m = 0; m < set->count; m++) memcpy(to + m * lda, set->a[m] + a_off, (size_t)len);
}

static void sum_foreign(const lw_conv *p, const pixel_set *set, float *c, int worker) {
    const lw_weights *w = p->args.weights;
    uint8_t *a = p->gemm_a + worker * p->pixel_block * p->gemm_lda;
    int32_t *acc = p->gemm_acc + worker * p->pixel_block * p->gemm_ld, zero = 0;
    int whole = w->mode == LW_C;
    memset(c, 0, (size_t)(set->count * p->ldc) * sizeof *c);
    for (int64_t l = 0; l < w->list_count; l++) {
        const product *f = p->products + l;
        size_t b_at = f->b, column_at = f->comp;
        int64_t last = w->lists[l].count - 1;
        int depth = 0; /* of the product */
        for (int64_t i = 0; i <= last; i++) {
            const lw_win *win = p->win + w->lists[l].first + i;
            int len = w->chunks[w->lists[l].first + i].len;
            gather(set, win->a_off, len, a + depth, p->gemm_lda);
            depth += len;
            if (whole && i < last) continue; /* one product over all chunks */
            p->args.gemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, CBLAS_FIX_OFFSET,
                         (int)set->count, (int)f->n, depth, 1.0f, a, (int)p->gemm_lda, 0,
                         p->gemm_b + b_at, (int)f->ldn, 0, 0.0f, acc, (int)f->ldn, &zero);
            for (int64_t m = 0; m < set->count; m++)
                p->isa->accumulate(f->n, acc + m * f->ldn, p->gemm_comp + column_at,
                                   p->gemm_sb ? p->gemm_sb + column_at : NULL,
                                   set->sa[m][whole ? 0 : win->s_off], c + m * p->ldc + f->n0);
            b_at += (size_t)(depth * f->ldn);
            column_at += (size_t)f->ldn;
            depth = 0;
        }
    }
}

/* Pixels [m, m + count) of a set, at most LW_FINISH_ROWS. */
static void locate_pixels(const lw_conv *p, const pixel_set *set, int64_t m, int count, int64_t n0,
                          row_set *rows) {
    position at = locate(p, set->first + m);
    for (int i = 0, run; i < count; i += run) {
        run = (int)min64(count - i, p->args.ow - at.x);
        locate_rows(&p->args, at, n0, rows, i, run);
        at = next_row(p, at);
    }
}

/* The lines that finish will write come from memory while the tiles are summed up. */
static void prefetch_rows(const lw_conv_args *g, const row_set *rows, int64_t count, int64_t n) {
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; g->dst && j < n; j += 16) __builtin_prefetch(rows->dst[i] + j, 1);
        for (int64_t j = 0; g->dst_q && j < n; j += 64) __builtin_prefetch(rows->q[i] + j, 1);
    }
}

/* The kernel for n channels of the first of `left` pixels, and how many of them it takes at once. */
static lw_dot *choose_dot(const lw_isa *isa, lw_mode mode, int64_t n, int64_t left, int *tile) {
    if (n <= isa->vw && isa->narrow_rows && left >= isa->narrow_rows) {
        *tile = isa->narrow_rows;
        return isa->narrow[mode];
    }
    *tile = (int)min64(left, isa->mr);
    return isa->dot[mode][*tile - 1];
}

/* rows : of the pixels of the set, which are at most LW_FINISH_ROWS. */
static void sum_dense(const lw_conv *p, const block *b, const pixel_set *set, const row_set *rows,
                      float *c) {
    const lw_weights *w = p->args.weights;
    int plain = is_plain(p);
    float *scratch[LW_FINISH_ROWS];
    for (int64_t i = 0; i < set->count; i++) scratch[i] = c + i * p->ldc;
    if (!plain) prefetch_rows(&p->args, rows, set->count, b->n);
    for (int64_t i = b->first; i < b->last; i++) {
        const lw_panel *panel = w->panels + i;
        const lw_list *list = p->lists + panel->list;
        lw_out out = {.sb = p->sb + panel->n0,
                      .bias = p->bias + panel->n0,
                      .y = plain ? rows->dst : scratch,
                      .at = panel->n0 - b->n0,
                      .n = plain ? panel->n : p->isa->nr};
        for (int64_t m = 0; m < set->count; m += out.rows, out.y += out.rows) {
            int tile;
            lw_dot *dot = choose_dot(p->isa, w->mode, panel->n, set->count - m, &tile);
            out.rows = (int)((set->count - m) / tile * tile);
            out.ahead = plain ? (tile - 1) / (int)list->count + 1 : 0;
            dot((int)list->count, p->win + list->first, set->a + m, set->sa + m,
                w->data + panel->offset, &out);
        }
    }
}

/* rows : of the first LW_FINISH_ROWS pixels. */
static lw_status finish_block(const lw_conv *p, const block *b, const pixel_set *set, row_set *rows,
                              float *c) {
    const lw_conv_args *g = &p->args;
    lw_post post = post_of(g, rows, b->n0, b->n);
    if (!p->dense) post.sb = p->sb + b->n0, post.bias = p->bias + b->n0;
    lw_status status = LW_OK;
    for (int64_t m = 0; m < set->count; m += LW_FINISH_ROWS) {
        int count = (int)min64(LW_FINISH_ROWS, set->count - m);
        if (m) locate_pixels(p, set, m, count, b->n0, rows);
        if (p->isa->finish(&post, count, c + m * p->ldc, p->ldc)) status = LW_NONFINITE;
    }
    return status;
}

/* Tasks go through all pixels of one block of channels before the next, whose weights then stay in
 * L2; where all weights fit there, through all channels of one block of pixels. */
static void conv_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    int together = lw_weights_bytes(p->args.weights) <= RESIDENT_BYTES;
    int64_t at = together ? index % p->block_count : index / p->pixel_blocks;
    const block *b = p->blocks + at;
    float *c = p->scratch + worker * p->apart;
    pixel_set set;
    row_set rows;
    collect_pixels(p, together ? index / p->block_count : index % p->pixel_blocks, &set);
    locate_pixels(p, &set, 0, (int)min64(set.count, LW_FINISH_ROWS), b->n0, &rows);
    if (p->args.gemm)
        sum_foreign(p, &set, c, worker);
    else
        sum_dense(p, b, &set, &rows, c);
    if (is_plain(p)) return;
    if (finish_block(p, b, &set, &rows, c)) atomic_store(&p->failed, 1);
}

static void depthwise_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    if (lw_depthwise_run(p->depthwise, index, worker)) atomic_store(&p->failed, 1);
}

static void border_task(void *context, int64_t index, int worker) {
    (void)worker;
    lw_tensor_fill_border(((lw_conv *)context)->args.dst_q, index);
}

/* ---- public ------------------------------------------------------------------------------- */

lw_conv *lw_conv_create(const lw_conv_args *args, int threads, lw_status *status) {
    lw_conv *p = lw_alloc(sizeof *p);
    *status = LW_NOMEM;
    if (!p) return NULL;
    const lw_tensor *src = args->src;
    p->args = *args;
    p->isa = args->weights->isa;
    p->workers = threads;
    p->dense = !args->gemm;
    p->wide = src->w + src->left + src->right;
    p->high = src->h + src->top + src->bottom;
    if (args->weights->depthwise) {
        p->depthwise = lw_depthwise_create(&p->args, threads, status);
        if (p->depthwise) return p;
        lw_conv_destroy(p);
        return NULL;
    }
    *status = plan_windows(p);
    if (*status == LW_OK) *status = plan_blocks(p);
    if (*status == LW_OK) *status = plan_scratch(p);
    if (*status == LW_OK) *status = plan_channels(p);
    if (*status == LW_OK && args->gemm) *status = plan_products(p);
    if (*status == LW_OK) return p;
    lw_conv_destroy(p);
    return NULL;
}

lw_status lw_conv_run(lw_conv *p, lw_pool *pool) {
    const lw_tensor *q = p->args.dst_q;
    if (q && q->shared && q->top + q->left + q->bottom + q->right)
        lw_pool_run(pool, q->n, border_task, p);
    if (p->depthwise)
        lw_pool_run(pool, lw_depthwise_tasks(p->depthwise), depthwise_task, p);
    else
        lw_pool_run(pool, p->block_count * p->pixel_blocks, conv_task, p);
    return atomic_exchange(&p->failed, 0) ? LW_NONFINITE : LW_OK;
}

void lw_conv_destroy(lw_conv *p) {
    if (!p) return;
    lw_depthwise_destroy(p->depthwise);
    free(p->bias);
    free(p->sb);
    free(p->win);
    free(p->lists);
    free(p->blocks);
    free(p->scratch);
    free(p->products);
    free(p->gemm_b);
    free(p->gemm_comp);
    free(p->gemm_acc);
    free(p->gemm_sb);
    free(p->gemm_a);
    free(p);
}

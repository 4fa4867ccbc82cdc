/* conv.c - the macro-kernel: areas of pixels times blocks of output channels, whose float sums stay
 * in a small scratch until the one pass that finishes, stores and quantizes them. */
#include "conv_plan.h"
#include "int64.h"

#include <stdlib.h>

/* The windows of a list whose taps lie in the image, above or below which every scale is 0. */
static lw_list inner_windows(const lw_conv *p, const lw_list *list, int64_t y) {
    const lw_conv_args *g = &p->args;
    int64_t kh = g->weights->kh, top = y * g->stride_h - g->pad_top, step = g->dilation_h;
    if (!p->skips || (top >= 0 && top + (kh - 1) * step < g->src->h)) return *list;
    int64_t above = top < 0 ? (-top - 1) / step + 1 : 0, per_row = list->count / kh;
    int64_t end = g->src->h > top ? (g->src->h - top - 1) / step + 1 : 0;
    above = min64(above, kh), end = min64(end, kh);
    return (lw_list){list->first + above * per_row, max64(end - above, 0) * per_row};
}

/* To what lies so many lines and pixels on, or back. */
static void advance(lw_pixels *from, lw_out *out, int64_t lines, int64_t pixels) {
    from->a += lines * from->a_step.line + pixels * from->a_step.pixel;
    from->sa += lines * from->sa_step.line + pixels * from->sa_step.pixel;
    out->y += lines * out->step.line + pixels * out->step.pixel;
    if (out->adds != LW_ADD_RESIDUAL) return;
    out->residual += lines * out->residual_step.line + pixels * out->residual_step.pixel;
    out->residual_scale +=
        lines * out->residual_scale_step.line + pixels * out->residual_scale_step.pixel;
}

/* Pixels by one panel: of each line first the tiles that have a pixel more. */
static void sum_panel(const lw_conv *p, const lw_panel *panel, const lw_list *list, lw_pixels *from,
                      lw_out *out) {
    const lw_weights *w = p->args.weights;
    if (p->few) {
        p->few((int)list->count, p->win + list->first, from, w->data + panel->offset, out);
        return;
    }
    int count = from->count, windows = (int)list->count, passed = 0;
    int narrow = p->narrow[count].tile && panel->n <= p->isa->vw;
    lw_dot *const *dot = narrow ? p->isa->narrow[w->mode] : p->isa->dot[w->mode];
    const lw_tiles *cut = narrow ? p->narrow + count : p->wide + count;
    for (int tile = cut->tile + 1; tile >= cut->tile; tile--) {
        from->count = tile * (tile > cut->tile ? cut->large : cut->small);
        if (!from->count) continue;
        out->ahead = (p->plain || p->adds) && windows ? (tile - 1) / windows + 1 : 0;
        dot[tile - 1](windows, p->win + list->first, from, w->data + panel->offset, out);
        if (tile > cut->tile) advance(from, out, 0, passed = from->count);
    }
    if (passed) advance(from, out, 0, -passed);
    from->count = count;
}

/* Lines from `line` on whose windows are the same: their number. */
static int same_windows(const lw_conv *p, const lw_list *all, const area *a, int line,
                        lw_list *list) {
    int64_t y = a->first.at[AXIS_Y] + line;
    int count = 1;
    *list = inner_windows(p, all, y);
    for (; line + count < a->lines; count++) {
        lw_list next = inner_windows(p, all, y + count);
        if (next.first != list->first || next.count != list->count) break;
    }
    return count;
}

/* The lines of an area by one panel, of each the pixels that lie in a segment. */
static void sum_segment(const lw_conv *p, const lw_panel *panel, const lw_segment *s, const area *a,
                        lw_pixels *from, lw_out *out) {
    int64_t x = a->first.at[p->pixel_axis], skipped = max64(s->first - x, 0);
    int64_t count = min64(s->end - x, a->count) - skipped;
    if (count <= 0) return;
    lw_list list;
    int line = 0;
    if (skipped) advance(from, out, 0, skipped);
    from->count = (int)count;
    for (;;) {
        from->lines = same_windows(p, s->lists + panel->list, a, line, &list);
        sum_panel(p, panel, &list, from, out);
        if (line + from->lines == a->lines) break;
        advance(from, out, from->lines, 0);
        line += from->lines;
    }
    if (line || skipped) advance(from, out, -line, -skipped);
}

/* Of the channels from n0 on. */
static void residual_at(const lw_post *post, int64_t n0, lw_out *out) {
    out->residual = post->residual_q + (n0 - post->first);
    out->residual_scale = post->residual_scale + (n0 >> post->residual_shift);
    out->residual_step = post->residual_q_step;
    out->residual_scale_step = post->residual_scale_step;
    out->residual_zero = post->residual_zero;
}

/* The sums of an area by a block, to the scratch c or, of a plain product, to where they belong.
 * adds : to what the scratch holds, and to a twin so many floats on. */
static void sum_dense(const lw_conv *p, const lw_block *b, const area *a, const lw_post *post,
                      float *c, lw_addend adds, ptrdiff_t twin, int worker) {
    const lw_weights *w = p->args.weights;
    lw_pixels from;
    lw_out out = {.adds = p->adds ? LW_ADD_RESIDUAL : adds, .twin = twin};
    lw_conv_pixels(p, a, worker, &from);
    out.step.line = p->plain ? post->dst_step.line : a->count * p->ldc;
    out.step.pixel = p->plain ? post->dst_step.pixel : p->ldc;
    for (const lw_panel *panel = w->panels + b->first; panel < w->panels + b->last; panel++) {
        out.sb = p->scaled ? p->sb + panel->n0 : NULL, out.bias = p->bias + panel->n0;
        out.n = p->plain ? panel->n : p->isa->nr;
        out.y = (p->plain ? post->dst : c) + panel->n0 - b->n0;
        if (p->adds) residual_at(post, panel->n0, &out);
        for (const lw_segment *s = p->segments; s < p->segments + p->segment_count; s++)
            sum_segment(p, panel, s, a, &from, &out);
    }
}

/* An area of any size, in pieces that finish takes. r : what is added, as c, or NULL. */
static lw_status finish_area(const lw_conv *p, const lw_block *b, const area *a, float *c,
                             const float *r) {
    lw_status status = LW_OK;
    lw_post post = p->post;
    if (p->args.weights->mode != LW_C) post.sb = p->sb + b->n0, post.bias = p->bias + b->n0;
    if (r) post.residual_step.pixel = p->ldc;
    for (int64_t line = 0; line < a->lines; line++)
        for (int64_t m = 0; m < a->count; m += LW_FINISH_ROWS) {
            area piece = *a;
            piece.first.at[a->line_axis] += line;
            piece.first.at[a->pixel_axis] += m;
            piece.lines = 1;
            piece.count = min64(LW_FINISH_ROWS, a->count - m);
            post_at(&post, &p->args, &piece, b->n0, b->n, b->window);
            if (r) post.residual = r + (line * a->count + m) * p->ldc;
            if (p->isa->finish(&post, c + (line * a->count + m) * p->ldc, (lw_step){0, p->ldc}))
                status = LW_NONFINITE;
        }
    return status;
}

void lw_conv_sum(const lw_conv *p, const lw_block *b, const area *a, float *c, int worker) {
    if (!p->foreign) {
        sum_dense(p, b, a, NULL, c, LW_ADD_NOTHING, 0, worker);
        return;
    }
    lw_foreign_sum(p, a, c, worker);
    if (p->args.weights->mode == LW_C) return;
    lw_post post = {.lines = 1, .activation = LW_NONE, .n = b->n, .sb = p->sb, .bias = p->bias};
    for (int64_t rest = a->lines * a->count; rest > 0; rest -= post.count) {
        post.count = (int)min64(rest, LW_FINISH_ROWS);
        post.dst = c;
        post.dst_step.pixel = p->ldc;
        p->isa->finish(&post, c, post.dst_step);
        c += post.count * p->ldc;
    }
}

void lw_conv_add(const lw_conv *p, const lw_block *b, const area *a, float *c, ptrdiff_t twin,
                 int worker) {
    sum_dense(p, b, a, NULL, c, twin ? LW_ADD_TWIN : LW_ADD_Y, twin, worker);
}

/* So many pixels of a line by one panel, and on to those behind them. */
static void row_pixels(const lw_conv *p, const lw_panel *panel, const lw_list *list, int64_t count,
                       lw_pixels *from, lw_row_out *out) {
    const lw_weights *w = p->args.weights;
    int narrow = p->narrow[count].tile && panel->n <= p->isa->vw;
    lw_dot_row *const *dot = narrow ? p->isa->narrow_row[w->mode] : p->isa->dot_row[w->mode];
    const lw_tiles *cut = narrow ? p->narrow + count : p->wide + count;
    for (int tile = cut->tile + 1; tile >= cut->tile; tile--) {
        from->count = tile * (tile > cut->tile ? cut->large : cut->small);
        if (!from->count) continue;
        dot[tile - 1]((int)list->count, p->win + list->first, from, w->data + panel->offset, out);
        from->a += from->count * from->a_step.pixel, from->sa += from->count * from->sa_step.pixel;
        if (out->pair) out->pair += (out->upper + from->count) / 2 * out->step;
        if (out->y) out->y += from->count * out->step;
        out->upper = (out->upper + from->count) % 2;
    }
}

void lw_conv_row(const lw_conv *p, const lw_panel *panel, const area *a, int64_t line,
                 lw_pixels *from, lw_row_out *out) {
    int64_t y = a->first.at[AXIS_Y] + line, x = a->first.at[AXIS_X], end = x + a->count;
    out->sb = p->sb + panel->n0, out->bias = p->bias + panel->n0;
    for (const lw_segment *s = p->segments; s < p->segments + p->segment_count && x < end; s++) {
        int64_t count = min64(s->end, end) - x;
        if (count <= 0) continue;
        lw_list list = inner_windows(p, s->lists + panel->list, y);
        row_pixels(p, panel, &list, count, from, out);
        x += count;
    }
}

static lw_status run_block(const lw_conv *p, const lw_block *b, const area *a, int worker) {
    const lw_conv *s = p->shortcut;
    float *c = p->scratch + worker * p->apart;
    if (p->foreign) {
        float *r = s ? s->scratch + worker * s->apart : NULL;
        if (s) lw_conv_sum(s, b, a, r, worker);
        lw_foreign_sum(p, a, c, worker);
        return finish_area(p, b, a, c, r);
    }
    lw_post post = p->post;
    post_at(&post, &p->args, a, b->n0, b->n, b->window);
    if (s) lw_conv_sum(s, b, a, c, worker);
    sum_dense(p, b, a, &post, c, s ? LW_ADD_Y : LW_ADD_NOTHING, 0, worker);
    if (p->adds) post.residual_q = NULL;
    return p->plain ? LW_OK : p->isa->finish(&post, c, (lw_step){a->count * p->ldc, p->ldc});
}

/* Tasks go through a group of areas for one block of channels before the next, whose weights then
 * stay in L2 and the pixels in L3; where all weights fit L2, through all blocks for one area. */
static void conv_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    uint32_t blocks = (uint32_t)p->block_count, size = (uint32_t)p->group, i = (uint32_t)index;
    uint32_t first = i / (size * blocks) * size, count = (uint32_t)min64(size, p->areas - first);
    uint32_t rest = i - first * blocks, block = rest / count;
    area a;
    lw_conv_area(p, first + rest - block * count, &a);
    if (run_block(p, p->blocks + block, &a, worker)) atomic_store(&p->failed, 1);
}

static void depthwise_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    if (lw_depthwise_run(p->depthwise, index, worker)) atomic_store(&p->failed, 1);
}

static void first_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    if (lw_first_run(p->first, index, worker)) atomic_store(&p->failed, 1);
}

static void pooled_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    if (lw_pooled_run(p->pooled, index, worker)) atomic_store(&p->failed, 1);
}

static void winograd_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    if (lw_winograd_run(p->winograd, index, worker)) atomic_store(&p->failed, 1);
}

static void border_task(void *context, int64_t index, int worker) {
    (void)worker;
    lw_tensor_fill_border(((lw_conv *)context)->args.dst_q, index);
}

static void fused_task(void *context, int64_t index, int worker) {
    lw_conv *p = context;
    if (lw_fused_run(p->depthwise, index, worker)) atomic_store(&p->failed, 1);
}

/* ---- public ------------------------------------------------------------------------------- */

static lw_conv *conv_of(const lw_conv_args *args, int threads) {
    lw_conv *p = lw_alloc(sizeof *p);
    if (!p) return NULL;
    p->args = *args;
    p->isa = args->weights->isa;
    p->workers = threads;
    p->block_channels = LW_BLOCK_CHANNELS;
    return p;
}

lw_conv *lw_conv_create_rows(const lw_conv_args *args, int64_t block_channels, int whole,
                             int workers, lw_status *status) {
    lw_conv *p = conv_of(args, workers);
    *status = LW_NOMEM;
    if (!p) return NULL;
    p->block_channels = block_channels;
    p->rows = whole > 0 ? 2 : 1;
    p->held = whole;
    *status = lw_conv_plan(p);
    if (*status == LW_OK) return p;
    lw_conv_destroy(p);
    return NULL;
}

static int has_border(const lw_tensor *t) {
    return t && t->top + t->left + t->bottom + t->right > 0;
}

static int follows(const float *y, const int64_t stride[3], int64_t wide) {
    return !y || stride[AXIS_Y] == wide * stride[AXIS_X];
}

static const lw_tensor *as_line(const lw_tensor *t, lw_tensor *line) {
    if (!t) return NULL;
    *line = *t;
    line->w *= t->h, line->h = 1;
    return line;
}

/* Pixels of a 1x1 layer that follow each other without a border become one line, whose tiles are
 * all of them full. */
static void join_lines(lw_conv *p) {
    lw_conv_args *g = &p->args;
    const lw_weights *w = g->weights;
    if (w->kh * w->kw > 1 || g->stride_h * g->stride_w > 1 || g->shortcut) return;
    if (has_border(g->src) || has_border(g->dst_q) || has_border(g->residual_q)) return;
    if (!follows(g->dst, g->dst_stride, g->ow)) return;
    if (!follows(g->residual, g->residual_stride, g->ow)) return;
    g->src = as_line(g->src, p->line);
    g->dst_q = as_line(g->dst_q, p->line + 1);
    g->residual_q = as_line(g->residual_q, p->line + 2);
    g->ow *= g->oh, g->oh = 1;
}

static int is_dense(const lw_conv_args *g) {
    return g->weights->groups == 1 && !g->weights->depthwise && g->weights->mode != LW_C;
}

/* Blocks and rows of scratch are those of p, since they depend on what both share; so are areas. */
static lw_status add_shortcut(lw_conv *p, int threads) {
    if (!p->args.shortcut) return LW_OK;
    p->shortcut = conv_of(p->args.shortcut, threads);
    if (!p->shortcut) return LW_NOMEM;
    p->args.shortcut = &p->shortcut->args;
    p->shortcut->args.dst_q = p->args.dst_q; /* blocks end with its windows */
    return lw_conv_plan(p->shortcut);
}

/* Whether conv.c can add the sums of the shortcut. */
static int is_addable(const lw_conv_args *g) {
    const lw_conv_args *s = g->shortcut;
    return is_dense(g) && is_dense(s) && !g->producer && !g->residual && !g->residual_q;
}

/* Whether fused.c can take the layers. */
static int is_fusable(const lw_conv_args *g) {
    const lw_conv_args *first = g->producer;
    return g->weights->depthwise && g->dilation_h == 1 && g->dilation_w == 1 && g->stride_h <= 2 &&
           g->stride_w <= 2 && first->weights->groups == 1 && first->ow > 1 && !first->dst &&
           !first->dst_q && !first->residual && !first->residual_q;
}

lw_conv *lw_conv_create(const lw_conv_args *args, int threads, lw_status *status) {
    *status = LW_INVALID;
    if (args->producer && !is_fusable(args)) return NULL;
    if (args->shortcut && !is_addable(args)) return NULL;
    if (args->weights->winograd ? !lw_winograd_takes(args)
                                : args->max_pool && !lw_pooled_takes(args))
        return NULL;
    lw_conv *p = conv_of(args, threads);
    *status = LW_NOMEM;
    if (!p) return NULL;
    if (args->producer) {
        p->producer = *args->producer;
        p->args.producer = &p->producer;
    }
    if (args->max_pool) {
        p->max_pool = *args->max_pool;
        p->args.max_pool = &p->max_pool;
    }
    if (args->weights->winograd)
        p->winograd = lw_winograd_create(&p->args, threads, status);
    else if (args->max_pool)
        p->pooled = lw_pooled_create(&p->args, threads, status);
    else if (args->weights->depthwise)
        p->depthwise = lw_depthwise_create(&p->args, threads, status);
    else if (lw_first_takes(&p->args))
        p->first = lw_first_create(&p->args, threads, status);
    else {
        join_lines(p);
        *status = lw_conv_plan(p);
    }
    if (*status == LW_OK) *status = add_shortcut(p, threads);
    if (*status == LW_OK) return p;
    lw_conv_destroy(p);
    return NULL;
}

lw_status lw_conv_run(lw_conv *p, lw_pool *pool) {
    const lw_tensor *q = p->args.dst_q;
    if (q && q->shared && has_border(q)) lw_pool_run(pool, q->n, border_task, p);
    if (p->winograd)
        lw_pool_run(pool, lw_winograd_tasks(p->winograd), winograd_task, p);
    else if (p->pooled)
        lw_pool_run(pool, lw_pooled_tasks(p->pooled), pooled_task, p);
    else if (p->args.producer)
        lw_pool_run(pool, lw_fused_tasks(p->depthwise), fused_task, p);
    else if (p->depthwise)
        lw_pool_run(pool, lw_depthwise_tasks(p->depthwise), depthwise_task, p);
    else if (p->first)
        lw_pool_run(pool, lw_first_tasks(p->first), first_task, p);
    else
        lw_pool_run(pool, p->block_count * p->areas, conv_task, p);
    return atomic_exchange(&p->failed, 0) ? LW_NONFINITE : LW_OK;
}

void lw_conv_destroy(lw_conv *p) {
    if (!p) return;
    lw_depthwise_destroy(p->depthwise);
    lw_first_destroy(p->first);
    lw_pooled_destroy(p->pooled);
    lw_winograd_destroy(p->winograd);
    lw_conv_destroy(p->shortcut);
    lw_conv_forget(p);
    free(p);
}

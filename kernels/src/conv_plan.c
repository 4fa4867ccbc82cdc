/* conv_plan.c - what a convolution or product will do: lists of windows, blocks of channels, areas
 * of pixels, and the memory of each worker. */
#include "conv_plan.h"
#include "int64.h"

#include <stdlib.h>

enum {
    TILES = 8,         /* register tiles of pixels in an area, which take turns at each panel */
    FEWER_TILES = 4,   /* where workers share areas, or sums of few products would fill L1 */
    FEW_CHANNELS = 64, /* that do not */
    DEEP = 256,        /* products of a sum that are not few */
    ROW_PIXELS = 112, /* where another layer takes the sums: a call costs more than it keeps near */
    PIECE = 64,       /* steps of four channels after which tiles of mode C fetch what comes next */
    FOREIGN_PIXELS = 256,  /* pixels of an area when a foreign product does the work */
    GROUP_BYTES = 4 << 20, /* of pixels that stay in L3 while blocks take turns at them */
    AREA_PIXELS = 2,       /* that would take the time of what an area takes beside its pixels */
    SEGMENT = 4            /* pixels for which it pays to leave out columns of the kernel */
};

/* ---- lines -------------------------------------------------------------------------------- */

/* Lines run along x; where there is one column only, along y; where there is one pixel, through the
 * images: a tile wants many pixels at one distance. */
static void plan_axes(lw_conv *p) {
    const lw_conv_args *g = &p->args;
    p->pixel_axis = g->ow > 1 ? AXIS_X : g->oh > 1 ? AXIS_Y : AXIS_N;
    p->line_axis = p->pixel_axis == AXIS_Y ? AXIS_N : AXIS_Y;
    p->other_axis = AXIS_N + AXIS_Y + AXIS_X - p->pixel_axis - p->line_axis;
    p->skips = p->pixel_axis == AXIS_X && g->src->scale && !g->gemm;
}

static int64_t extent(const lw_conv *p, int axis) {
    return axis == AXIS_X ? p->args.ow : axis == AXIS_Y ? p->args.oh : p->args.src->n;
}

/* The segment that pixel x would be alone. */
static lw_segment segment_at(const lw_conv *p, int64_t x) {
    const lw_conv_args *g = &p->args;
    int64_t first = x * g->stride_w - g->pad_left, left = 0, right = g->weights->kw;
    while (left < right && first + left * g->dilation_w < 0) left++;
    while (left < right && first + (right - 1) * g->dilation_w >= g->src->w) right--;
    return (lw_segment){x, x + 1, left, right, NULL};
}

/* A segment begins where columns of the kernel come into the image or leave it, unless one of few
 * pixels would be left. */
static lw_status plan_segments(lw_conv *p) {
    int64_t wide = extent(p, p->pixel_axis);
    /* What takes sums, and kernels for few channels, take whole lines. */
    int cuts = p->skips && !p->rows && p->args.weights->oc > p->isa->vw;
    p->segments = lw_alloc((size_t)(wide / SEGMENT + 1) * sizeof *p->segments);
    if (!p->segments) return LW_NOMEM;
    lw_segment *s = p->segments, last = {0, wide, 0, p->args.weights->kw, NULL};
    *s = cuts ? last = segment_at(p, 0) : last;
    for (int64_t x = 1; cuts && x < wide; x++) {
        lw_segment next = segment_at(p, x);
        int same = next.left == last.left && next.right == last.right;
        if (same || x - s->first < SEGMENT || wide - x < SEGMENT)
            s->end = x + 1, s->left = min64(s->left, next.left),
            s->right = max64(s->right, next.right);
        else
            *++s = next;
        last = next;
    }
    p->segment_count = s - p->segments + 1;
    return LW_OK;
}

/* ---- windows ------------------------------------------------------------------------------ */

/* Pixels from the base of an output pixel to one of its taps. */
static int64_t tap_pixels(const lw_conv *p, int64_t tap) {
    const lw_weights *w = p->args.weights;
    return tap / w->kw * p->args.dilation_h * pixel_step(p->args.src, AXIS_Y) +
           tap % w->kw * p->args.dilation_w;
}

/* In mode C chunks may be cut and joined. */
static int is_one_sum(const lw_conv *p) { return p->args.weights->mode == LW_C && !p->args.gemm; }

/* In mode C the taps of a kernel row that lie side by side in memory are one chunk. */
static int continues(const lw_conv *p, const lw_chunk *last, const lw_chunk *next) {
    const lw_weights *w = p->args.weights;
    return is_one_sum(p) && p->args.dilation_w == 1 && next->tap / w->kw == last->tap / w->kw &&
           next->len == w->ic && round_up(w->ic, 4) == p->args.src->pixel_bytes;
}

/* The windows of list l that a segment has go to p->win from `first` on; returns their list. */
static lw_list plan_list(lw_conv *p, int64_t l, const lw_segment *s, int64_t first) {
    const lw_weights *w = p->args.weights;
    const lw_tensor *src = p->args.src;
    const lw_chunk *c = w->chunks + w->lists[l].first;
    int64_t at = first;
    int32_t piece = is_one_sum(p) ? PIECE : INT32_MAX, step = w->isa->nr * 4;
    for (int64_t i = 0; i < w->lists[l].count; i++, c++) {
        if (c->tap % w->kw < s->left || c->tap % w->kw >= s->right) continue;
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
    return (lw_list){first, at - first};
}

static lw_status plan_windows(lw_conv *p) {
    const lw_weights *w = p->args.weights;
    const lw_tensor *src = p->args.src;
    int64_t taps = w->kh * w->kw;
    int64_t count = w->chunk_count;
    if (is_one_sum(p)) count *= (w->patches ? taps : 1) * w->ic / (4 * PIECE) + 1;
    int64_t reach = (tap_pixels(p, taps - 1) + 1) * max64(src->pixel_bytes, src->pixel_windows * 4);
    if (reach > INT32_MAX) return LW_INVALID;
    p->win = lw_alloc((size_t)(p->segment_count * count) * sizeof *p->win);
    p->lists = lw_alloc((size_t)(p->segment_count * w->list_count) * sizeof *p->lists);
    if (!p->win || !p->lists) return LW_NOMEM;
    lw_list *list = p->lists;
    int64_t at = 0;
    for (lw_segment *s = p->segments; s < p->segments + p->segment_count; s++) {
        s->lists = list;
        for (int64_t l = 0; l < w->list_count; l++, list++) {
            *list = plan_list(p, l, s, at);
            at += list->count;
        }
    }
    return LW_OK;
}

/* ---- blocks of channels -------------------------------------------------------------------- */

lw_block *lw_conv_blocks(const lw_conv_args *g, int64_t panels, int64_t least, int64_t *count) {
    const lw_tensor *q = g->dst_q, *r = g->residual_q;
    lw_block *blocks = lw_alloc((size_t)max64(panels, 1) * sizeof *blocks);
    lw_block b = {0, 0, 0, 0, 0};
    *count = 0;
    for (int64_t i = 0; blocks && i < panels; i++) {
        b.n += g->weights->panels[i].n, b.last = i + 1;
        int64_t end = b.n0 + b.n;
        int apart = b.n >= least && (!q || end % q->window == 0) && (!r || end % r->window == 0);
        if (!apart && i + 1 < panels) continue;
        blocks[(*count)++] = b;
        b = (lw_block){end, 0, i + 1, i + 1, q ? end / q->window : 0};
    }
    return blocks;
}

static lw_status plan_blocks(lw_conv *p) {
    const lw_weights *w = p->args.weights;
    p->blocks = lw_conv_blocks(&p->args, w->panel_count, p->block_channels, &p->block_count);
    if (!p->blocks) return LW_NOMEM;
    if (p->args.gemm) {
        p->blocks[0] = (lw_block){0, w->oc, 0, w->panel_count, 0};
        p->block_count = 1;
    }
    return LW_OK;
}

static lw_status plan_channels(lw_conv *p) {
    int64_t oc = p->args.weights->oc, padded = oc + p->isa->nr; /* tiles read whole panels */
    p->bias = lw_alloc((size_t)padded * sizeof *p->bias);
    p->sb = lw_alloc((size_t)padded * sizeof *p->sb);
    if (!p->bias || !p->sb) return LW_NOMEM;
    p->scaled = p->args.weights->mode != LW_AW;
    for (int64_t n = 0; n < oc; n++) {
        p->bias[n] = p->args.bias ? p->args.bias[n] + 0.0f : 0.0f; /* -0 becomes +0 */
        p->sb[n] = p->args.weights->sb ? p->args.weights->sb[n] : 1.0f;
    }
    return LW_OK;
}

/* ---- areas of pixels ---------------------------------------------------------------------- */

/* As equal as possible. */
static lw_tiles cut_line(int64_t count, int mr) {
    int64_t tiles = ceil_div(count, mr), tile = count / tiles, large = count % tiles;
    return (lw_tiles){(int)tile, (int)large, (int)(tiles - large)};
}

/* For lines of any area, those of another layer too whose shortcut this is. */
static lw_status plan_tiles(lw_conv *p) {
    int64_t most = max64(p->count, LW_FINISH_ROWS);
    size_t bytes = (size_t)(most + 1) * sizeof(lw_tiles);
    p->wide = lw_alloc(bytes), p->narrow = lw_alloc(bytes);
    if (!p->wide || !p->narrow) return LW_NOMEM;
    for (int64_t count = 1; count <= most; count++) {
        p->wide[count] = cut_line(count, p->isa->mr);
        if (!p->isa->narrow_mr) continue;
        lw_tiles cut = cut_line(count, p->isa->narrow_mr);
        if (p->isa->narrow[p->args.weights->mode][cut.tile - 1]) p->narrow[count] = cut;
    }
    return LW_OK;
}

/* Areas at which all blocks of channels take turns: as many as L3 holds beside other things. */
static int64_t group_areas(const lw_conv *p) {
    const lw_tensor *src = p->args.src;
    int64_t bytes = src->n * pixel_step(src, AXIS_N) * src->pixel_bytes;
    if (lw_weights_bytes(p->args.weights) <= LW_RESIDENT_BYTES) return 1;
    return max64(1, p->areas / max64(1, bytes / GROUP_BYTES));
}

/* Lines of an area, of so many at most, for which the last worker is done first. */
static int64_t even_lines(const lw_conv *p, int64_t most) {
    int64_t high = extent(p, p->line_axis), other = extent(p, p->other_axis);
    int64_t best = most, least = INT64_MAX;
    for (int64_t lines = most; lines > 0; lines--) {
        int64_t areas = ceil_div(high, lines) * p->area_strips * other;
        int64_t rounds = ceil_div(areas * p->block_count, p->workers);
        int64_t time = rounds * (lines * p->count + AREA_PIXELS);
        if (time < least) least = time, best = lines;
    }
    return best;
}

/* What sums up rows of few channels, which then lie side by side; or NULL. */
static lw_dot *few_of(const lw_conv *p) {
    int64_t oc = p->args.weights->oc, vw = p->isa->vw;
    if (p->plain || p->args.gemm || p->block_count > 1 || p->blocks->last > 1) return NULL;
    return 2 * oc == vw   ? p->isa->few[p->args.weights->mode][0]
           : 4 * oc == vw ? p->isa->few[p->args.weights->mode][1]
                          : NULL;
}

/* Whether the residual is windows that no panel crosses. */
static int is_added_by_tiles(const lw_conv *p) {
    const lw_tensor *r = p->args.residual_q;
    int64_t nr = p->isa->nr;
    return r && !p->args.gemm && !p->few && p->args.weights->groups == 1 && r->c % nr == 0 &&
           (r->window >= r->c || r->window % nr == 0);
}

/* A line that is little longer than an area stays whole. */
static void plan_areas(lw_conv *p) {
    const lw_weights *w = p->args.weights;
    int shallow = !p->plain && w->kh * w->kw * w->ic / w->groups < DEEP;
    int64_t tiles = w->oc > FEW_CHANNELS && (p->workers > 1 || shallow) ? FEWER_TILES : TILES;
    int few = p->isa->few_pixels && 2 * w->oc <= p->isa->vw;
    int64_t usual = p->args.gemm ? FOREIGN_PIXELS
                    : p->rows    ? ROW_PIXELS
                    : few        ? LW_FINISH_ROWS
                                 : min64(tiles * p->isa->mr, LW_FINISH_ROWS);
    int64_t most = p->args.gemm || few ? usual : usual + usual / 7;
    int64_t wide = extent(p, p->pixel_axis), high = extent(p, p->line_axis);
    p->count = wide <= most || p->rows == 2 ? wide : usual;
    int64_t lines = high * extent(p, p->other_axis) * p->block_count;
    if (p->workers > lines && !p->rows && !p->args.gemm) /* a line is shared */
        p->count = min64(p->count, round_up(ceil_div(wide * lines, p->workers), p->isa->mr));
    p->area_strips = ceil_div(wide, p->count);
    p->lines = min64(high, max64(1, usual / p->count));
    if (p->workers > 1 && !p->rows && !p->args.gemm) p->lines = even_lines(p, p->lines);
    p->area_lines = ceil_div(high, p->lines);
    int64_t rest = wide - (p->area_strips - 1) * p->count;
    if (p->isa->few_pixels && min64(p->count, rest) >= p->isa->few_pixels) p->few = few_of(p);
    p->adds = is_added_by_tiles(p);
    p->areas = p->area_strips * p->area_lines * extent(p, p->other_axis);
    p->group = group_areas(p);
}

void lw_conv_area(const lw_conv *p, int64_t index, area *a) {
    uint32_t i = (uint32_t)index, strips = (uint32_t)p->area_strips;
    uint32_t bands = i / strips, per_image = (uint32_t)p->area_lines; /* 64 bits divide slowly */
    uint32_t other = bands / per_image;
    int64_t line = (int64_t)(bands - other * per_image) * p->lines;
    int64_t pixel = (int64_t)(i - bands * strips) * p->count;
    a->line_axis = p->line_axis, a->pixel_axis = p->pixel_axis;
    a->first.at[p->other_axis] = other;
    a->first.at[p->line_axis] = line;
    a->first.at[p->pixel_axis] = pixel;
    a->lines = min64(p->lines, extent(p, p->line_axis) - line);
    a->count = min64(p->count, extent(p, p->pixel_axis) - pixel);
}

/* Source pixels from one output pixel to the next along an axis. */
static int64_t source_step(const lw_conv *p, int axis) {
    int64_t stride = axis == AXIS_X ? p->args.stride_w : axis == AXIS_Y ? p->args.stride_h : 1;
    return stride * pixel_step(p->args.src, axis);
}

static void gather_area(const lw_conv *p, int worker, lw_pixels *pixels) {
    lw_patches patches = p->patches;
    uint8_t *to = p->patch + worker * p->patch_bytes;
    int64_t line = pixels->count * patches.ld;
    patches.step = pixels->a_step.pixel;
    for (int i = 0; i < pixels->lines; i++)
        p->isa->gather(&patches, pixels->a + i * pixels->a_step.line, pixels->count, to + i * line);
    pixels->a = to;
    pixels->a_step.line = line, pixels->a_step.pixel = patches.ld;
}

void lw_conv_pixels(const lw_conv *p, const area *a, int worker, lw_pixels *pixels) {
    static const float one = 1.0f;
    const lw_conv_args *g = &p->args;
    const lw_tensor *src = g->src;
    int64_t n = a->first.at[AXIS_N], y = a->first.at[AXIS_Y], x = a->first.at[AXIS_X];
    int64_t line = source_step(p, a->line_axis), step = source_step(p, a->pixel_axis);
    int64_t pixel = pixel_at(src, n, y * g->stride_h - g->pad_top + src->top,
                             x * g->stride_w - g->pad_left + src->left);
    pixels->a = src->q + pixel * src->pixel_bytes;
    pixels->a_step.line = line * src->pixel_bytes, pixels->a_step.pixel = step * src->pixel_bytes;
    pixels->lines = (int)a->lines, pixels->count = (int)a->count;
    if (src->scale) {
        pixels->sa = src->scale + pixel * src->pixel_windows;
        pixels->sa_step.line = line * src->pixel_windows;
        pixels->sa_step.pixel = step * src->pixel_windows;
    } else {
        int each = src->image_scale != NULL;
        pixels->sa = each ? src->image_scale + n : &one;
        pixels->sa_step.line = each && a->line_axis == AXIS_N;
        pixels->sa_step.pixel = each && a->pixel_axis == AXIS_N;
    }
    if (p->patch) gather_area(p, worker, pixels);
}

/* ---- memory of the workers ---------------------------------------------------------------- */

static lw_status plan_scratch(lw_conv *p) {
    int64_t widest = 0;
    for (int64_t i = 0; i < p->block_count; i++) {
        const lw_block *b = p->blocks + i;
        int64_t end = b->n;
        if (b->last) /* tiles write whole panels */
            end += p->isa->nr - p->args.weights->panels[b->last - 1].n;
        widest = max64(widest, end);
    }
    p->ldc = p->few ? p->args.weights->oc : round_up(widest, 16) + 16; /* vectors read too far */
    if (p->held < 0) return LW_OK;
    int64_t lines = max64(p->lines, p->held);
    p->apart = round_up(lines * p->count * p->ldc, LW_PAGE_FLOATS) + LW_PAGE_FLOATS;
    p->scratch = lw_alloc((size_t)(p->workers * p->apart) * sizeof *p->scratch);
    return p->scratch ? LW_OK : LW_NOMEM;
}

static lw_status plan_patches(lw_conv *p) {
    if (!p->args.weights->patches) return LW_OK;
    p->patches = lw_patches_of(&p->args);
    p->patch_bytes = p->lines * p->count * p->patches.ld + LW_SLACK;
    p->patch = lw_alloc((size_t)(p->workers * p->patch_bytes));
    return p->patches.piece && p->patch ? LW_OK : LW_NOMEM;
}

/* ---- all ---------------------------------------------------------------------------------- */

lw_status lw_conv_plan(lw_conv *p) {
    const lw_conv_args *g = &p->args;
    plan_axes(p);
    lw_status status = plan_segments(p);
    if (status == LW_OK) status = plan_windows(p);
    if (status == LW_OK) status = plan_blocks(p);
    if (status == LW_OK) status = plan_channels(p);
    if (status != LW_OK) return status;
    p->plain = !g->gemm && g->dst && !g->dst_q && !g->residual && !g->residual_q && !g->shortcut &&
               g->activation == LW_NONE;
    plan_areas(p);
    p->post = post_along(g, p->line_axis, p->pixel_axis);
    if (p->areas > UINT32_MAX / p->block_count) return LW_INVALID;
    status = plan_tiles(p);
    if (status == LW_OK) status = plan_scratch(p);
    if (status == LW_OK) status = plan_patches(p);
    if (status != LW_OK || !p->args.gemm) return status;
    p->foreign = lw_foreign_create(p);
    return p->foreign ? LW_OK : LW_NOMEM;
}

void lw_conv_forget(lw_conv *p) {
    lw_foreign_destroy(p->foreign);
    free(p->bias);
    free(p->sb);
    free(p->win);
    free(p->lists);
    free(p->segments);
    free(p->wide);
    free(p->narrow);
    free(p->blocks);
    free(p->scratch);
    free((void *)p->patches.piece);
    free(p->patch);
}

/* pack.c - weights into the order in which the kernels read them. */
#include "int64.h"
#include "weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

/* Large arrays lie on huge pages where the system has some: what streams from memory is then not
 * cut by every 4 KB of address translation. */
void *lw_alloc(size_t bytes) {
    size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : LW_ALIGN;
    size_t padded = (bytes + LW_SLACK + align - 1) / align * align;
    void *p = padded < bytes ? NULL : aligned_alloc(align, padded);
#ifdef MADV_HUGEPAGE
    if (p && align == HUGE_PAGE) madvise(p, padded, MADV_HUGEPAGE); /* a wish: may fail */
#endif
    return p ? memset(p, 0, padded) : NULL;
}

/* What the packer reads: the caller's arrays and the shape. */
typedef struct source {
    const void *qw;
    const float *scale;
    int64_t icg, ocg, taps, merge; /* channels of one group; groups that share a panel */
} source;

/* Weight i, of a dense layer that part of it which a chunk holds. */
static int level_at(const lw_weights *w, const source *s, int64_t i, int part) {
    if (!w->fine) return ((const int8_t *)s->qw)[i];
    int q = ((const int16_t *)s->qw)[i], upper = (q + 8) >> 4;
    return w->depthwise ? q : part ? q - 16 * upper : upper;
}

/* Groups may share a panel when that adds no cut inside a weight window. */
static int64_t merged_groups(const lw_weights *w, const source *s) {
    if (w->groups == 1 || w->winograd || (w->mode == LW_AW && w->weight_window < s->icg)) return 1;
    int64_t count = w->isa->nr / s->ocg;
    return count < 1 ? 1 : min64(count, w->groups);
}

/* End of the chunk that starts at channel c of the group range [c0, c1): the next border of an
 * activation window, or of a weight window (which counts from c0). */
static int64_t chunk_end(const lw_weights *w, const source *s, int64_t c, int64_t c0, int64_t c1) {
    int64_t end = min64(c1, (c / w->window + 1) * w->window);
    if (w->mode == LW_AW && w->weight_window < s->icg)
        end = min64(end, c0 + ((c - c0) / w->weight_window + 1) * w->weight_window);
    return end;
}

/* Chunks of one list; counts only if out is NULL. Returns the count, or -1 if a chunk or K is too
 * long or a panel exceeds 2^31 bytes. */
static int64_t cut_list(const lw_weights *w, const source *s, int64_t c0, int64_t c1, lw_chunk *out,
                        size_t *panel_bytes) {
    int64_t count = 0;
    size_t offset = lw_panel_head(w), step = (size_t)w->isa->nr * 4;
    if (w->mode == LW_C && s->taps * s->icg > LW_MAX_DEPTH) return -1;
    for (int64_t tap = 0; tap < s->taps; tap++)
        for (int64_t c = c0, end; c < c1; c = end) {
            end = chunk_end(w, s, c, c0, c1);
            if (w->mode != LW_C && end - c > LW_MAX_CHUNK) return -1;
            for (int part = 0; part <= w->fine; part++, count++) {
                if (out)
                    out[count] = (lw_chunk){(int32_t)tap,       (int32_t)c,
                                            (int32_t)(end - c), (int32_t)(c / w->window),
                                            (int32_t)offset,    part};
                offset += lw_chunk_head(w) + (size_t)ceil_div(end - c, 4) * step;
                if (offset > INT32_MAX) return -1;
            }
        }
    *panel_bytes = offset;
    return count;
}

/* One output channel into lane `lane` of one chunk of its panel. */
static void pack_lane(const lw_weights *w, const source *s, const lw_chunk *chunk, int64_t n,
                      int64_t lane, uint8_t *panel) {
    uint8_t *at = panel + chunk->b_off;
    int64_t nr = w->isa->nr, group = n / s->ocg, g0 = group * s->icg;
    int64_t first = chunk->c0 > g0 ? chunk->c0 : g0;
    int64_t last = min64(chunk->c0 + chunk->len, g0 + s->icg);
    int64_t row = (n * s->taps + chunk->tap) * s->icg - g0;
    int8_t *q = (int8_t *)at + lw_chunk_head(w);
    int32_t sum = 0;
    for (int64_t c = first; c < last; c++) {
        int64_t k = c - chunk->c0;
        int level = level_at(w, s, row + c, chunk->part);
        q[(k / 4 * nr + lane) * 4 + k % 4] = (int8_t)level;
        sum += level;
    }
    ((int32_t *)(void *)(panel + lw_comp_at(w, chunk)))[lane] +=
        (w->isa->a_offset - lw_zero_point(w, chunk)) * sum;
    if (w->mode == LW_AW && first < last) {
        int64_t per_tap = ceil_div(s->icg, w->weight_window);
        int64_t i = (n * s->taps + chunk->tap) * per_tap + (first - g0) / w->weight_window;
        ((float *)(void *)at)[nr + lane] =
            w->fine ? s->scale[n] * (chunk->part ? 1.0f : 16.0f) : s->scale[i];
    }
}

/* ---- plan: everything but the numbers ---- */

static lw_status plan_dense(lw_weights *w, const source *s, size_t *bytes) {
    int64_t nr = w->isa->nr, lists = ceil_div(w->groups, s->merge), chunks = 0, panels = 0;
    size_t offset = 0, one = 0;
    for (int64_t l = 0; l < lists; l++) {
        int64_t g0 = l * s->merge, g1 = min64(g0 + s->merge, w->groups);
        int64_t count = cut_list(w, s, g0 * s->icg, g1 * s->icg, NULL, &one);
        if (count < 0) return LW_INVALID;
        chunks += count;
        panels += ceil_div((g1 - g0) * s->ocg, nr);
    }
    w->lists = lw_alloc((size_t)lists * sizeof *w->lists);
    w->chunks = lw_alloc((size_t)chunks * sizeof *w->chunks);
    w->panels = lw_alloc((size_t)panels * sizeof *w->panels);
    if (!w->lists || !w->chunks || !w->panels) return LW_NOMEM;
    w->list_count = lists;
    for (int64_t l = 0; l < lists; l++) {
        int64_t g0 = l * s->merge, g1 = min64(g0 + s->merge, w->groups);
        int64_t count = cut_list(w, s, g0 * s->icg, g1 * s->icg, w->chunks + w->chunk_count, &one);
        w->lists[l] = (lw_list){w->chunk_count, count};
        w->chunk_count += count;
        for (int64_t n0 = g0 * s->ocg; n0 < g1 * s->ocg; n0 += nr, offset += one)
            w->panels[w->panel_count++] = (lw_panel){n0, min64(nr, g1 * s->ocg - n0), l, offset};
    }
    *bytes = offset;
    return LW_OK;
}

/* m of lw.h. */
static int64_t depthwise_steps(int64_t taps) {
    int64_t steps = INT32_MAX / (LW_DEPTHWISE_LEVELS * 127 * taps);
    return min64(steps, 16);
}

static int has_channel_scales(const lw_weights *w) { return w->mode != LW_AW || w->depthwise; }

static size_t channel_bytes(const lw_weights *w) { /* of sb, to where the next part is aligned */
    return has_channel_scales(w) ? (size_t)ceil_div(w->oc, LW_ALIGN / 4) * LW_ALIGN : 0;
}

static lw_status plan_weights(lw_weights *w, const source *s) {
    size_t bytes = 0;
    lw_status status = LW_OK;
    if (w->depthwise) {
        w->ldw = w->oc;
        bytes = (size_t)(w->oc * s->taps) * sizeof *w->dw;
    } else {
        status = plan_dense(w, s, &bytes);
    }
    w->bytes = channel_bytes(w) + bytes + LW_SLACK;
    return status;
}

static void divide_blob(lw_weights *w, uint8_t *blob) {
    w->blob = blob;
    if (has_channel_scales(w)) w->sb = (float *)(void *)blob;
    blob += channel_bytes(w);
    if (w->depthwise)
        w->dw = (int16_t *)(void *)blob;
    else
        w->data = blob;
}

/* ---- pack: the numbers ---- */

static void pack_dense(lw_weights *w, const source *s) {
    for (const lw_panel *panel = w->panels; panel < w->panels + w->panel_count; panel++) {
        const lw_chunk *chunk = w->chunks + w->lists[panel->list].first;
        for (int64_t i = 0; i < w->lists[panel->list].count; i++, chunk++)
            for (int64_t lane = 0; lane < panel->n; lane++)
                pack_lane(w, s, chunk, panel->n0 + lane, lane, w->data + panel->offset);
    }
}

/* Mode AW: the scales of a channel's taps become factors of its weights; see lw.h. */
static void pack_taps(lw_weights *w, const source *s, int64_t c) {
    const float *scale = s->scale + c * s->taps, steps = (float)depthwise_steps(s->taps);
    float largest = 0.0f;
    for (int64_t t = 0; t < s->taps; t++) largest = scale[t] > largest ? scale[t] : largest;
    if (largest < 0x1p-112f) return; /* all zero: so that steps / largest is finite */
    w->sb[c] = largest / steps;
    for (int64_t t = 0; t < s->taps; t++)
        w->dw[t * w->ldw + c] = (int16_t)lrintf((float)level_at(w, s, c * s->taps + t, 0) *
                                                (scale[t] * (steps / largest)));
}

static void pack_depthwise(lw_weights *w, const source *s) {
    for (int64_t c = 0; c < w->oc; c++)
        if (w->mode == LW_AW)
            pack_taps(w, s, c);
        else
            for (int64_t t = 0; t < s->taps; t++)
                w->dw[t * w->ldw + c] = (int16_t)level_at(w, s, c * s->taps + t, 0);
}

/* Up to four bytes of levels; those that are missing are levels of 0. */
static uint32_t load_levels(const uint8_t *q, size_t bytes) {
    uint32_t levels = 0x80808080;
    memcpy(&levels, q, bytes);
    return levels;
}

/* Four levels into a lane. Returns their sum in two halves: 16 bits hold half of the sum of
 * LW_MAX_CHUNK bytes. */
static uint32_t place_levels(uint32_t levels, uint32_t *to) {
    *to = levels ^ 0x80808080;
    return (levels & 0x00ff00ff) + (levels >> 8 & 0x00ff00ff);
}

/* One row of levels into its lane of one chunk. */
static void pack_levels(const lw_weights *w, const lw_chunk *chunk, const uint8_t *q, float scale,
                        int64_t lane, uint8_t *panel) {
    int64_t nr = w->isa->nr, len = chunk->len;
    int32_t *head = (int32_t *)(void *)(panel + chunk->b_off);
    uint32_t *to = (uint32_t *)head + 2 * nr + lane, sums = 0;
    q += chunk->c0;
    for (int64_t k = 0; k + 4 <= len; k += 4, to += nr)
        sums += place_levels(load_levels(q + k, 4), to);
    if (len % 4) sums += place_levels(load_levels(q + len / 4 * 4, (size_t)(len % 4)), to);
    int32_t sum = (int32_t)((sums & 0xffff) + (sums >> 16) - 128 * 4 * ceil_div(len, 4));
    head[lane] = (w->isa->a_offset - w->zero_point) * sum;
    memcpy(head + nr + lane, &scale, sizeof scale);
}

void lw_weights_pack_rows(const lw_weights *w, int64_t first, int64_t rows, const uint8_t *q,
                          int64_t ldq, const float *scale, int64_t lds, uint8_t *data) {
    const lw_panel *panel = w->panels + first / w->isa->nr;
    for (int64_t n = first; n < first + rows; panel++)
        for (int64_t lane = 0; lane < panel->n; lane++, n++, q += ldq, scale += lds)
            for (const lw_chunk *c = w->chunks; c < w->chunks + w->chunk_count; c++)
                pack_levels(w, c, q, scale[c->win], lane, data + panel->offset);
}

/* Lines are transformed window by window. */
static int is_winograd(const lw_weights *w, const lw_weights_args *a) {
    int64_t step = w->window < a->ic ? 2 * LW_LINE_STEP : LW_LINE_STEP;
    return w->mode == LW_A && !a->fine && a->groups == 1 && a->kh == 3 && a->kw == 3 &&
           a->ic % w->window == 0 && w->window % step == 0 && w->window <= LW_LINE_WINDOW &&
           (!w->zero_point || w->zero_point == LW_MIDDLE);
}

static int is_valid(const lw_weights *w, const lw_weights_args *a, const source *s) {
    int skewed = w->zero_point && w->zero_point != LW_MIDDLE;
    if (a->fine && (!a->window || a->weight_window)) return 0;
    if (a->winograd && !is_winograd(w, a)) return 0;
    if (!w->depthwise) return 1;
    return !skewed && (!a->fine || s->taps <= INT32_MAX / LW_FINE_LEVELS / LW_DEPTHWISE_LEVELS);
}

lw_weights *lw_weights_create(const lw_isa *isa, const lw_weights_args *a, const void *blob,
                              size_t blob_bytes, lw_status *status) {
    lw_weights *w = lw_alloc(sizeof *w);
    *status = LW_NOMEM;
    if (!w) return NULL;
    w->isa = isa;
    w->oc = a->oc, w->kh = a->kh, w->kw = a->kw, w->ic = a->ic, w->groups = a->groups;
    w->window = a->window ? min64(a->window, a->ic) : a->ic, w->weight_window = a->weight_window;
    w->zero_point = a->zero_point;
    w->mode = !a->window ? LW_C : a->weight_window ? LW_AW : LW_A;
    w->winograd = a->winograd;
    if (w->winograd) /* one group for each transformed line, of kernels of one row */
        w->oc *= LW_LINES, w->ic *= LW_LINES, w->groups *= LW_LINES, w->kh = 1;
    source s = {.qw = a->qw,
                .scale = a->scale,
                .icg = w->ic / w->groups,
                .ocg = w->oc / w->groups,
                .taps = w->kh * w->kw};
    w->patches = w->mode == LW_C && a->groups == 1 && a->ic < 4 && s.taps > 1;
    if (w->patches) { /* as a product of all taps: qw has them in this order */
        s.icg *= s.taps, s.taps = 1;
        w->window = s.icg;
    }
    s.merge = merged_groups(w, &s);
    w->depthwise =
        a->groups > 1 && s.icg == 1 && s.ocg == 1 && w->mode != LW_C && s.taps <= LW_DEPTHWISE_TAPS;
    w->fine = a->fine;
    if (a->fine && !w->depthwise) w->mode = LW_AW, w->weight_window = s.icg;
    *status = is_valid(w, a, &s) ? plan_weights(w, &s) : LW_INVALID;
    if (*status == LW_OK && blob && blob_bytes != w->bytes) *status = LW_INVALID;
    if (*status == LW_OK) {
        w->borrowed = blob != NULL;
        divide_blob(w, blob ? (uint8_t *)blob : lw_alloc(w->bytes));
        if (!w->blob) *status = LW_NOMEM;
    }
    if (*status != LW_OK) {
        lw_weights_destroy(w);
        return NULL;
    }
    if (blob || !a->qw) return w;
    if (w->depthwise)
        pack_depthwise(w, &s);
    else
        pack_dense(w, &s);
    if (w->mode != LW_AW) memcpy(w->sb, a->scale, (size_t)w->oc * sizeof *w->sb);
    return w;
}

void lw_weights_destroy(lw_weights *w) {
    if (!w) return;
    free(w->lists);
    free(w->chunks);
    free(w->panels);
    if (!w->borrowed) free(w->blob);
    free(w);
}

const void *lw_weights_blob(const lw_weights *w) { return w->blob; }
size_t lw_weights_bytes(const lw_weights *w) { return w->bytes; }
int lw_weights_is_depthwise(const lw_weights *w) { return w->depthwise; }

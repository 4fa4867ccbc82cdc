/* pack.c - weights into the order in which the kernels read them. */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

void *lw_alloc(size_t bytes) {
    size_t padded = (bytes + LW_SLACK + LW_ALIGN - 1) / LW_ALIGN * LW_ALIGN;
    void *p = padded < bytes ? NULL : aligned_alloc(LW_ALIGN, padded);
    return p ? memset(p, 0, padded) : NULL;
}

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* What the packer reads: the caller's arrays and the shape. */
typedef struct source {
    const int8_t *qw;
    const float *scale;
    int64_t icg, ocg, taps, merge; /* channels of one group; groups that share a panel */
} source;

/* Groups may share a panel when that adds no cut inside a weight window. */
static int64_t merged_groups(const lw_weights *w, const source *s, int merge) {
    if (w->groups == 1 || (w->mode == LW_AW && w->weight_window < s->icg)) return 1;
    int64_t columns = merge ? merge : w->isa->nr;
    int64_t count = columns / s->ocg;
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
        for (int64_t c = c0, end; c < c1; c = end, count++) {
            end = chunk_end(w, s, c, c0, c1);
            if (w->mode != LW_C && end - c > LW_MAX_CHUNK) return -1;
            if (out)
                out[count] = (lw_chunk){(int32_t)tap, (int32_t)c, (int32_t)(end - c),
                                        (int32_t)(c / w->window), (int32_t)offset};
            offset += lw_chunk_head(w) + (size_t)ceil_div(end - c, 4) * step;
            if (offset > INT32_MAX) return -1;
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
    const int8_t *row = s->qw + (n * s->taps + chunk->tap) * s->icg;
    int8_t *q = (int8_t *)at + lw_chunk_head(w);
    int32_t sum = 0;
    for (int64_t c = first; c < last; c++) {
        int64_t k = c - chunk->c0;
        q[(k / 4 * nr + lane) * 4 + k % 4] = row[c - g0];
        sum += row[c - g0];
    }
    ((int32_t *)(void *)(panel + lw_comp_at(w, chunk)))[lane] +=
        (w->isa->a_offset - w->zero_point) * sum;
    if (w->mode == LW_AW && first < last) {
        int64_t per_tap = ceil_div(s->icg, w->weight_window);
        ((float *)(void *)at)[nr + lane] =
            s->scale[(n * s->taps + chunk->tap) * per_tap + (first - g0) / w->weight_window];
    }
}

static lw_status pack_dense(lw_weights *w, const source *s) {
    int64_t nr = w->isa->nr, lists = ceil_div(w->groups, s->merge), chunks = 0, panels = 0;
    size_t bytes = 0, one = 0;
    for (int64_t l = 0; l < lists; l++) {
        int64_t g0 = l * s->merge, g1 = min64(g0 + s->merge, w->groups);
        int64_t count = cut_list(w, s, g0 * s->icg, g1 * s->icg, NULL, &one);
        if (count < 0) return LW_INVALID;
        chunks += count;
        panels += ceil_div((g1 - g0) * s->ocg, nr);
        bytes += one * (size_t)ceil_div((g1 - g0) * s->ocg, nr);
    }
    w->lists = lw_alloc((size_t)lists * sizeof *w->lists);
    w->chunks = lw_alloc((size_t)chunks * sizeof *w->chunks);
    w->panels = lw_alloc((size_t)panels * sizeof *w->panels);
    w->data = lw_alloc(bytes);
    if (!w->lists || !w->chunks || !w->panels || !w->data) return LW_NOMEM;
    w->bytes = bytes;
    w->list_count = lists;

    size_t offset = 0;
    for (int64_t l = 0; l < lists; l++) {
        int64_t g0 = l * s->merge, g1 = min64(g0 + s->merge, w->groups);
        lw_chunk *list = w->chunks + w->chunk_count;
        int64_t count = cut_list(w, s, g0 * s->icg, g1 * s->icg, list, &one);
        w->lists[l] = (lw_list){w->chunk_count, count};
        w->chunk_count += count;
        for (int64_t n0 = g0 * s->ocg; n0 < g1 * s->ocg; n0 += nr, offset += one) {
            int64_t n = min64(nr, g1 * s->ocg - n0);
            w->panels[w->panel_count++] = (lw_panel){n0, n, l, offset};
            for (int64_t i = 0; i < count; i++)
                for (int64_t lane = 0; lane < n; lane++)
                    pack_lane(w, s, list + i, n0 + lane, lane, w->data + offset);
        }
    }
    return LW_OK;
}

static lw_status pack_depthwise(lw_weights *w, const source *s) {
    w->ldw = ceil_div(w->oc, 16) * 16 + 16; /* the kernel may read a vector too far */
    size_t row = (size_t)(w->ldw * s->taps) * 4;
    w->comp = lw_alloc(row);
    w->w = lw_alloc(row);
    if (w->mode == LW_AW) w->dw_sb = lw_alloc(row);
    if (!w->comp || !w->w || (w->mode == LW_AW && !w->dw_sb)) return LW_NOMEM;
    w->bytes = row * (w->mode == LW_AW ? 3 : 2);
    for (int64_t c = 0; c < w->oc; c++)
        for (int64_t t = 0; t < s->taps; t++) {
            w->w[t * w->ldw + c] = s->qw[c * s->taps + t];
            w->comp[t * w->ldw + c] = -w->zero_point * s->qw[c * s->taps + t];
            if (w->dw_sb) w->dw_sb[t * w->ldw + c] = s->scale[c * s->taps + t];
        }
    return LW_OK;
}

lw_weights *lw_weights_pack(const lw_isa *isa, const int8_t *qw, const float *scale, int64_t oc,
                            int64_t kh, int64_t kw, int64_t ic, int64_t groups, int64_t window,
                            int64_t weight_window, int zero_point, int merge, lw_status *status) {
    lw_weights *w = lw_alloc(sizeof *w);
    *status = LW_NOMEM;
    if (!w) return NULL;
    w->isa = isa;
    w->oc = oc, w->kh = kh, w->kw = kw, w->ic = ic, w->groups = groups;
    w->window = window ? min64(window, ic) : ic, w->weight_window = weight_window;
    w->zero_point = zero_point;
    w->mode = !window ? LW_C : weight_window ? LW_AW : LW_A;
    source s = {.qw = qw, .scale = scale, .icg = ic / groups, .ocg = oc / groups, .taps = kh * kw};
    s.merge = merged_groups(w, &s, merge);
    w->depthwise = s.icg == 1 && s.ocg == 1 && !merge && w->mode != LW_C;
    *status = w->depthwise ? pack_depthwise(w, &s) : pack_dense(w, &s);
    if (*status == LW_OK && w->mode != LW_AW) {
        w->sb = lw_alloc((size_t)oc * sizeof *w->sb);
        if (w->sb)
            memcpy(w->sb, scale, (size_t)oc * sizeof *w->sb);
        else
            *status = LW_NOMEM;
        w->bytes += (size_t)oc * sizeof *w->sb;
    }
    if (*status == LW_OK) return w;
    lw_weights_destroy(w);
    return NULL;
}

void lw_weights_destroy(lw_weights *w) {
    if (!w) return;
    free(w->lists);
    free(w->chunks);
    free(w->panels);
    free(w->data);
    free(w->sb);
    free(w->comp);
    free(w->w);
    free(w->dw_sb);
    free(w);
}

size_t lw_weights_bytes(const lw_weights *w) { return w->bytes; }
int lw_weights_is_depthwise(const lw_weights *w) { return w->depthwise; }

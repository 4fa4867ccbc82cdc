/* foreign.c - the integer products of a convolution by another library: rows of pixels are gathered
 * and multiplied by weights in row-major order; scales and sums are ours, in our order. */
#include "conv_plan.h"
#include "int64.h"

#include <stdlib.h>
#include <string.h>

enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANS = 111, CBLAS_FIX_OFFSET = 173 };

/* The weights of one list of chunks as row-major (k, n) matrices. */
typedef struct product {
    int64_t n0, n, ldn; /* output channels; columns, padded */
    size_t b, comp, sb; /* offsets of the first chunk in the arrays below */
} product;

struct lw_foreign {
    product *products;
    int8_t *b;
    int32_t *comp, *acc; /* acc: per worker (pixels, ld) */
    float *sb;
    uint8_t *a; /* per worker: (pixels, lda) */
    int64_t ld, lda, pixels;
};

/* ---- plan --------------------------------------------------------------------------------- */

/* comp is made anew: that of the panel also serves an instruction that takes signed bytes. */
static void unpack_chunk(const lw_weights *w, const lw_panel *panel, const lw_chunk *chunk,
                         int64_t column, int64_t ldn, int8_t *b, int32_t *comp, float *sb) {
    int64_t nr = w->isa->nr;
    int zero_point = lw_zero_point(w, chunk);
    const uint8_t *at = w->data + panel->offset + chunk->b_off;
    const int8_t *q = (const int8_t *)at + lw_chunk_head(w);
    for (int64_t lane = 0; lane < panel->n; lane++) {
        if (sb) sb[column + lane] = ((const float *)(const void *)at)[nr + lane];
        for (int64_t k = 0; k < chunk->len; k++) {
            int8_t one = q[(k / 4 * nr + lane) * 4 + k % 4];
            b[k * ldn + column + lane] = one;
            comp[column + lane] -= zero_point * one;
        }
    }
}

static void size_products(lw_foreign *f, const lw_weights *w, size_t *b, size_t *columns) {
    for (int64_t i = 0; i < w->panel_count; i++) {
        product *one = f->products + w->panels[i].list;
        if (!one->n) one->n0 = w->panels[i].n0;
        one->n += w->panels[i].n;
    }
    *b = *columns = 0;
    for (int64_t l = 0; l < w->list_count; l++) {
        product *one = f->products + l;
        one->ldn = round_up(one->n, 16);
        one->b = *b;
        one->comp = one->sb = *columns;
        f->ld = max64(f->ld, one->ldn);
        for (int64_t i = 0, depth = 0; i < w->lists[l].count; i++) {
            int64_t len = w->chunks[w->lists[l].first + i].len;
            depth = w->mode == LW_C ? depth + len : len;
            f->lda = max64(f->lda, depth);
            *b += (size_t)(len * one->ldn);
            *columns += (size_t)one->ldn;
        }
    }
}

static void unpack_panel(lw_foreign *f, const lw_weights *w, const lw_panel *panel) {
    const product *one = f->products + panel->list;
    const lw_chunk *chunk = w->chunks + w->lists[panel->list].first;
    size_t b_at = one->b, column_at = one->comp;
    for (int64_t c = 0; c < w->lists[panel->list].count; c++, chunk++) {
        unpack_chunk(w, panel, chunk, panel->n0 - one->n0, one->ldn, f->b + b_at,
                     f->comp + column_at, f->sb ? f->sb + column_at : NULL);
        b_at += (size_t)(chunk->len * one->ldn);
        if (w->mode != LW_C) column_at += (size_t)one->ldn; /* there one for all chunks */
    }
}

lw_foreign *lw_foreign_create(const lw_conv *p) {
    const lw_weights *w = p->args.weights;
    lw_foreign *f = lw_alloc(sizeof *f);
    if (!f) return NULL;
    f->pixels = p->lines * p->count;
    f->products = lw_alloc((size_t)w->list_count * sizeof *f->products);
    if (f->products) {
        size_t b, columns, rows = (size_t)(p->workers * f->pixels);
        size_products(f, w, &b, &columns);
        f->b = lw_alloc(b);
        f->comp = lw_alloc(columns * sizeof *f->comp);
        f->acc = lw_alloc(rows * (size_t)f->ld * sizeof *f->acc);
        f->a = lw_alloc(rows * (size_t)f->lda);
        if (w->mode == LW_AW) f->sb = lw_alloc(columns * sizeof *f->sb);
    }
    if (!f->products || !f->b || !f->comp || !f->acc || !f->a || (w->mode == LW_AW && !f->sb)) {
        lw_foreign_destroy(f);
        return NULL;
    }
    for (int64_t i = 0; i < w->panel_count; i++) unpack_panel(f, w, w->panels + i);
    return f;
}

void lw_foreign_destroy(lw_foreign *f) {
    if (!f) return;
    free(f->products);
    free(f->b);
    free(f->comp);
    free(f->acc);
    free(f->sb);
    free(f->a);
    free(f);
}

/* ---- run ---------------------------------------------------------------------------------- */

/* `len` bytes of every pixel, a_off from its base, gathered to be lda apart. */
static void gather(const lw_pixels *from, int64_t a_off, int64_t len, uint8_t *to, int64_t lda) {
    for (int64_t line = 0; line < from->lines; line++) {
        const uint8_t *a = from->a + line * from->a_step.line + a_off;
        for (int64_t i = 0; i < from->count; i++, to += lda, a += from->a_step.pixel)
            memcpy(to, a, (size_t)len);
    }
}

/* c += the scaled sums of one product; in mode C, c = y. */
static void accumulate(const lw_conv *p, const lw_pixels *from, const product *one,
                       const int32_t *acc, size_t column_at, int64_t s_off, float *c) {
    const lw_foreign *f = p->foreign;
    int whole = p->args.weights->mode == LW_C;
    const float *sb = whole ? p->sb + one->n0 : f->sb ? f->sb + column_at : NULL;
    const float *bias = whole ? p->bias + one->n0 : NULL;
    for (int64_t line = 0; line < from->lines; line++) {
        const float *sa = from->sa + line * from->sa_step.line + s_off;
        for (int64_t i = 0; i < from->count; i++, acc += one->ldn, c += p->ldc)
            p->isa->accumulate(one->n, acc, f->comp + column_at, sb, sa[i * from->sa_step.pixel],
                               bias, c + one->n0);
    }
}

void lw_foreign_sum(const lw_conv *p, const area *area, float *c, int worker) {
    const lw_weights *w = p->args.weights;
    const lw_foreign *f = p->foreign;
    lw_pixels from;
    lw_conv_pixels(p, area, worker, &from);
    int count = from.lines * from.count, whole = w->mode == LW_C;
    uint8_t *a = f->a + worker * f->pixels * f->lda;
    int32_t *acc = f->acc + worker * f->pixels * f->ld, zero = 0;
    memset(c, 0, (size_t)(count * p->ldc) * sizeof *c);
    for (int64_t l = 0; l < w->list_count; l++) {
        const product *one = f->products + l;
        size_t b_at = one->b, column_at = one->comp;
        int64_t last = w->lists[l].count - 1;
        int depth = 0; /* of the product */
        for (int64_t i = 0; i <= last; i++) {
            const lw_win *win = p->win + w->lists[l].first + i;
            int len = w->chunks[w->lists[l].first + i].len;
            gather(&from, win->a_off, len, a + depth, f->lda);
            depth += len;
            if (whole && i < last) continue; /* one product over all chunks */
            p->args.gemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_NO_TRANS, CBLAS_FIX_OFFSET, count,
                         (int)one->n, depth, 1.0f, a, (int)f->lda, 0, f->b + b_at, (int)one->ldn, 0,
                         0.0f, acc, (int)one->ldn, &zero);
            accumulate(p, &from, one, acc, column_at, whole ? 0 : win->s_off, c);
            b_at += (size_t)(depth * one->ldn);
            column_at += (size_t)one->ldn;
            depth = 0;
        }
    }
}

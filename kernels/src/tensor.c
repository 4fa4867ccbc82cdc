/* tensor.c - quantization of float arrays, borders, and changes of layout. */
#include "int64.h"
#include "isa.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { ROWS_PER_TASK = 32, TILE = 16 };

/* ---- borders ---- */

static void fill_pixels(const lw_tensor *t, int64_t pixel, int64_t count) {
    if (!t->scale) { /* mode C */
        int64_t bytes = count * t->pixel_bytes, period = min64(t->pixel_bytes, sizeof t->border);
        uint8_t *q = t->q + pixel * t->pixel_bytes;
        for (int64_t i = 0; i < bytes; i += period)
            for (int64_t j = 0; j < period; j++) q[i + j] = t->border[j];
        return;
    }
    if (t->windows == t->pixel_windows) { /* all channels: pixels are adjacent */
        memset(t->q + pixel * t->pixel_bytes, t->zero_point, (size_t)(count * t->pixel_bytes));
        memset(t->scale + pixel * t->windows, 0, (size_t)(count * t->windows) * sizeof *t->scale);
        return;
    }
    for (int64_t i = pixel; i < pixel + count; i++) {
        memset(t->q + i * t->pixel_bytes, t->zero_point, (size_t)t->c);
        memset(t->scale + i * t->pixel_windows, 0, (size_t)t->windows * sizeof *t->scale);
    }
}

void lw_tensor_fill_border(const lw_tensor *t, int64_t image) {
    int64_t wide = t->w + t->left + t->right, high = t->h + t->top + t->bottom;
    int64_t first = image * high * wide;
    fill_pixels(t, first, t->top * wide);
    fill_pixels(t, first + (t->top + t->h) * wide, t->bottom * wide);
    for (int64_t y = t->top; y < t->top + t->h; y++) {
        fill_pixels(t, first + y * wide, t->left);
        fill_pixels(t, first + y * wide + t->left + t->w, t->right);
    }
}

int lw_residual_shift(const lw_tensor *t) {
    enum { SMALLEST = 4, LARGEST = 62 };
    if (!t->scale) return -1;
    if (t->window >= t->c) return LARGEST;
    for (int shift = SMALLEST; shift < LARGEST; shift++)
        if (t->window == (int64_t)1 << shift) return shift;
    return -1;
}

/* ---- quantize ---- */

typedef struct quantize_job {
    lw_quantize *quantize;
    const float *x;
    const lw_tensor *t;
    int64_t rows, c, window, windows;
    int zero_point;
    uint8_t *q;
    float *scale;
    atomic_int failed;
} quantize_job;

static void quantize_task(void *context, int64_t index, int worker) {
    quantize_job *j = context;
    (void)worker;
    int64_t r = index * ROWS_PER_TASK, rows = min64(j->rows - r, ROWS_PER_TASK);
    if (j->quantize(rows, j->x + r * j->c, j->c, j->c, j->window, j->zero_point, j->q + r * j->c,
                    j->c, j->scale + r * j->windows, j->windows))
        atomic_store(&j->failed, 1);
}

lw_status lw_quantize_rows(const lw_isa *isa, lw_pool *pool, const float *x, int64_t rows,
                           int64_t c, int64_t window, int zero_point, uint8_t *q, float *scale) {
    quantize_job j = {isa->quantize,        x,          NULL, rows,  c, window,
                      (c - 1) / window + 1, zero_point, q,    scale, 0};
    lw_pool_run(pool, (rows - 1) / ROWS_PER_TASK + 1, quantize_task, &j);
    return atomic_load(&j.failed) ? LW_NONFINITE : LW_OK;
}

void lw_dequantize_rows(const uint8_t *q, const float *scale, int64_t rows, int64_t c,
                        int64_t window, int zero_point, float *x) {
    int64_t windows = (c - 1) / window + 1;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < c; j++)
            x[r * c + j] = scale[r * windows + j / window] * (float)(q[r * c + j] - zero_point);
}

/* One task is one image row of the destination. */
static void quantize_row_task(void *context, int64_t index, int worker) {
    quantize_job *j = context;
    const lw_tensor *t = j->t;
    (void)worker;
    int64_t wide = t->w + t->left + t->right, high = t->h + t->top + t->bottom;
    int64_t image = index / t->h, y = index % t->h;
    int64_t pixel = (image * high + y + t->top) * wide + t->left;
    const float *x = j->x + index * t->w * t->c;
    if (t->shared && y == 0) lw_tensor_fill_border(t, image);
    if (j->quantize(t->w, x, t->c, t->c, t->window, t->zero_point, t->q + pixel * t->pixel_bytes,
                    t->pixel_bytes, t->scale + pixel * t->pixel_windows, t->pixel_windows))
        atomic_store(&j->failed, 1);
}

lw_status lw_quantize_tensor(const lw_isa *isa, lw_pool *pool, const float *src,
                             const lw_tensor *dst) {
    quantize_job j = {.quantize = isa->quantize, .x = src, .t = dst};
    if (dst->h == 1 && dst->n == 1 && dst->w > ROWS_PER_TASK && dst->pixel_bytes == dst->c &&
        dst->pixel_windows == dst->windows && dst->top + dst->left + dst->bottom + dst->right == 0)
        return lw_quantize_rows(isa, pool, src, dst->w, dst->c, dst->window, dst->zero_point,
                                dst->q, dst->scale);
    lw_pool_run(pool, dst->n * dst->h, quantize_row_task, &j);
    return atomic_load(&j.failed) ? LW_NONFINITE : LW_OK;
}

/* ---- planes ---- */

typedef struct planes_job {
    const lw_isa *isa;
    const float *x; /* of one image */
    const lw_tensor *t;
    int64_t image;
    float factor;
    atomic_int largest;
} planes_job;

static void largest_task(void *context, int64_t plane, int worker) {
    planes_job *j = context;
    (void)worker;
    int64_t pixels = j->t->h * j->t->w;
    int found = j->isa->largest(j->x + plane * pixels, pixels), held = atomic_load(&j->largest);
    while (found > held && !atomic_compare_exchange_weak(&j->largest, &held, found)) {
    }
}

static void planes_task(void *context, int64_t y, int worker) {
    const planes_job *j = context;
    const lw_tensor *t = j->t;
    (void)worker;
    int64_t wide = t->w + t->left + t->right, high = t->h + t->top + t->bottom;
    uint8_t *q = t->q + ((j->image * high + y + t->top) * wide + t->left) * t->pixel_bytes;
    if (t->shared && y == 0) lw_tensor_fill_border(t, j->image);
    j->isa->planes(j->x + y * t->w, t->h * t->w, t->c, t->w, j->factor, q);
}

lw_status lw_quantize_planes(const lw_isa *isa, lw_pool *pool, const float *src,
                             const lw_tensor *dst) {
    lw_status status = LW_OK;
    for (int64_t n = 0; n < dst->n; n++) {
        planes_job j = {isa, src + n * dst->c * dst->h * dst->w, dst, n, 0.0f, 0};
        lw_pool_run(pool, dst->c, largest_task, &j);
        int32_t bits = atomic_load(&j.largest);
        float top;
        memcpy(&top, &bits, sizeof top);
        if (!(top < INFINITY)) {
            status = LW_NONFINITE;
            top = 0.0f;
        }
        dst->image_scale[n] = top >= 0x1p-100f ? top / 127.0f : 0.0f;
        j.factor = top >= 0x1p-100f ? 127.0f / top : 0.0f;
        lw_pool_run(pool, dst->h, planes_task, &j);
    }
    return status;
}

/* ---- pixels ---- */

typedef struct pixels_job {
    const uint8_t *src;
    const lw_tensor *t;
} pixels_job;

/* One task is one image row. */
static void pixels_task(void *context, int64_t index, int worker) {
    const pixels_job *j = context;
    const lw_tensor *t = j->t;
    (void)worker;
    int64_t wide = t->w + t->left + t->right, high = t->h + t->top + t->bottom;
    int64_t image = index / t->h, y = index % t->h;
    const uint8_t *src = j->src + index * t->w * t->c;
    uint8_t *q = t->q + ((image * high + y + t->top) * wide + t->left) * t->pixel_bytes;
    if (t->shared && y == 0) lw_tensor_fill_border(t, image);
    if (t->c == t->pixel_bytes)
        memcpy(q, src, (size_t)(t->w * t->c));
    else
        for (int64_t i = 0; i < t->w; i++)
            memcpy(q + i * t->pixel_bytes, src + i * t->c, (size_t)t->c);
}

void lw_copy_pixels(lw_pool *pool, const uint8_t *src, const lw_tensor *dst) {
    pixels_job j = {src, dst};
    for (int64_t n = 0; dst->image_scale && n < dst->n; n++) dst->image_scale[n] = 1.0f;
    lw_pool_run(pool, dst->n * dst->h, pixels_task, &j);
}

/* ---- layout ---- */

typedef struct transpose_job {
    const float *src;
    float *dst;
    int64_t rows, cols, bands; /* per image: dst (cols, rows) from src (rows, cols) */
} transpose_job;

typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

/* dst (4, 4) from src (4, 4), rows cols and rows apart. */
static void transpose_quads(const float *src, int64_t cols, float *dst, int64_t rows) {
    quad x[4], y[4];
    for (int i = 0; i < 4; i++) x[i] = *(const quad *)(const void *)(src + i * cols);
    for (int i = 0; i < 4; i++) y[i] = (quad){x[0][i], x[1][i], x[2][i], x[3][i]};
    for (int i = 0; i < 4; i++) *(quad *)(void *)(dst + i * rows) = y[i];
}

static void transpose_rest(const float *src, int64_t cols, float *dst, int64_t rows, int64_t high,
                           int64_t wide) {
    for (int64_t r = 0; r < high; r++)
        for (int64_t c = 0; c < wide; c++) dst[c * rows + r] = src[r * cols + c];
}

static void transpose_task(void *context, int64_t index, int worker) {
    const transpose_job *j = context;
    (void)worker;
    int64_t base = index / j->bands * j->rows * j->cols, c0 = index % j->bands * TILE;
    int64_t c1 = min64(c0 + TILE, j->cols);
    const float *src = j->src + base;
    float *dst = j->dst + base;
    for (int64_t r = 0; r < j->rows; r += 4)
        for (int64_t c = c0; c < c1; c += 4) {
            const float *from = src + r * j->cols + c;
            float *to = dst + c * j->rows + r;
            if (r + 4 <= j->rows && c + 4 <= c1)
                transpose_quads(from, j->cols, to, j->rows);
            else
                transpose_rest(from, j->cols, to, j->rows, min64(j->rows - r, 4), min64(c1 - c, 4));
        }
}

static void transpose(lw_pool *pool, const float *src, float *dst, int64_t n, int64_t rows,
                      int64_t cols) {
    transpose_job j = {src, dst, rows, cols, (cols - 1) / TILE + 1};
    lw_pool_run(pool, n * j.bands, transpose_task, &j);
}

void lw_to_nhwc(lw_pool *pool, const float *src, float *dst, int64_t n, int64_t c, int64_t pixels) {
    transpose(pool, src, dst, n, c, pixels);
}

void lw_to_nchw(lw_pool *pool, const float *src, float *dst, int64_t n, int64_t c, int64_t pixels) {
    transpose(pool, src, dst, n, pixels, c);
}

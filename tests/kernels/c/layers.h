/* layers.h - tensors in guarded memory, and a plain product in place of MKL's. */
#ifndef LAYERS_H
#define LAYERS_H

#include "check.h"
#include "int64.h"
#include "isa.h"

/* A tensor in guarded memory, which q_guard and s_guard own: the last c channels of a whole that
 * has `before` windows more. */
static inline lw_tensor make_tensor(int64_t n, int64_t h, int64_t w, int64_t c, int64_t window,
                                    int zero_point, int64_t border, int64_t before,
                                    guarded *q_guard, guarded *s_guard) {
    lw_tensor t = {.n = n,
                   .h = h,
                   .w = w,
                   .c = c,
                   .top = border,
                   .left = border,
                   .bottom = border,
                   .right = border,
                   .window = window < c ? window : c,
                   .zero_point = zero_point,
                   .shared = 1};
    if (!window) t.window = c, before = 0;
    t.windows = window ? ceil_div(c, t.window) : 0;
    t.pixel_bytes = !window && c < 4 ? c : ceil_div(before * t.window + c, 4) * 4;
    t.pixel_windows = before + t.windows;
    size_t pixels = (size_t)(n * (h + 2 * border) * (w + 2 * border));
    *q_guard = guard(pixels * (size_t)t.pixel_bytes + LW_SLACK);
    *s_guard = guard(pixels * (size_t)t.pixel_windows * sizeof(float));
    t.q = q_guard->p;
    t.scale = window ? s_guard->p : NULL;
    memset(t.q, 0xff, pixels * (size_t)t.pixel_bytes);
    if (window) memset(t.scale, 0xff, pixels * (size_t)t.pixel_windows * sizeof(float));
    t.q += before * t.window;
    if (window) t.scale += before;
    return t;
}

static inline guarded random_floats(size_t count) {
    guarded g = guard(count * sizeof(float));
    for (size_t i = 0; i < count; i++) ((float *)g.p)[i] = random_float();
    return g;
}

/* A plain product in place of MKL's. */
static inline void plain_gemm(int layout, int trans_a, int trans_b, int offset_c, int m, int n,
                              int k, float alpha, const void *a, int lda, int8_t offset_a,
                              const void *b, int ldb, int8_t offset_b, float beta, int32_t *c,
                              int ldc, const int32_t *offset) {
    (void)layout, (void)trans_a, (void)trans_b, (void)offset_c, (void)alpha;
    (void)offset_a, (void)offset_b;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            int32_t sum = *offset + (beta == 1.0f ? c[i * ldc + j] : 0);
            for (int l = 0; l < k; l++)
                sum += ((const uint8_t *)a)[i * lda + l] * ((const int8_t *)b)[l * ldb + j];
            c[i * ldc + j] = sum;
        }
}

#endif

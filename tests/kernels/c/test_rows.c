/* test_rows.c - quantization, pooling, layouts and columns by every instruction set, all arrays
 * ending at a guard page: equal bytes, and no access beyond what lw.h allows. */
#include "check.h"
#include "isa.h"

static void check_quantize(lw_pool *pool, kind kind) {
    int64_t rows = random_in(1, 4), c = random_in(1, 200), window = random_in(1, 220);
    int64_t windows = window < c ? (c + window - 1) / window : 1;
    size_t bytes = (size_t)(rows * c), scales = (size_t)(rows * windows) * sizeof(float);
    int zero_point = random_in(0, 1) ? 128 : 0;
    guarded x = guard(bytes * sizeof(float)), q = guard(bytes), scale = guard(scales);
    guarded want_q = guard(bytes), want_scale = guard(scales);
    random_values(kind, x.p, bytes, (size_t)c);
    CHECK(!lw_quantize_rows(lw_isa_at(0), pool, x.p, rows, c, window, zero_point, want_q.p,
                            want_scale.p));
    const lw_isa *isa;
    for (int i = 1; (isa = lw_isa_at(i)); i++) {
        CHECK(!lw_quantize_rows(isa, pool, x.p, rows, c, window, zero_point, q.p, scale.p));
        CHECK(memcmp(q.p, want_q.p, bytes) == 0);
        CHECK(memcmp(scale.p, want_scale.p, scales) == 0);
    }
    add_to_digest(want_q.p, bytes);
    add_to_digest(want_scale.p, scales);
    release(x), release(q), release(scale), release(want_q), release(want_scale);
}

/* Rows of f32, or of u8 in windows, under a window of 2 x 3 pixels with a border. */
static void check_pooling(lw_pool *pool, kind kind) {
    int64_t h = random_in(2, 4), w = random_in(3, 6), c = random_in(1, 90);
    int64_t window = random_in(1, c), windows = (c + window - 1) / window;
    int64_t pixel_bytes = (c + 3) / 4 * 4;
    size_t count = (size_t)(h * w * c), outputs = (size_t)((h + 1) * (w + 1) * c);
    guarded x = guard(count * sizeof(float)), y = guard(outputs * sizeof(float));
    guarded want = guard(outputs * sizeof(float));
    guarded q = guard((size_t)(h * w * pixel_bytes) + LW_SLACK);
    guarded scale = guard((size_t)(h * w * windows) * sizeof(float));
    random_values(kind, x.p, count, (size_t)c);
    lw_tensor t = {.q = q.p,
                   .scale = scale.p,
                   .n = 1,
                   .h = h,
                   .w = w,
                   .c = c,
                   .pixel_bytes = pixel_bytes,
                   .pixel_windows = windows,
                   .window = window,
                   .windows = windows,
                   .zero_point = random_in(0, 1) ? 128 : 0};
    CHECK(!lw_quantize_tensor(lw_isa_at(0), pool, x.p, &t));
    lw_pooling_args args = {.src = x.p,
                            .src_stride = {h * w * c, w * c, c},
                            .n = 1,
                            .h = h,
                            .w = w,
                            .c = c,
                            .average = (int)random_in(0, 1),
                            .count_pads = (int)random_in(0, 1),
                            .kh = 2,
                            .kw = 3,
                            .stride_h = 1,
                            .stride_w = 1,
                            .dilation_h = 1,
                            .dilation_w = 1,
                            .pad_top = 1,
                            .pad_left = 1,
                            .pad_bottom = 1,
                            .pad_right = 2,
                            .dst_stride = {(h + 1) * (w + 1) * c, (w + 1) * c, c}};
    if (random_in(0, 1)) args.src = NULL, args.src_q = &t;
    const lw_isa *isa;
    for (int i = 0; (isa = lw_isa_at(i)); i++) {
        args.dst = i ? y.p : want.p;
        lw_pooling_plan *plan = lw_pooling_create(isa, &args, h + 1, w + 1, 2);
        CHECK(plan);
        CHECK(!lw_pooling_run(plan, pool));
        CHECK(!i || memcmp(y.p, want.p, outputs * sizeof(float)) == 0);
        lw_pooling_destroy(plan);
    }
    add_to_digest(want.p, outputs * sizeof(float));
    release(x), release(y), release(want), release(q), release(scale);
}

/* An image of another size, between pixels and up to the last row and column. */
static void check_linear(lw_pool *pool, kind kind) {
    enum { OUT = 7 };
    int64_t h = random_in(1, 4), w = random_in(1, 4), c = random_in(1, 70);
    size_t count = (size_t)(h * w * c), outputs = (size_t)(OUT * OUT * c);
    guarded x = guard(count * sizeof(float)), want = guard(outputs * sizeof(float));
    guarded y = guard(outputs * sizeof(float));
    int32_t row[OUT], column[OUT];
    float row_part[OUT], column_part[OUT];
    for (int i = 0; i < OUT; i++) {
        row[i] = (int32_t)random_in(0, h - 1), column[i] = (int32_t)random_in(0, w - 1);
        row_part[i] = row[i] < h - 1 ? (float)random_in(0, 99) / 100 : 0;
        column_part[i] = column[i] < w - 1 ? (float)random_in(0, 99) / 100 : 0;
    }
    random_values(kind, x.p, count, (size_t)c);
    lw_linear_args args = {.src = x.p,
                           .src_stride = {h * w * c, w * c, c},
                           .n = 1,
                           .c = c,
                           .oh = OUT,
                           .ow = OUT,
                           .row = row,
                           .column = column,
                           .row_part = row_part,
                           .column_part = column_part,
                           .dst_stride = {OUT * OUT * c, OUT * c, c}};
    const lw_isa *isa;
    for (int i = 0; (isa = lw_isa_at(i)); i++) {
        args.dst = i ? y.p : want.p;
        lw_linear(isa, pool, &args);
        CHECK(!i || memcmp(y.p, want.p, outputs * sizeof(float)) == 0);
    }
    add_to_digest(want.p, outputs * sizeof(float));
    release(x), release(y), release(want);
}

/* Every operator, on two parts that follow each other and a constant. */
static void check_columns(lw_pool *pool, kind kind) {
    int64_t images = random_in(1, 2), above = random_in(1, 300), below = random_in(1, 300);
    int64_t n = random_in(1, 5), rows = above + below, made = n + 1;
    size_t bytes = (size_t)(images * rows * (n + 6)) * sizeof(float);
    guarded a = guard((size_t)(images * above * n) * sizeof(float));
    guarded b = guard((size_t)(images * below * n) * sizeof(float));
    guarded fixed = guard((size_t)rows * sizeof(float)), want = guard(bytes), y = guard(bytes);
    random_values(kind, a.p, (size_t)(images * above * n), (size_t)n);
    random_values(kind, b.p, (size_t)(images * below * n), (size_t)n);
    random_values(kind, fixed.p, (size_t)rows, 1);
    lw_columns_part part[] = {{a.p, 0, above, n, 0}, {b.p, above, below, n, 0}};
    int32_t last = (int32_t)n - 1, to = (int32_t)made, result[11];
    lw_columns_step step[] = {{LW_ADD, 0, to - 1}, {LW_SUB, 0, last},    {LW_EXP, last, last},
                              {LW_DIV, 0, to + 2}, {LW_MAX, to, to + 1}, {LW_MUL, 0, to - 1}};
    for (int32_t j = 0; j < n + 6; j++) result[j] = j < n ? j : j + 1;
    lw_columns_args args = {.images = images,
                            .rows = rows,
                            .parts = 2,
                            .constants = 1,
                            .steps = 6,
                            .n = n + 6,
                            .part = part,
                            .constant = fixed.p,
                            .step = step,
                            .result = result};
    const lw_isa *isa;
    for (int i = 0; (isa = lw_isa_at(i)); i++) {
        args.y = i ? y.p : want.p;
        lw_columns *columns = lw_columns_create(isa, &args, 2);
        CHECK(columns);
        lw_columns_run(columns, pool);
        CHECK(!i || memcmp(y.p, want.p, bytes) == 0);
        lw_columns_destroy(columns);
    }
    add_to_digest(want.p, bytes);
    release(a), release(b), release(fixed), release(want), release(y);
}

/* Layouts there and back. */
static void check_layout(lw_pool *pool, kind kind) {
    int64_t n = random_in(1, 2), c = random_in(1, 40), pixels = random_in(1, 70);
    size_t count = (size_t)(n * c * pixels), bytes = count * sizeof(float);
    guarded x = guard(bytes), nhwc = guard(bytes), back = guard(bytes);
    random_values(kind, x.p, count, (size_t)pixels);
    lw_to_nhwc(pool, x.p, nhwc.p, n, c, pixels);
    lw_to_nchw(pool, nhwc.p, back.p, n, c, pixels);
    CHECK(memcmp(x.p, back.p, bytes) == 0);
    add_to_digest(nhwc.p, bytes);
    release(x), release(nhwc), release(back);
}

int main(void) {
    lw_pool *pool = lw_pool_create(2);
    CHECK(pool);
    for (int i = 0; i < 40 * KINDS; i++) {
        check_quantize(pool, (kind)(i % KINDS));
        check_pooling(pool, (kind)(i % KINDS));
        check_layout(pool, (kind)(i % KINDS));
        check_linear(pool, (kind)(i % KINDS));
        check_columns(pool, (kind)(i % KINDS));
    }
    printf("%016llx\n", (unsigned long long)digest);
    lw_pool_destroy(pool);
    return 0;
}

/* test_first.c - first layers with a quantized result by every instruction set, with every array ending
 * at a guard page: equal bytes, and no access beyond what lw.h allows. */
#include "check.h"
#include "isa.h"

/* One layer over random pixels; q and scale of the result. */
static void run(const lw_isa *isa, lw_pool *pool, const lw_conv_args *layer,
                const lw_weights_args *wanted, const lw_tensor *dst) {
    lw_status status;
    lw_conv_args args = *layer;
    args.weights = lw_weights_create(isa, wanted, NULL, 0, &status);
    CHECK(args.weights && status == LW_OK);
    args.dst_q = dst;
    lw_conv *conv = lw_conv_create(&args, lw_pool_threads(pool), &status);
    CHECK(conv && status == LW_OK);
    CHECK(lw_conv_run(conv, pool) == LW_OK);
    lw_conv_destroy(conv);
    lw_weights_destroy((lw_weights *)args.weights);
}

static guarded random_bytes(size_t count, int64_t low, int64_t high) {
    guarded g = guard(count);
    for (size_t i = 0; i < count; i++) ((uint8_t *)g.p)[i] = (uint8_t)random_in(low, high);
    return g;
}

static guarded random_floats(int64_t count) {
    guarded g = guard((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++) ((float *)g.p)[i] = random_float() * 0x1p-9f;
    return g;
}

static void check_layer(lw_pool *pool) {
    int64_t kernel = random_in(2, 7), stride = random_in(1, 2), c = random_in(1, 3);
    int64_t h = kernel + random_in(0, 40), w = kernel + random_in(0, 60), oc = random_in(1, 70);
    int64_t oh = (h - kernel) / stride + 1, ow = (w - kernel) / stride + 1;
    int64_t window = random_in(0, 1) ? oc : 32 * random_in(1, 2), taps = kernel * kernel * c;
    window = window < oc ? window : oc;
    int64_t windows = (oc + window - 1) / window, bytes = (oc + 3) / 4 * 4;
    guarded pixels = random_bytes((size_t)(h * w * c) + LW_SLACK, 0, 255);
    guarded qw = random_bytes((size_t)(oc * taps), 1, 255); /* -128 has no place */
    for (int64_t i = 0; i < oc * taps; i++)
        if (((int8_t *)qw.p)[i] == -128) ((int8_t *)qw.p)[i] = 0;
    guarded sb = random_floats(oc), bias = random_floats(oc);
    lw_tensor src = {.q = pixels.p, .n = 1, .h = h, .w = w, .c = c, .pixel_bytes = c, .window = c};
    lw_weights_args wanted = {.qw = qw.p, .scale = sb.p, .oc = oc, .kh = kernel, .kw = kernel,
                              .ic = c, .groups = 1};
    lw_conv_args layer = {.src = &src, .bias = bias.p, .oh = oh, .ow = ow, .stride_h = stride,
                          .stride_w = stride, .dilation_h = 1, .dilation_w = 1, .hi = 6.0f,
                          .activation = (lw_activation)random_in(LW_NONE, LW_GELU)};
    size_t q_bytes = (size_t)(oh * ow * bytes), s_bytes = (size_t)(oh * ow * windows) * 4;
    guarded want_q = guard(q_bytes + LW_SLACK), want_s = guard(s_bytes);
    lw_tensor dst = {.q = want_q.p, .scale = want_s.p, .n = 1, .h = oh, .w = ow, .c = oc,
                     .pixel_bytes = bytes, .pixel_windows = windows, .window = window,
                     .windows = windows, .zero_point = random_in(0, 1) ? 128 : 0};
    run(lw_isa_at(0), pool, &layer, &wanted, &dst);
    const lw_isa *isa;
    for (int i = 1; (isa = lw_isa_at(i)); i++) {
        guarded q = guard(q_bytes + LW_SLACK), s = guard(s_bytes);
        dst.q = q.p, dst.scale = s.p;
        run(isa, pool, &layer, &wanted, &dst);
        CHECK(memcmp(q.p, want_q.p, q_bytes) == 0);
        CHECK(memcmp(s.p, want_s.p, s_bytes) == 0);
        release(q), release(s);
    }
    add_to_digest(want_q.p, q_bytes);
    add_to_digest(want_s.p, s_bytes);
    release(pixels), release(qw), release(sb), release(bias), release(want_q), release(want_s);
}

int main(void) {
    lw_pool *pool = lw_pool_create(2);
    CHECK(pool);
    for (int i = 0; i < 150; i++) check_layer(pool);
    printf("%016llx\n", (unsigned long long)digest);
    lw_pool_destroy(pool);
    return 0;
}

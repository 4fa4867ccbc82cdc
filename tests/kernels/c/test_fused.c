/* test_fused.c - random dense convolutions with a depthwise one behind them, by every instruction
 * set, with every array of the caller ending at a guard page: equal bytes, and no access beyond
 * what lw.h allows. */
#include "layers.h"

typedef struct shape {
    int64_t n, h, w, ic, c, k, pad, window, weight_window; /* of the dense convolution */
    int64_t kh, kw, stride, border;                        /* of the depthwise one */
    int64_t oh, ow;
    lw_activation activation; /* of the dense convolution */
} shape;

static shape random_shape(void) {
    shape s = {.n = random_in(1, 2),
               .h = random_in(5, 30),
               .w = random_in(5, 40),
               .ic = random_in(1, 40),
               .c = random_in(2, 150),
               .k = random_in(1, 3),
               .pad = random_in(0, 1),
               .kh = random_in(1, 5),
               .kw = random_in(1, 5),
               .stride = random_in(1, 2),
               .activation = (lw_activation)random_in(LW_NONE, LW_SILU)};
    s.window = random_in(0, s.ic + 2);
    s.weight_window = s.window && random_in(0, 1) ? random_in(1, s.ic) : 0;
    s.border = random_in(0, (s.kh < s.kw ? s.kh : s.kw) - 1);
    s.oh = (s.h + 2 * s.pad - s.k + 1 + 2 * s.border - s.kh) / s.stride + 1;
    s.ow = (s.w + 2 * s.pad - s.k + 1 + 2 * s.border - s.kw) / s.stride + 1;
    return s;
}

typedef struct inputs {
    guarded x, qw, sb, bias, taps, scale, offset;
} inputs;

static guarded random_levels(size_t count) {
    guarded g = guard(count);
    for (size_t i = 0; i < count; i++) ((int8_t *)g.p)[i] = (int8_t)random_in(-127, 127);
    return g;
}

static guarded random_scales(size_t count) {
    guarded g = guard(count * sizeof(float));
    for (size_t i = 0; i < count; i++) ((float *)g.p)[i] = (float)random_in(0, 999) * 0x1p-15f;
    return g;
}

static inputs make_inputs(const shape *s) {
    int64_t weights = s->c * s->k * s->k * s->ic, windows = s->weight_window;
    int64_t scales = windows ? s->c * s->k * s->k * ceil_div(s->ic, windows) : s->c;
    return (inputs){.x = random_floats((size_t)(s->n * s->h * s->w * s->ic)),
                    .qw = random_levels((size_t)weights),
                    .sb = random_scales((size_t)scales),
                    .bias = random_floats((size_t)s->c),
                    .taps = random_levels((size_t)(s->c * s->kh * s->kw)),
                    .scale = random_scales((size_t)s->c),
                    .offset = random_floats((size_t)s->c)};
}

static void release_inputs(inputs in) {
    release(in.x), release(in.qw), release(in.sb), release(in.bias);
    release(in.taps), release(in.scale), release(in.offset);
}

static lw_weights *pack(const lw_isa *isa, lw_weights_args args) {
    lw_status status;
    lw_weights *w = lw_weights_create(isa, &args, NULL, 0, &status);
    CHECK(w && status == LW_OK);
    return w;
}

/* What both layers say but for their sizes. */
static lw_conv_args layer(const lw_weights *w, const guarded *bias, int64_t stride, int64_t pad) {
    return (lw_conv_args){.weights = w,
                          .bias = bias->p,
                          .stride_h = stride,
                          .stride_w = stride,
                          .pad_top = pad,
                          .pad_left = pad,
                          .dilation_h = 1,
                          .dilation_w = 1,
                          .activation = LW_CLIP,
                          .hi = 2.0f};
}

/* y of the two; also checks that its windows are those of y. */
static guarded run(const lw_isa *isa, lw_pool *pool, const shape *s, const inputs *in,
                   lw_gemm *gemm) {
    guarded q, scale, q_out, scale_out, q_two, scale_two;
    guarded y = guard((size_t)(s->n * s->oh * s->ow * s->c) * sizeof(float));
    lw_status status;
    lw_tensor src = make_tensor(s->n, s->h, s->w, s->ic, s->window, 128, s->pad, 0, &q, &scale);
    lw_tensor dst = make_tensor(s->n, s->oh, s->ow, s->c, 24, 0, 1, 0, &q_out, &scale_out);
    lw_tensor two = make_tensor(s->n, s->oh, s->ow, s->c, 24, 0, 1, 0, &q_two, &scale_two);
    if (s->window)
        CHECK(lw_quantize_tensor(isa, pool, in->x.p, &src) == LW_OK);
    else
        memset(q.p, 200,
               (size_t)(src.n * (src.h + 2 * s->pad) * (src.w + 2 * s->pad) * src.pixel_bytes));
    lw_weights *w = pack(isa, (lw_weights_args){in->qw.p, in->sb.p, s->c, s->k, s->k, s->ic, 1,
                                                s->window, s->weight_window, 128});
    lw_weights *taps = pack(isa, (lw_weights_args){in->taps.p, in->scale.p, s->c, s->kh, s->kw,
                                                   s->c, s->c, s->c, 0, 0});
    lw_conv_args dense = layer(w, &in->bias, 1, s->pad);
    dense.src = &src, dense.gemm = gemm, dense.activation = s->activation, dense.alpha = 0.1f;
    dense.oh = s->h + 2 * s->pad - s->k + 1, dense.ow = s->w + 2 * s->pad - s->k + 1;
    lw_conv_args args = layer(taps, &in->offset, s->stride, s->border);
    args.producer = &dense;
    args.oh = s->oh, args.ow = s->ow, args.dst = y.p, args.dst_q = &dst;
    args.dst_stride[0] = s->oh * s->ow * s->c, args.dst_stride[1] = s->ow * s->c;
    args.dst_stride[2] = s->c;
    lw_conv *conv = lw_conv_create(&args, lw_pool_threads(pool), &status);
    CHECK(conv && status == LW_OK);
    CHECK(lw_conv_run(conv, pool) == LW_OK);
    CHECK(lw_quantize_tensor(isa, pool, y.p, &two) == LW_OK);
    size_t pixels = (size_t)(s->n * (s->oh + 2) * (s->ow + 2));
    CHECK(memcmp(scale_out.p, scale_two.p, pixels * (size_t)dst.windows * sizeof(float)) == 0);
    CHECK(memcmp(q_out.p, q_two.p, pixels * (size_t)dst.pixel_bytes) == 0 || s->c % 4);
    lw_conv_destroy(conv);
    dense.dst = y.p; /* would then be a tensor of its own */
    CHECK(!lw_conv_create(&args, 1, &status) && status == LW_INVALID);
    lw_weights_destroy(w), lw_weights_destroy(taps);
    release(q), release(scale), release(q_out), release(scale_out);
    release(q_two), release(scale_two);
    return y;
}

int main(void) {
    lw_pool *pool[] = {lw_pool_create(1), lw_pool_create(2)};
    CHECK(pool[0] && pool[1]);
    for (int i = 0; i < 60; i++) {
        shape s = random_shape();
        inputs in = make_inputs(&s);
        size_t bytes = (size_t)(s.n * s.oh * s.ow * s.c) * sizeof(float);
        guarded want = run(lw_isa_at(0), pool[0], &s, &in, NULL);
        const lw_isa *isa;
        for (int j = 0; (isa = lw_isa_at(j)); j++)
            for (int k = 0; k < 3; k++) { /* one thread; two; a foreign product */
                guarded got = run(isa, pool[k > 0], &s, &in, k > 1 ? plain_gemm : NULL);
                CHECK(memcmp(got.p, want.p, bytes) == 0);
                release(got);
            }
        add_to_digest(want.p, bytes);
        release(want);
        release_inputs(in);
    }
    printf("%016llx\n", (unsigned long long)digest);
    lw_pool_destroy(pool[0]), lw_pool_destroy(pool[1]);
    return 0;
}

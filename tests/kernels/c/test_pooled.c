/* test_pooled.c - random convolutions with a maximum behind them, by every instruction set, with
 * every array of the caller ending at a guard page: the bytes of the two one after the other, and
 * no access beyond what lw.h allows. */
#include "layers.h"

typedef struct shape {
    int64_t n, h, w, ic, c, k, pad, stride, window, weight_window; /* of the convolution */
    int64_t oh, ow;
    lw_activation activation;
    lw_max_pool pool;
} shape;

/* Rounded down or up. */
static int64_t maxima_of(int64_t size, int64_t kernel, int64_t stride, int64_t pad) {
    int64_t last = size + 2 * pad > kernel ? (size + 2 * pad - kernel) / stride : 0;
    return last + 1 + (random_in(0, 1) && (last + 1) * stride - pad < size);
}

static shape random_shape(void) {
    static const int64_t kernels[] = {1, 3, 5, 7};
    shape s = {.n = random_in(1, 2),
               .h = random_in(1, 12),
               .w = random_in(3, 36),
               .c = random_in(1, 150),
               .k = kernels[random_in(0, 3)],
               .stride = random_in(1, 2),
               .activation = (lw_activation)random_in(LW_NONE, LW_GELU)};
    int first = random_in(0, 1), usual = random_in(0, 3);
    s.ic = random_in(1, first ? 4 : 24);
    s.window = first ? 0 : random_in(1, s.ic + 2);
    s.weight_window = s.window && random_in(0, 1) ? random_in(1, s.ic) : 0;
    s.pad = s.k / 2;
    if (usual) s.activation = LW_RELU;
    s.oh = (s.h + 2 * s.pad - s.k) / s.stride + 1;
    s.ow = (s.w + 2 * s.pad - s.k) / s.stride + 1;
    lw_max_pool *m = &s.pool;
    m->kh = m->kw = usual ? 3 : random_in(1, LW_MAX_POOL);
    m->stride_h = usual ? 2 : random_in(1, 4);
    m->stride_w = usual ? 2 : random_in(1, 4);
    m->pad_top = random_in(0, m->kh > 1), m->pad_left = random_in(0, m->kw > 1);
    m->oh = maxima_of(s.oh, m->kh, m->stride_h, m->pad_top);
    m->ow = maxima_of(s.ow, m->kw, m->stride_w, m->pad_left);
    return s;
}

typedef struct inputs {
    guarded x, qw, sb, bias;
} inputs;

static inputs make_inputs(const shape *s) {
    int64_t weights = s->c * s->k * s->k * s->ic, windows = s->weight_window;
    int64_t scales = windows ? s->c * s->k * s->k * ceil_div(s->ic, windows) : s->c;
    inputs in = {.x = random_floats((size_t)(s->n * s->h * s->w * s->ic)),
                 .qw = guard((size_t)weights),
                 .sb = guard((size_t)scales * sizeof(float)),
                 .bias = random_floats((size_t)s->c)};
    for (int64_t i = 0; i < weights; i++) ((int8_t *)in.qw.p)[i] = (int8_t)random_in(-127, 127);
    for (int64_t i = 0; i < scales; i++)
        ((float *)in.sb.p)[i] = (float)random_in(0, 999) * 0x1p-15f;
    return in;
}

/* Strides of (n, h, w, c). */
static void set_strides(int64_t stride[3], int64_t h, int64_t w, int64_t c) {
    stride[0] = h * w * c, stride[1] = w * c, stride[2] = c;
}

static void run(const lw_conv_args *args, lw_pool *pool) {
    lw_status status;
    lw_conv *conv = lw_conv_create(args, lw_pool_threads(pool), &status);
    CHECK(conv && status == LW_OK);
    CHECK(lw_conv_run(conv, pool) == LW_OK);
    lw_conv_destroy(conv);
}

/* What the maximum of y is, by the weakest instruction set. */
static void pool_apart(const shape *s, lw_pool *pool, const float *y, float *dst) {
    const lw_max_pool *m = &s->pool;
    lw_pooling_args args = {.src = y,
                            .n = s->n,
                            .h = s->oh,
                            .w = s->ow,
                            .c = s->c,
                            .kh = m->kh,
                            .kw = m->kw,
                            .stride_h = m->stride_h,
                            .stride_w = m->stride_w,
                            .dilation_h = 1,
                            .dilation_w = 1,
                            .pad_top = m->pad_top,
                            .pad_left = m->pad_left,
                            .pad_bottom = LW_MAX_POOL,
                            .pad_right = LW_MAX_POOL,
                            .dst = dst};
    set_strides(args.src_stride, s->oh, s->ow, s->c);
    set_strides(args.dst_stride, m->oh, m->ow, s->c);
    lw_pooling_plan *plan = lw_pooling_create(lw_isa_at(0), &args, m->oh, m->ow, 1);
    CHECK(plan);
    CHECK(lw_pooling_run(plan, pool) == LW_OK);
    lw_pooling_destroy(plan);
}

/* The maxima, as floats, by both ways if `want` is to be found; their windows are those of them. */
static void check(const shape *s, const inputs *in, const lw_isa *isa, lw_pool *pool, lw_gemm *gemm,
                  float *want, int is_found) {
    const lw_max_pool *m = &s->pool;
    guarded q, scale, q_out, scale_out, q_two, scale_two;
    size_t count = (size_t)(s->n * m->oh * m->ow * s->c);
    guarded y = guard(count * sizeof(float));
    lw_status status;
    lw_tensor src = make_tensor(s->n, s->h, s->w, s->ic, s->window, 128, s->pad, 0, &q, &scale);
    lw_tensor dst = make_tensor(s->n, m->oh, m->ow, s->c, 24, 128, 1, 0, &q_out, &scale_out);
    lw_tensor two = make_tensor(s->n, m->oh, m->ow, s->c, 24, 128, 1, 0, &q_two, &scale_two);
    size_t bytes = (size_t)(src.n * (src.h + 2 * s->pad) * (src.w + 2 * s->pad) * src.pixel_bytes);
    if (s->window)
        CHECK(lw_quantize_tensor(isa, pool, in->x.p, &src) == LW_OK);
    else
        for (size_t i = 0; i < bytes; i++) src.q[i] = (uint8_t)(i * 37);
    lw_weights_args packed = {in->qw.p,  in->sb.p,         s->c, s->k, s->k, s->ic, 1,
                              s->window, s->weight_window, 128,  0,    0};
    lw_weights *w = lw_weights_create(isa, &packed, NULL, 0, &status);
    CHECK(w && status == LW_OK);
    lw_conv_args args = {.src = &src,
                         .weights = w,
                         .bias = in->bias.p,
                         .oh = s->oh,
                         .ow = s->ow,
                         .stride_h = s->stride,
                         .stride_w = s->stride,
                         .pad_top = s->pad,
                         .pad_left = s->pad,
                         .dilation_h = 1,
                         .dilation_w = 1,
                         .activation = s->activation,
                         .alpha = 0.1f,
                         .hi = 2.0f,
                         .gemm = gemm};
    if (!is_found) {
        guarded whole = guard((size_t)(s->n * s->oh * s->ow * s->c) * sizeof(float));
        args.dst = whole.p;
        set_strides(args.dst_stride, s->oh, s->ow, s->c);
        run(&args, pool);
        pool_apart(s, pool, whole.p, want);
        release(whole);
    }
    args.max_pool = m, args.dst = y.p, args.dst_q = NULL;
    set_strides(args.dst_stride, m->oh, m->ow, s->c);
    run(&args, pool);
    CHECK(memcmp(y.p, want, count * sizeof(float)) == 0);
    args.dst = NULL, args.dst_q = &dst;
    run(&args, pool);
    CHECK(lw_quantize_tensor(isa, pool, want, &two) == LW_OK);
    size_t pixels = (size_t)(s->n * (m->oh + 2) * (m->ow + 2));
    CHECK(memcmp(scale_out.p, scale_two.p, pixels * (size_t)dst.windows * sizeof(float)) == 0);
    CHECK(memcmp(q_out.p, q_two.p, pixels * (size_t)dst.pixel_bytes) == 0 || s->c % 4);
    args.residual = y.p;
    CHECK(!lw_conv_create(&args, 1, &status) && status == LW_INVALID);
    lw_weights_destroy(w);
    release(q), release(scale), release(q_out), release(scale_out);
    release(q_two), release(scale_two), release(y);
}

int main(void) {
    lw_pool *pool[] = {lw_pool_create(1), lw_pool_create(2)};
    CHECK(pool[0] && pool[1]);
    for (int i = 0; i < 24; i++) {
        shape s = random_shape();
        inputs in = make_inputs(&s);
        size_t bytes = (size_t)(s.n * s.pool.oh * s.pool.ow * s.c) * sizeof(float);
        guarded want = guard(bytes);
        const lw_isa *isa;
        for (int j = 0; (isa = lw_isa_at(j)); j++)
            for (int k = 0; k < 3; k++) /* one thread; two; a foreign product */
                check(&s, &in, isa, pool[k > 0], k > 1 ? plain_gemm : NULL, want.p, j + k);
        add_to_digest(want.p, bytes);
        release(want), release(in.x), release(in.qw), release(in.sb), release(in.bias);
    }
    printf("%016llx\n", (unsigned long long)digest);
    lw_pool_destroy(pool[0]), lw_pool_destroy(pool[1]);
    return 0;
}

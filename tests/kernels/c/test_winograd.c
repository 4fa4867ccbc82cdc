/* test_winograd.c - random convolutions of transformed weights, by every instruction set, with
 * every array of the caller ending at a guard page: equal bytes, whatever follows the sums, no
 * access beyond what lw.h allows, and LW_INVALID for what it does not. */
#include "layers.h"

enum { LAYERS = 24, HALO = 1 };

typedef enum added { NOTHING, FLOATS, WINDOWS, ADDED } added;

typedef struct layer {
    int64_t n, h, w, ic, c, window, before, top, left, oh, ow;
    int64_t yh, yw; /* of what is stored */
    int zero_point, pooled;
    kind kind;
    added added;
    lw_activation activation;
    float lo;
    lw_max_pool pool;
} layer;

static layer random_layer(void) {
    static const int64_t channels[][2] = {{16, 16}, {32, 32}, {48, 48},  {96, 96},
                                          {64, 32}, {96, 32}, {128, 64}, {256, 256}};
    const int64_t *ic = channels[random_in(0, 7)];
    layer s = {.n = random_in(1, 2),
               .h = random_in(3, 6),
               .w = random_in(0, 3) ? random_in(4, 9) : random_in(28, 33),
               .ic = ic[0],
               .c = random_in(0, 1) ? random_in(1, 150) : 16 * random_in(1, 9),
               .window = ic[1],
               .before = random_in(0, 2),
               .top = random_in(0, HALO),
               .left = random_in(0, HALO),
               .zero_point = random_in(0, 1) ? LW_MIDDLE : 0,
               .kind = (kind)random_in(0, KINDS - 1),
               .activation = (lw_activation)random_in(LW_NONE, LW_GELU),
               .lo = -1.0f,
               .pooled = random_in(0, 2) == 0};
    s.oh = s.h + s.top + random_in(0, HALO) - 2, s.ow = s.w + s.left + random_in(0, HALO) - 2;
    s.yh = s.oh, s.yw = s.ow;
    if (!s.pooled) {
        s.added = (added)random_in(0, ADDED - 1);
        return s;
    }
    s.activation = random_in(0, 1) ? LW_RELU : LW_CLIP, s.lo = 0.5f;
    s.yh = s.oh > 1 ? (s.oh + random_in(0, 1)) / 2 : 1; /* rounded down or up */
    s.yw = (s.ow + random_in(0, 1)) / 2;
    s.pool = (lw_max_pool){s.yh, s.yw, 2, 2, 2, 2, 0, 0};
    return s;
}

typedef struct inputs {
    guarded x, qw, sb, bias, residual;
} inputs;

static inputs make_inputs(const layer *s) {
    size_t values = (size_t)(s->n * s->h * s->w * s->ic);
    int64_t weights = LW_LINES * s->c * 3 * s->ic;
    float unit = s->kind == HUGE_VALUES ? 0x1p-60f : 0x1p-9f; /* no sum overflows */
    inputs in = {.x = random_floats(values),
                 .qw = guard((size_t)weights),
                 .sb = guard((size_t)(LW_LINES * s->c) * sizeof(float)),
                 .bias = random_floats((size_t)s->c),
                 .residual = random_floats((size_t)(s->n * s->oh * s->ow * s->c))};
    random_values(s->kind, in.x.p, values, (size_t)s->ic);
    for (int64_t i = 0; i < weights; i++)
        ((int8_t *)in.qw.p)[i] = s->kind == SATURATING ? 127 : (int8_t)random_in(-127, 127);
    for (int64_t i = 0; i < LW_LINES * s->c; i++)
        ((float *)in.sb.p)[i] = (float)random_in(0, 999) * unit;
    return in;
}

static void release_inputs(inputs in) {
    release(in.x), release(in.qw), release(in.sb), release(in.bias), release(in.residual);
}

/* Strides of (n, h, w, c). */
static void set_strides(int64_t stride[3], int64_t h, int64_t w, int64_t c) {
    stride[0] = h * w * c, stride[1] = w * c, stride[2] = c;
}

/* Weights whose numbers lie in a blob of the caller. */
static lw_weights *map_weights(const layer *s, const inputs *in, const lw_isa *isa, guarded *blob) {
    lw_status status;
    lw_weights_args args = {.qw = in->qw.p,
                            .scale = in->sb.p,
                            .oc = s->c,
                            .kh = 3,
                            .kw = 3,
                            .ic = s->ic,
                            .groups = 1,
                            .window = s->window,
                            .zero_point = s->zero_point,
                            .winograd = 1};
    lw_weights *packed = lw_weights_create(isa, &args, NULL, 0, &status);
    CHECK(packed && status == LW_OK);
    size_t bytes = lw_weights_bytes(packed);
    *blob = guard((bytes + LW_ALIGN - 1) / LW_ALIGN * LW_ALIGN);
    memcpy(blob->p, lw_weights_blob(packed), bytes);
    lw_weights_destroy(packed);
    args.qw = NULL, args.scale = NULL;
    CHECK(!lw_weights_create(isa, &args, blob->p, bytes - 1, &status) && status == LW_INVALID);
    lw_weights *w = lw_weights_create(isa, &args, blob->p, bytes, &status);
    CHECK(w && status == LW_OK);
    return w;
}

static void check_conv(const lw_conv_args *args, lw_pool *pool) {
    lw_status status;
    lw_conv *conv = lw_conv_create(args, lw_pool_threads(pool), &status);
    CHECK(conv && status == LW_OK);
    CHECK(lw_conv_run(conv, pool) == LW_OK);
    lw_conv_destroy(conv);
}

static void check_refused(const lw_conv_args *args) {
    lw_status status;
    CHECK(!lw_conv_create(args, 1, &status) && status == LW_INVALID);
}

/* Layers that transformed weights cannot have. */
static void check_layers_refused(const lw_conv_args *good) {
    lw_conv_args args = *good, inner = *good;
    lw_max_pool wide = {1, 1, 2, 3, 2, 2, 0, 0}, half = {1, 1, 2, 2, 2, 2, 0, 0};
    args.oh = 1, args.stride_h = 2, check_refused(&args), args = *good;
    args.ow = 2, args.stride_w = 2, check_refused(&args), args = *good;
    args.oh = 1, args.dilation_h = 2, check_refused(&args), args = *good;
    args.ow = 1, check_refused(&args), args = *good;
    args.residual = NULL, args.residual_q = NULL, args.max_pool = NULL;
    inner.activation = LW_NONE, inner.residual = NULL, inner.residual_q = NULL;
    inner.max_pool = NULL, inner.dst = NULL, inner.dst_q = NULL;
    args.shortcut = &inner, check_refused(&args), args.shortcut = NULL;
    args.activation = LW_RELU, args.max_pool = &wide, check_refused(&args);
    args.activation = LW_LEAKY, args.max_pool = &half, check_refused(&args);
    args.activation = LW_CLIP, args.lo = -1.0f, check_refused(&args);
}

/* What is stored, as floats; its windows are those of it. */
static guarded run(const layer *s, const inputs *in, const lw_isa *isa, lw_pool *pool,
                   lw_gemm *gemm) {
    guarded q, scale, q_added, s_added, q_out, s_out, q_two, s_two, blob;
    guarded y = guard((size_t)(s->n * s->yh * s->yw * s->c) * sizeof(float));
    lw_weights *w = map_weights(s, in, isa, &blob);
    lw_tensor src =
        make_tensor(s->n, s->h, s->w, s->ic, s->window, s->zero_point, HALO, s->before, &q, &scale);
    lw_tensor sum = make_tensor(s->n, s->oh, s->ow, s->c, 32, LW_MIDDLE, 0, 0, &q_added, &s_added);
    lw_tensor dst =
        make_tensor(s->n, s->yh, s->yw, s->c, 24, LW_MIDDLE, 1, s->before, &q_out, &s_out);
    lw_tensor two =
        make_tensor(s->n, s->yh, s->yw, s->c, 24, LW_MIDDLE, 1, s->before, &q_two, &s_two);
    CHECK(lw_quantize_tensor(isa, pool, in->x.p, &src) == LW_OK);
    CHECK(lw_quantize_tensor(isa, pool, in->residual.p, &sum) == LW_OK);
    lw_conv_args args = {.src = &src,
                         .weights = w,
                         .bias = in->bias.p,
                         .oh = s->oh,
                         .ow = s->ow,
                         .stride_h = 1,
                         .stride_w = 1,
                         .pad_top = s->top,
                         .pad_left = s->left,
                         .dilation_h = 1,
                         .dilation_w = 1,
                         .residual = s->added == FLOATS ? in->residual.p : NULL,
                         .residual_q = s->added == WINDOWS ? &sum : NULL,
                         .activation = s->activation,
                         .alpha = 0.1f,
                         .lo = s->lo,
                         .hi = 2.0f,
                         .dst = y.p,
                         .gemm = gemm,
                         .max_pool = s->pooled ? &s->pool : NULL};
    set_strides(args.residual_stride, s->oh, s->ow, s->c);
    set_strides(args.dst_stride, s->yh, s->yw, s->c);
    check_conv(&args, pool);
    args.dst = NULL, args.dst_q = &dst;
    check_conv(&args, pool);
    CHECK(lw_quantize_tensor(isa, pool, y.p, &two) == LW_OK);
    size_t pixels = (size_t)(s->n * (s->yh + 2) * (s->yw + 2));
    CHECK(memcmp(s_out.p, s_two.p, pixels * (size_t)dst.pixel_windows * sizeof(float)) == 0);
    for (size_t i = 0; i < pixels; i++)
        CHECK(memcmp(dst.q + i * (size_t)dst.pixel_bytes, two.q + i * (size_t)dst.pixel_bytes,
                     (size_t)s->c) == 0);
    check_layers_refused(&args);
    lw_weights_destroy(w);
    release(q), release(scale), release(q_added), release(s_added);
    release(q_out), release(s_out), release(q_two), release(s_two), release(blob);
    return y;
}

/* What a layer without its maximum stores becomes what the maximum leaves of it. */
static guarded maxima(const layer *s, guarded whole) {
    guarded y = guard((size_t)(s->n * s->yh * s->yw * s->c) * sizeof(float));
    float *to = y.p;
    const float *from = whole.p;
    for (int64_t i = 0; i < s->n * s->yh * s->yw * s->c; i++) to[i] = 0; /* none is below */
    for (int64_t i = 0; i < s->n * s->oh; i++)
        for (int64_t x = 0; x < s->ow; x++)
            for (int64_t c = 0; c < s->c; c++, from++) {
                int64_t row = i % s->oh / 2, at = (i / s->oh * s->yh + row) * s->yw + x / 2;
                if (row >= s->yh || x / 2 >= s->yw) continue;
                if (*from > to[at * s->c + c]) to[at * s->c + c] = *from;
            }
    release(whole);
    return y;
}

static guarded run_apart(const layer *s, const inputs *in, lw_pool *pool) {
    layer bare = *s;
    bare.pooled = 0, bare.yh = s->oh, bare.yw = s->ow;
    guarded y = run(&bare, in, lw_isa_at(0), pool, NULL);
    return s->pooled ? maxima(s, y) : y;
}

/* Weights that cannot be transformed. */
static void check_weights_refused(void) {
    static const lw_weights_args good = {NULL, NULL, 8, 3, 3, 64, 1, 32, 0, LW_MIDDLE, 0, 1};
    const lw_isa *isa = lw_isa_best();
    lw_weights_args wrong[10];
    lw_status status;
    for (int i = 0; i < 10; i++) wrong[i] = good;
    wrong[0].kh = 5, wrong[1].kw = 1, wrong[2].groups = 2, wrong[3].window = 0;
    wrong[4].window = 48, wrong[5].window = 16, wrong[6].weight_window = 32;
    wrong[7].zero_point = 56, wrong[8].fine = 1, wrong[9].ic = wrong[9].window = 288;
    for (int i = 0; i < 10; i++)
        CHECK(!lw_weights_create(isa, wrong + i, NULL, 0, &status) && status == LW_INVALID);
    lw_weights *w = lw_weights_create(isa, &good, NULL, 0, &status);
    CHECK(w && status == LW_OK);
    lw_weights_destroy(w);
}

int main(void) {
    lw_pool *pool[] = {lw_pool_create(1), lw_pool_create(2)};
    CHECK(pool[0] && pool[1]);
    check_weights_refused();
    for (int i = 0; i < LAYERS; i++) {
        layer s = random_layer();
        inputs in = make_inputs(&s);
        guarded want = run_apart(&s, &in, pool[0]);
        size_t bytes = (size_t)(s.n * s.yh * s.yw * s.c) * sizeof(float);
        const lw_isa *isa;
        for (int j = 0; (isa = lw_isa_at(j)); j++)
            for (int k = 0; k < 3; k++) { /* one thread; two; a foreign product */
                guarded got = run(&s, &in, isa, pool[k > 0], k > 1 ? plain_gemm : NULL);
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

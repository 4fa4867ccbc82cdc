/* test_kernels.c - random convolutions by every instruction set, with every array of the caller
 * ending at a guard page: equal bytes, and no access beyond what lw.h allows. */
#include "layers.h"

typedef struct shape {
    int64_t n, h, w, groups, icg, ocg, kh, kw, stride, dilation, pad, window, weight_window;
    int64_t before;
    int zero_point;
    kind kind;
    lw_activation activation;
} shape;

static shape random_shape(void) {
    shape s = {.n = random_in(1, 2),
               .h = random_in(5, 8),
               .w = random_in(5, 9),
               .groups = random_in(1, 3),
               .icg = random_in(1, 40),
               .ocg = random_in(1, 70),
               .kh = random_in(1, 3),
               .kw = random_in(1, 3),
               .stride = random_in(1, 2),
               .dilation = random_in(1, 2),
               .pad = random_in(0, 2),
               .before = random_in(0, 2),
               .zero_point = random_in(0, 1) ? 128 : 0,
               .kind = (kind)random_in(0, KINDS - 1),
               .activation = (lw_activation)random_in(LW_NONE, LW_GELU)};
    if (random_in(0, 3) == 0) {
        s.groups = random_in(2, 70);
        s.icg = s.ocg = 1;
    }
    s.window = random_in(1, s.groups * s.icg + 2);
    s.weight_window = random_in(0, 1) ? random_in(1, s.icg) : 0;
    if (random_in(0, 3) == 0) s.window = s.weight_window = 0; /* mode C */
    return s;
}

typedef struct inputs {
    shape s;
    guarded x, pixels, qw, sb, bias, residual;
    int64_t oh, ow;
    size_t outputs;
} inputs;

static inputs make_inputs(shape s) {
    inputs in = {.s = s};
    int64_t ic = s.groups * s.icg, oc = s.groups * s.ocg, taps = s.kh * s.kw;
    in.oh = (s.h + 2 * s.pad - (s.kh - 1) * s.dilation - 1) / s.stride + 1;
    in.ow = (s.w + 2 * s.pad - (s.kw - 1) * s.dilation - 1) / s.stride + 1;
    in.outputs = (size_t)(s.n * in.oh * in.ow * oc);
    in.x = random_floats((size_t)(s.n * s.h * s.w * ic));
    random_values(s.kind, in.x.p, (size_t)(s.n * s.h * s.w * ic), (size_t)ic);
    in.pixels = guard((size_t)(s.n * s.h * s.w * ic));
    for (int64_t i = 0; i < s.n * s.h * s.w * ic; i++)
        ((uint8_t *)in.pixels.p)[i] = s.kind == SATURATING ? 255 : (uint8_t)random_in(0, 255);
    in.qw = guard((size_t)(oc * taps * s.icg));
    for (int64_t i = 0; i < oc * taps * s.icg; i++)
        ((int8_t *)in.qw.p)[i] = s.kind == SATURATING ? 127 : (int8_t)random_in(-127, 127);
    int64_t scales = s.weight_window ? oc * taps * ceil_div(s.icg, s.weight_window) : oc;
    in.sb = guard((size_t)scales * sizeof(float));
    float unit = s.kind == HUGE_VALUES ? 0x1p-60f : 0x1p-9f; /* no sum overflows */
    for (int64_t i = 0; i < scales; i++) ((float *)in.sb.p)[i] = (float)random_in(0, 999) * unit;
    in.bias = random_floats((size_t)oc);
    in.residual = random_floats(in.outputs);
    return in;
}

static void release_inputs(inputs in) {
    release(in.x);
    release(in.pixels);
    release(in.qw);
    release(in.sb);
    release(in.bias);
    release(in.residual);
}

/* y of one convolution; also checks that the fused quantization equals quantizing y. */
static guarded run(const lw_isa *isa, lw_pool *pool, const inputs *in, lw_gemm *gemm) {
    shape s = in->s;
    guarded q, scale, q_out, scale_out, y = guard(in->outputs * sizeof(float));
    int64_t ic = s.groups * s.icg, oc = s.groups * s.ocg;
    lw_tensor src =
        make_tensor(s.n, s.h, s.w, ic, s.window, s.zero_point, s.pad, s.before, &q, &scale);
    lw_tensor dst = make_tensor(s.n, in->oh, in->ow, oc, 24, 128, 1, s.before, &q_out, &scale_out);
    if (s.window)
        CHECK(lw_quantize_tensor(isa, pool, in->x.p, &src) == LW_OK);
    else
        lw_copy_pixels(pool, in->pixels.p, &src);
    lw_status status;
    lw_weights_args wanted = {.qw = in->qw.p,
                              .scale = in->sb.p,
                              .oc = oc,
                              .kh = s.kh,
                              .kw = s.kw,
                              .ic = ic,
                              .groups = s.groups,
                              .window = s.window,
                              .weight_window = s.weight_window,
                              .zero_point = s.zero_point};
    lw_weights *packed = lw_weights_create(isa, &wanted, NULL, 0, &status);
    CHECK(packed && status == LW_OK);
    wanted.qw = NULL, wanted.scale = NULL;
    size_t bytes = lw_weights_bytes(packed);
    CHECK(!lw_weights_create(isa, &wanted, lw_weights_blob(packed), bytes - 1, &status));
    lw_weights *w = lw_weights_create(isa, &wanted, lw_weights_blob(packed), bytes, &status);
    CHECK(w && status == LW_OK && lw_weights_blob(w) == lw_weights_blob(packed));
    int64_t stride[3] = {in->oh * in->ow * oc, in->ow * oc, oc};
    lw_conv_args args = {.src = &src,
                         .weights = w,
                         .bias = in->bias.p,
                         .oh = in->oh,
                         .ow = in->ow,
                         .stride_h = s.stride,
                         .stride_w = s.stride,
                         .pad_top = s.pad,
                         .pad_left = s.pad,
                         .dilation_h = s.dilation,
                         .dilation_w = s.dilation,
                         .residual = in->residual.p,
                         .activation = s.activation,
                         .alpha = 0.1f,
                         .lo = -1.0f,
                         .hi = 2.0f,
                         .dst = y.p,
                         .dst_q = &dst,
                         .gemm = gemm};
    memcpy(args.residual_stride, stride, sizeof stride);
    memcpy(args.dst_stride, stride, sizeof stride);
    lw_conv *conv = lw_conv_create(&args, lw_pool_threads(pool), &status);
    CHECK(conv && status == LW_OK);
    CHECK(lw_conv_run(conv, pool) == LW_OK);
    guarded q_two, scale_two;
    lw_tensor two = make_tensor(s.n, in->oh, in->ow, oc, 24, 128, 1, s.before, &q_two, &scale_two);
    CHECK(lw_quantize_tensor(isa, pool, y.p, &two) == LW_OK);
    size_t pixels = (size_t)(s.n * (in->oh + 2) * (in->ow + 2));
    size_t scales = pixels * (size_t)dst.pixel_windows * sizeof(float);
    CHECK(memcmp(scale_out.p, scale_two.p, scales) == 0); /* also that of the other channels */
    for (size_t i = 0; i < pixels; i++)
        CHECK(memcmp(dst.q + i * (size_t)dst.pixel_bytes, two.q + i * (size_t)dst.pixel_bytes,
                     (size_t)oc) == 0);
    lw_conv_destroy(conv);
    lw_weights_destroy(w);
    lw_weights_destroy(packed);
    release(q), release(scale), release(q_out), release(scale_out);
    release(q_two), release(scale_two);
    return y;
}

int main(void) {
    lw_pool *pool = lw_pool_create(2);
    CHECK(pool);
    for (int i = 0; i < 150; i++) {
        inputs in = make_inputs(random_shape());
        guarded want = run(lw_isa_at(0), pool, &in, NULL);
        const lw_isa *isa;
        for (int j = 0; (isa = lw_isa_at(j)); j++)
            for (int foreign = 0; foreign < 2; foreign++) {
                guarded got = run(isa, pool, &in, foreign ? plain_gemm : NULL);
                CHECK(memcmp(got.p, want.p, in.outputs * sizeof(float)) == 0);
                release(got);
            }
        add_to_digest(want.p, in.outputs * sizeof(float));
        release(want);
        release_inputs(in);
    }
    printf("%016llx\n", (unsigned long long)digest);
    lw_pool_destroy(pool);
    return 0;
}

/* test_matmul.c - products of two activations by every instruction set, with every array of the
 * caller ending at a guard page: the packed columns are the bytes of the static packer, the results
 * are equal, and nothing is read or written beyond. */
#include "check.h"
#include "weights.h"

typedef struct shape {
    int64_t items, m, n, k, window, gap; /* gap: floats between rows of y that nobody writes */
    int a_turned, b_turned, zero_point, softmax; /* softmax: 2 with a mask */
    kind kind;
} shape;

static shape random_shape(void) {
    shape s = {.items = random_in(1, 3),
               .m = random_in(1, 70),
               .n = random_in(1, 140),
               .k = random_in(1, 140),
               .window = random_in(1, 100),
               .gap = random_in(0, 2),
               .a_turned = (int)random_in(0, 1),
               .b_turned = (int)random_in(0, 1),
               .zero_point = random_in(0, 1) ? 128 : 0,
               .softmax = (int)random_in(0, 2),
               .kind = (kind)random_in(0, KINDS - 1)};
    if (s.kind == HUGE_VALUES) s.kind = NORMAL; /* products would overflow */
    if (s.softmax) s.zero_point = 0;
    return s;
}

static guarded random_matrices(shape s, int64_t rows) {
    size_t count = (size_t)(s.items * rows * s.k);
    guarded g = guard(count * sizeof(float));
    random_values(s.kind, g.p, count, (size_t)s.k);
    return g;
}

/* A plain product in place of MKL's. */
static void plain_gemm(int layout, int trans_a, int trans_b, int offset_c, int m, int n, int k,
                       float alpha, const void *a, int lda, int8_t offset_a, const void *b, int ldb,
                       int8_t offset_b, float beta, int32_t *c, int ldc, const int32_t *offset) {
    (void)layout, (void)trans_a, (void)trans_b, (void)offset_c, (void)alpha;
    (void)offset_a, (void)offset_b, (void)beta;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            int32_t sum = *offset;
            for (int l = 0; l < k; l++)
                sum += ((const uint8_t *)a)[i * lda + l] * ((const int8_t *)b)[l * ldb + j];
            c[i * ldc + j] = sum;
        }
}

static guarded multiply(const lw_isa *isa, lw_pool *pool, shape s, guarded a, guarded b,
                        guarded mask, lw_gemm *gemm) {
    int64_t ldy = s.n + s.gap, floats = (s.items * s.m - 1) * ldy + s.n;
    int64_t at[3][3], pack[3], mask_at[3] = {0};
    guarded y = guard((size_t)floats * sizeof(float));
    for (int64_t i = 0; i < floats; i++) ((float *)y.p)[i] = 7.0f;
    for (int64_t i = 0; i < s.items; i++) {
        pack[i] = i;
        at[0][i] = i * s.m * s.k, at[1][i] = i * s.n * s.k, at[2][i] = i * s.m * ldy;
    }
    lw_matmul_args args = {.items = s.items,
                           .packs = s.items,
                           .m = s.m,
                           .n = s.n,
                           .k = s.k,
                           .window = s.window,
                           .a = a.p,
                           .b = b.p,
                           .mask = s.softmax == 2 ? mask.p : NULL,
                           .y = y.p,
                           .a_at = at[0],
                           .b_at = at[1],
                           .mask_at = mask_at,
                           .y_at = at[2],
                           .pack = pack,
                           .a_stride = {s.a_turned ? 1 : s.k, s.a_turned ? s.m : 1},
                           .b_stride = {s.b_turned ? s.n : 1, s.b_turned ? 1 : s.k},
                           .y_stride = ldy,
                           .mask_stride = s.k,
                           .zero_point = s.zero_point,
                           .softmax = s.softmax > 0,
                           .scale = 0.5f,
                           .gemm = gemm};
    lw_status status;
    lw_matmul *p = lw_matmul_create(isa, &args, lw_pool_threads(pool), &status);
    CHECK(p && status == LW_OK);
    CHECK(lw_matmul_run(p, pool) == LW_OK);
    lw_matmul_destroy(p);
    return y;
}

/* Levels of rows as packed weights, by either packer. */
static void check_packed(const lw_isa *isa, lw_pool *pool, shape s, guarded b) {
    int64_t windows = (s.k - 1) / s.window + 1;
    guarded q = guard((size_t)(s.n * s.k)), levels = guard((size_t)(s.n * s.k));
    guarded scale = guard((size_t)(s.n * windows) * sizeof(float));
    CHECK(lw_quantize_rows(isa, pool, b.p, s.n, s.k, s.window, 128, q.p, scale.p) == LW_OK);
    for (int64_t i = 0; i < s.n * s.k; i++)
        ((int8_t *)levels.p)[i] = (int8_t)(((uint8_t *)q.p)[i] - 128);
    lw_weights_args wanted = {.qw = levels.p,
                              .scale = scale.p,
                              .oc = s.n,
                              .kh = 1,
                              .kw = 1,
                              .ic = s.k,
                              .groups = 1,
                              .window = s.window,
                              .weight_window = s.window < s.k ? s.window : s.k,
                              .zero_point = s.zero_point};
    lw_status status;
    lw_weights *want = lw_weights_create(isa, &wanted, NULL, 0, &status);
    CHECK(want && status == LW_OK);
    wanted.qw = NULL;
    lw_weights *got = lw_weights_create(isa, &wanted, NULL, 0, &status);
    CHECK(got && status == LW_OK);
    enum { PANELS = 64 }; /* columns from which packing may go on */
    for (int64_t n = 0; n < s.n; n += PANELS)
        lw_weights_pack_rows(got, n, s.n - n < PANELS ? s.n - n : PANELS, (uint8_t *)q.p + n * s.k,
                             s.k, (float *)scale.p + n * windows, windows, got->data);
    CHECK(memcmp(lw_weights_blob(got), lw_weights_blob(want), lw_weights_bytes(want)) == 0);
    lw_weights_destroy(want);
    lw_weights_destroy(got);
    release(q), release(levels), release(scale);
}

int main(void) {
    lw_pool *pool = lw_pool_create(2);
    CHECK(pool);
    for (int i = 0; i < 150; i++) {
        shape s = random_shape();
        guarded a = random_matrices(s, s.m), b = random_matrices(s, s.n);
        guarded mask = random_matrices((shape){.items = 1, .k = s.k, .kind = NORMAL}, s.m);
        guarded want = multiply(lw_isa_at(0), pool, s, a, b, mask, NULL);
        size_t bytes = (size_t)((s.items * s.m - 1) * (s.n + s.gap) + s.n) * sizeof(float);
        const lw_isa *isa;
        for (int j = 0; (isa = lw_isa_at(j)); j++) {
            check_packed(isa, pool, s, b);
            for (int foreign = 0; foreign < 2; foreign++) {
                guarded got = multiply(isa, pool, s, a, b, mask, foreign ? plain_gemm : NULL);
                CHECK(memcmp(got.p, want.p, bytes) == 0);
                release(got);
            }
        }
        add_to_digest(want.p, bytes);
        release(a), release(b), release(mask), release(want);
    }
    printf("%016llx\n", (unsigned long long)digest);
    lw_pool_destroy(pool);
    return 0;
}

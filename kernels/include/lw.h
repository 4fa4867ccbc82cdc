/* lw.h - int8 kernels with local quantization windows.
 *
 * Scheme. A real value x is held as one byte q and one float scale that is shared by a window of
 * consecutive channels: x = scale * (q - zero_point), zero_point 0 (values known to be >= 0), 128
 * (signed) or between (skewed: values below 0 are few and small; depthwise layers read no such
 * windows). Weights are int8 in [-127, 127]. The reduction axis K of a convolution or a matrix
 * product is an ordered list of chunks: kernel taps (kh, kw) outside, channels inside, one chunk
 * being a maximal run of channels inside one window. With acc = sum (q - zero_point) * qw over the
 * chunk (exact in int32), for output channel n, from f = +0 and in chunk order:
 *
 *   mode A   f = fma((float)acc, scale[chunk], f);                    y = fma(f, sb[n], bias[n])
 *   mode AW  f = fma((float)acc * sb[n, chunk], scale[chunk], f);     y = f + bias[n]
 *   mode C   y = fma((float)acc, sb[n] * scale[image], bias[n]), one chunk being all of K
 *
 * In mode C a whole image has one scale, which is 1 where the caller multiplied it into sb, and a
 * border of any bytes. In the others taps outside the image contribute exactly 0. Then y +=
 * residual, or y = fma((float)(q - zero_point), scale, y) where it is quantized, the activation,
 * the maximum of each kernel of pixels where one is asked for, the store as float and, in the same
 * pass, the quantization into the windows of the next layer. There is no other rounding, so that
 * every instruction set gives the same bits.
 *
 * Depthwise layers (several groups of one input and one output channel, modes A and AW, at most
 * LW_DEPTHWISE_TAPS taps) add up 16-bit values instead, whose scale the pixels of a tile share.
 * Tiles are LW_DEPTHWISE_TILE outputs high and wide, from output (0, 0) on. With S the largest
 * scale of a window over all pixels between the first and the last that a tile's taps see, F = 2^14
 * / S and U = S / 2^7, or both 0 if S < 2^-112:
 *
 *   R = rint(scale * F);  v = ((q - zero_point) * R) >> 8;  acc = 2 * sum v * qd (int32)
 *   y = fma((float)acc, U * sb[n], bias[n])
 *
 * In mode A, qd = qw. In mode AW, with T the largest scale of the channel's taps and
 * m = min(16, INT32_MAX / (LW_DEPTHWISE_LEVELS * 127 * taps)), sb = T / m and
 * qd = rint(qw * (scale * (m / T))), or both 0 if T < 2^-112. So a pixel keeps its eight bits where
 * its scale is at least S / 64.
 *
 * A depthwise layer of dilation 1 and strides 1 or 2 may name a producer: a dense convolution of
 * one group and several columns, whose y, after its activation, it reads in 16 bits without windows
 * of bytes between them. With T the largest |y| of a row and LW_FUSED_WINDOW channels, or hi where
 * the activation is a clip from 0 to an hi of 2^-100..2^100, and k the largest integer with T * 2^k
 * <= LW_DEPTHWISE_LEVELS / 2:
 *
 *   v = rint(y * 2^k), ties to even, or 0 if T < 2^-100
 *
 * The sums of an output row, those of 3x3 at stride 1 of rows 2j and 2j + 1 together, take the
 * least k of their source rows that are not 0 throughout, K, as their own: acc = 2 * sum (v >>
 * min(k - K, 15)) * qd and U = 2^(-K - 1).
 *
 * Weights of mode A for 3 x 3 kernels may be those of Winograd's F(2, 3) along y: two lines of
 * output take four products of one kernel row instead of six. Of the source lines d[0..3] that
 * output lines 2 t and 2 t + 1 see, each pixel and window has, with S the largest of its four
 * scales s[i] and all numbers integers,
 *
 *   r[i] = rint(s[i] * (16384 / S));  v[i] = ((((q[i] - zero_point) << 7) * r[i] >> 14) + 1) >> 1
 *   D = v[0] - v[2], v[1] + v[2], v[2] - v[1], v[1] - v[3]
 *
 * or r = 0 where S < 2^-100. Of each D, with m the largest of its |D| and L = 127, or 255 for D[1]
 * where zero_point is 0,
 *
 *   r = min(32767, rint(L * 32768 / m));  q = zero point + (((D * r >> 14) + 1) >> 1)
 *   scale = S / 64 * (32768 / r)
 *
 * q is kept from 0 to 255; the zero point is 128, or 0 where L is 255. With x[i] the sums of line i
 * in mode A, b = bias in x[1] and 0 in the others: y(2 t) = x[0] + (x[1] + x[2]) and y(2 t + 1) =
 * x[3] + (x[1] - x[2]).
 *
 * Overflow: a chunk holds at most LW_MAX_CHUNK = 512 products of at most 255 * 127 < 2^24 / 512,
 * hence acc fits in int32 and (float)acc is exact. In mode C, K <= LW_MAX_DEPTH keeps acc in int32;
 * (float)acc rounds to nearest, ties to even.
 *
 * Thread safety: functions that take const objects may run at once from several threads; two runs
 * of one lw_conv, or two runs on one lw_pool, exclude each other by the lock of the pool.
 */
#ifndef LW_H
#define LW_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LW_MAX_CHUNK = 512,
    LW_MAX_DEPTH = 66311, /* INT32_MAX / (255 * 127) */
    LW_MAX_PLANES = 3,
    LW_MIDDLE = 128, /* zero point of signed levels */
    LW_DEPTHWISE_TILE = 14,
    LW_DEPTHWISE_LEVELS = 255 << 7, /* the most that 2 * |v| is */
    LW_DEPTHWISE_TAPS = 518,        /* INT32_MAX / (LW_DEPTHWISE_LEVELS * 127) */
    LW_REST = 16,                   /* steps of rests in a level */
    LW_FINE_LEVELS = 16 * 127,
    LW_FUSED_WINDOW = 64, /* a multiple of all nr */
    LW_LINES = 4,         /* source lines of two lines of output, and transformed ones */
    LW_SUM_LINE = 1,      /* the one that is a sum */
    LW_LINE_WINDOW = 256, /* its longest window */
    LW_LINE_STEP = 16,    /* what divides its only window; twice that divides several */
    LW_MAX_POOL = 4,      /* rows and columns of a lw_max_pool */
    LW_SLACK = 64,
    LW_ALIGN = 64
};

typedef enum lw_status {
    LW_OK = 0,
    LW_NONFINITE = 1, /* a value to be quantized is NaN or infinite */
    LW_NOMEM = 2,     /* an allocation failed */
    LW_INVALID = 3    /* LW_MAX_CHUNK or LW_MAX_DEPTH is exceeded, or a size overflows */
} lw_status;

typedef enum lw_mode { LW_A = 0, LW_AW = 1, LW_C = 2, LW_MODES = 3 } lw_mode;

typedef enum lw_activation {
    LW_NONE = 0,
    LW_RELU = 1,      /* y > 0 ? y : 0 */
    LW_CLIP = 2,      /* min(max(y, lo), hi) */
    LW_LEAKY = 3,     /* y > 0 ? y : y * alpha */
    LW_HARDSWISH = 4, /* y * min(max(fma(y, 1/6, 1/2), 0), 1) */
    LW_SILU = 5,      /* y / (1 + exp(-y)), exp by a polynomial that all instruction sets share */
    LW_GELU = 6       /* y / 2 * (1 + erf(y / sqrt 2)), erf by a quotient of polynomials */
} lw_activation;

/* ---- instruction sets ------------------------------------------------------------------- */

typedef struct lw_isa lw_isa;

const lw_isa *lw_isa_find(const char *name); /* NULL: unknown, or this CPU lacks it */
const lw_isa *lw_isa_best(void);
const lw_isa *lw_isa_at(int i); /* i-th supported one, weakest first; NULL after the last */
const char *lw_isa_name(const lw_isa *isa);
void lw_isa_tile(const lw_isa *isa, int *mr, int *nr, int *kr);

/* Runs the dot instruction alone, `steps` register tiles; returns the multiplications done, to be
 * divided by the time that the caller takes. */
int64_t lw_isa_peak(const lw_isa *isa, int64_t steps);

/* Loads n ints, or copies them, `times` over, by whole vectors and nothing else; returns the bytes
 * read and written. n that is no multiple of eight vectors: the rest is left out. */
int64_t lw_isa_read(const lw_isa *isa, const int32_t *x, int64_t n, int64_t times);
int64_t lw_isa_copy(const lw_isa *isa, const int32_t *x, int32_t *y, int64_t n, int64_t times);

/* ---- worker pool ------------------------------------------------------------------------ */

typedef struct lw_pool lw_pool;
typedef void lw_task(void *context, int64_t index, int worker);

lw_pool *lw_pool_create(int threads); /* 1..256; workers start at the first run; NULL: no memory */
void lw_pool_destroy(lw_pool *pool);
int lw_pool_threads(const lw_pool *pool);

/* Runs task(context, i, worker) once for every i in [0, count), worker in [0, threads); returns
 * when all have ended. The caller is worker 0. Calls from several threads wait for each other.
 * After fork() the child starts workers of its own. Tasks run in the default floating point
 * environment (no flush to zero), whatever the caller's is. */
void lw_pool_run(lw_pool *pool, int64_t count, lw_task *task, void *context);

/* ---- tensors ---------------------------------------------------------------------------- */

/* Quantized NHWC tensor with a border of zero_point around every image, or a range of the channels
 * of one: then q and scale are at its first channel, which begins a window.
 * q     : u8 (n, h + top + bottom, w + left + right, pixel_bytes), of which c count; pixel_bytes
 *         is c of the whole rounded up to 4, but c itself in mode C with fewer than four channels;
 *         LW_SLACK readable bytes follow the last pixel.
 * scale : f32 (n, h + top + bottom, w + left + right, pixel_windows), of which windows count; 0 in
 *         the border. NULL in mode C: no windows, and border pixels are `border`, repeated every
 *         four channels, of which fewer count where there are fewer.
 * image_scale : f32 (n), of mode C; NULL: all are 1.
 * rests : the second half of the channels, in the only window and with a zero_point of LW_REST / 2
 *         to 127, says what rounding took off the first: q = zero_point + rint(LW_REST *
 *         (v - rint(v))), v being x * (L / m) of lw_quantize_rows. Only convolutions make such a
 *         tensor, of half as many output channels.
 * The caller owns the memory of both. */
typedef struct lw_tensor {
    uint8_t *q;
    float *scale, *image_scale;
    int64_t n, h, w, c;
    int64_t top, left, bottom, right;
    int64_t pixel_bytes, pixel_windows; /* from one pixel to the next */
    int64_t window, windows;
    int zero_point, rests;
    uint8_t border[4]; /* of mode C */
    int shared;        /* other tensors use the same memory: producers write the border again */
} lw_tensor;

void lw_tensor_fill_border(const lw_tensor *t, int64_t image); /* of its own channels */

/* x : f32 (rows, c) with `row_stride` floats between rows. q : u8 rows of q_stride bytes.
 * scale : f32 (rows, ceil(c / window)). m = max |x| over the window; below 2^-100 the scale is 0
 * and q = zero_point; else scale = m / L and q = zero_point + rint(x * (L / m)), ties to even,
 * L = 127 (zero_point 128), 255 (zero_point 0, negative x give 0 and do not count in m) or the
 * zero_point (1..127, positive x count in m as x * (L / (255 - L))).
 * Returns LW_NONFINITE if any x is NaN or infinite. */
lw_status lw_quantize_rows(const lw_isa *isa, lw_pool *pool, const float *x, int64_t rows,
                           int64_t c, int64_t window, int zero_point, uint8_t *q, float *scale);

/* x : f32 (rows, c) = scale * (q - zero_point). */
void lw_dequantize_rows(const uint8_t *q, const float *scale, int64_t rows, int64_t c,
                        int64_t window, int zero_point, float *x);

/* src : f32 NHWC, C-contiguous, the shape of dst. */
lw_status lw_quantize_tensor(const lw_isa *isa, lw_pool *pool, const float *src,
                             const lw_tensor *dst);

/* src : f32 (n, c, h, w), C-contiguous; dst : a signed tensor of mode C with image_scale and at
 * most LW_MAX_PLANES channels. Each image is one window. */
lw_status lw_quantize_planes(const lw_isa *isa, lw_pool *pool, const float *src,
                             const lw_tensor *dst);

/* src : u8 NHWC, C-contiguous, the shape of dst, a tensor of mode C. Each image_scale becomes 1. */
void lw_copy_pixels(lw_pool *pool, const uint8_t *src, const lw_tensor *dst);

/* f32 (n, c, h * w) <-> (n, h * w, c), both C-contiguous, not overlapping. */
void lw_to_nhwc(lw_pool *pool, const float *src, float *dst, int64_t n, int64_t c, int64_t pixels);
void lw_to_nchw(lw_pool *pool, const float *src, float *dst, int64_t n, int64_t c, int64_t pixels);

/* ---- weights ---------------------------------------------------------------------------- */

typedef struct lw_weights lw_weights;

/* qw    : (oc, kh, kw, ic / groups), C-contiguous: s8 in [-127, 127], or s16 if `fine`.
 * scale : f32, (oc) if weight_window is 0 (mode A), else
 *         (oc, kh, kw, ceil(ic / groups / weight_window)) (mode AW).
 * window: channels of one activation window, counted from channel 0 of all ic channels; 0: mode C,
 *         without weight windows.
 *
 * Fine weights are those of mode A in [-LW_FINE_LEVELS, LW_FINE_LEVELS]. They are the qd of a
 * depthwise layer, where taps * LW_FINE_LEVELS * LW_DEPTHWISE_LEVELS must fit in int32. Elsewhere a
 * chunk becomes two, of q1 = (q + 8) >> 4 and of q - 16 * q1, in mode AW with scales of 16 * scale
 * and scale.
 *
 * With `winograd`, (oc, kh, kw, ic) are (oc, 3, 3, ic) of one group, window divides ic or exceeds
 * it, is a multiple of LW_LINE_STEP, of twice that where it divides ic, and at most LW_LINE_WINDOW.
 * qw : s8 (LW_LINES, oc, 3, ic), of kernel rows g[0..2] g[0], (g[0] + g[1] + g[2]) / 2, (g[0] -
 * g[1] + g[2]) / 2 and -g[2], each rounded with its scale : f32 (LW_LINES, oc). */
typedef struct lw_weights_args {
    const void *qw;
    const float *scale;
    int64_t oc, kh, kw, ic, groups, window, weight_window;
    int zero_point, fine, winograd;
} lw_weights_args;

/* Packs the numbers of args, or, where a blob is given, takes them from it as they are: it came
 * from lw_weights_blob of the same instruction set and the same args but for qw and scale, which
 * are not read; it is aligned to LW_ALIGN and outlives the weights. Any bytes of the right number
 * are safe. With neither a blob nor qw, all numbers are 0. Copies everything else that it needs.
 * NULL and *status on failure: LW_INVALID also for a blob of another length. */
lw_weights *lw_weights_create(const lw_isa *isa, const lw_weights_args *args, const void *blob,
                              size_t blob_bytes, lw_status *status);
const void *lw_weights_blob(const lw_weights *w); /* lw_weights_bytes(w) of them, read only */
void lw_weights_destroy(lw_weights *w);
size_t lw_weights_bytes(const lw_weights *w);
int lw_weights_is_depthwise(const lw_weights *w);

/* ---- convolution and matrix product ----------------------------------------------------- */

/* MKL's cblas_gemm_s8u8s32 with 32 bit integers. Row-major: a is u8 (m, k), b is s8 (k, n). */
typedef void lw_gemm(int layout, int trans_a, int trans_b, int offset_c, int m, int n, int k,
                     float alpha, const void *a, int lda, int8_t offset_a, const void *b, int ldb,
                     int8_t offset_b, float beta, int32_t *c, int ldc, const int32_t *offset);

/* The maximum of each kernel of pixels, of which at least one lies in the image; others do not
 * count. */
typedef struct lw_max_pool {
    int64_t oh, ow; /* of the maxima */
    int64_t kh, kw, stride_h, stride_w, pad_top, pad_left;
} lw_max_pool;

typedef struct lw_conv_args {
    const lw_tensor *src;
    const lw_weights *weights;
    const float *bias; /* (oc) or NULL; copied */
    int64_t oh, ow;
    int64_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    const float *residual;       /* f32 (n, oh, ow, oc) or NULL */
    int64_t residual_stride[3];  /* floats between n, oh, ow */
    const lw_tensor *residual_q; /* instead, (n, oh, ow, oc), windows as lw_residual_shift asks */
    lw_activation activation;
    float alpha, lo, hi;
    float *dst; /* f32 (n, oh, ow, oc) or NULL */
    int64_t dst_stride[3];
    const lw_tensor *dst_q; /* or NULL */
    lw_gemm *gemm;          /* NULL: our own product */
    /* NULL, or of a depthwise layer instead of src: a convolution without residual, dst and dst_q,
     * which is not read after lw_conv_create. LW_INVALID if the two cannot be one layer. */
    const struct lw_conv_args *producer;
    /* NULL, or instead of a residual a convolution to the same (n, oh, ow, oc), without producer,
     * residual, activation, dst and dst_q: its sums are added. Neither layer is depthwise, and both
     * have windows and one group, else LW_INVALID. Not read after lw_conv_create. */
    const struct lw_conv_args *shortcut;
    /* NULL, or what follows the activation: dst and dst_q are those of the maxima, (n,
     * max_pool->oh, max_pool->ow, oc), oh and ow still those of the convolution. Kernels of at most
     * LW_MAX_POOL and of more than the padding; several columns, one group, no depthwise layer,
     * producer, residual or shortcut, else LW_INVALID. Not read after lw_conv_create. Values that
     * the activation makes 0 anyway need not be finite. */
    const lw_max_pool *max_pool;
    /* Weights made with `winograd` want strides and dilations of 1, several columns, no producer
     * and no shortcut, and a max_pool of 2 x 2 at stride 2 without padding behind what makes values
     * below 0 one and the same; else LW_INVALID. */
} lw_conv_args;

typedef struct lw_conv lw_conv;

/* Log2 of the window of a tensor that can be a residual, -1 if it cannot: its window is a power of
 * two of 16 or more, or all its channels. */
int lw_residual_shift(const lw_tensor *t);

/* Plans a convolution; every tap must stay inside the bordered src. A matrix product (m, k) is a
 * convolution over a tensor of shape (1, 1, m, k). All memory is allocated here. The objects that
 * args names must outlive the plan. NULL and *status on failure. */
lw_conv *lw_conv_create(const lw_conv_args *args, int threads, lw_status *status);
lw_status lw_conv_run(lw_conv *conv, lw_pool *pool);
void lw_conv_destroy(lw_conv *conv);

/* ---- product of two activations ---------------------------------------------------------- */

/* y = scale * a b for every item i, as in mode AW: both factors are quantized at every run, the
 * rows of a and the columns of b into windows along K, as lw_quantize_rows has it. From f = +0 and
 * in the order of K, f = fma((float)acc * sb[n, window], sa[m, window], f); then y = fma(f, scale,
 * +0). a : f32 (m, k), its first element a_at[i] floats from a, a_stride floats from row to row and
 * from column to column; zero_point is that of its levels. b : f32 (k, n), number pack[i] of the
 * `packs` matrices that begin b_at floats from b; signed. softmax : a is softmax(a + mask) along K
 * instead; zero_point is 0 then. With t = a + mask, e is exp(t - max t), exp as in LW_SILU; the
 * windows are those of e, their scales times 1 / sum e. The sum has 16 lanes, one for each k mod
 * 16, of which the upper half is added to the lower one until one is left. mask : f32 (m, k) at
 * mask_at[i], columns adjacent, mask_stride floats (or none) from row to row; NULL: none. y : f32
 * (m, n), columns adjacent, y_stride floats from row to row; no two items share an element, none an
 * element of a or b. The caller owns the memory; a_at, mask_at, y_at and pack, (items), and b_at,
 * (packs), are copied. window <= LW_MAX_CHUNK. */
typedef struct lw_matmul_args {
    int64_t items, packs, m, n, k, window;
    const float *a, *b, *mask;
    float *y;
    const int64_t *a_at, *mask_at, *y_at, *pack, *b_at;
    int64_t a_stride[2], b_stride[2], mask_stride, y_stride;
    int zero_point, softmax;
    float scale;
    lw_gemm *gemm; /* NULL: our own product */
} lw_matmul_args;

typedef struct lw_matmul lw_matmul;

/* All memory is allocated here. NULL and *status on failure. lw_matmul_run gives LW_NONFINITE if a
 * or b holds NaN or infinity; with softmax, if a + mask does, but for single -inf in a row. */
lw_matmul *lw_matmul_create(const lw_isa *isa, const lw_matmul_args *args, int threads,
                            lw_status *status);
lw_status lw_matmul_run(lw_matmul *matmul, lw_pool *pool);
void lw_matmul_destroy(lw_matmul *matmul);

/* ---- pooling ---------------------------------------------------------------------------- */

/* Maximum, or sum in tap order times 1 / count, of the pixels of a window that lie in the image;
 * a quantized pixel counts as scale * (q - zero_point).
 * src        : f32 (n, h, w, c), channels adjacent; NULL where src_q is given.
 * count_pads : the average also counts padding (as zeros).
 * dst, dst_q : as for a convolution. Every output pixel must see at least one pixel. */
typedef struct lw_pooling_args {
    const float *src;
    int64_t src_stride[3]; /* floats between n, h, w */
    const lw_tensor *src_q;
    int64_t n, h, w, c;
    int average, count_pads;
    int64_t kh, kw, stride_h, stride_w, dilation_h, dilation_w;
    int64_t pad_top, pad_left, pad_bottom, pad_right;
    float *dst;
    int64_t dst_stride[3];
    const lw_tensor *dst_q;
} lw_pooling_args;

typedef struct lw_pooling_plan lw_pooling_plan;

/* All memory is allocated here; the objects that args names must outlive the plan. NULL: no
 * memory. lw_pooling_run gives LW_NONFINITE if a value to be quantized is NaN or infinite. */
lw_pooling_plan *lw_pooling_create(const lw_isa *isa, const lw_pooling_args *args, int64_t oh,
                                   int64_t ow, int threads);
lw_status lw_pooling_run(lw_pooling_plan *plan, lw_pool *pool);
void lw_pooling_destroy(lw_pooling_plan *plan);

/* ---- nearest neighbours ----------------------------------------------------------------- */

/* Pixel (y, x) of the output is a copy of pixel (rows[y], columns[x]) of the image.
 * src, src_q : the image, f32 (n, h, w, c) with channels adjacent, or quantized; one is NULL.
 * dst, dst_q : the output (n, oh, ow, c) of the same kind; windows and zero point are those of
 * src_q. rows       : oh of 0..h - 1. columns : ow of 0..w - 1. */
typedef struct lw_nearest_args {
    const float *src;
    int64_t src_stride[3]; /* floats between n, h, w */
    const lw_tensor *src_q;
    int64_t n, c, oh, ow;
    const int32_t *rows, *columns;
    float *dst;
    int64_t dst_stride[3];
    const lw_tensor *dst_q;
} lw_nearest_args;

void lw_nearest(lw_pool *pool, const lw_nearest_args *args);

/* ---- linear interpolation --------------------------------------------------------------- */

/* Pixel (y, x) of the output lies row_part[y] of the way from row row[y] of the image to the next
 * one, and likewise between columns. With b(u, v, t) = u + (v - u) * t, not fused, it is
 * b(b(p00, p01, column_part[x]), b(p10, p11, column_part[x]), row_part[y]); where a part is 0 there
 * need be no next row or column.
 * src         : f32 (n, h, w, c), channels adjacent.
 * row, column : oh of 0..h - 1; ow of 0..w - 1. Parts: in [0, 1).
 * dst         : f32 (n, oh, ow, c), channels adjacent. */
typedef struct lw_linear_args {
    const float *src;
    int64_t src_stride[3]; /* floats between n, h, w */
    int64_t n, c, oh, ow;
    const int32_t *row, *column;
    const float *row_part, *column_part;
    float *dst;
    int64_t dst_stride[3];
} lw_linear_args;

void lw_linear(const lw_isa *isa, lw_pool *pool, const lw_linear_args *args);

/* ---- arithmetic of columns -------------------------------------------------------------- */

enum { LW_MAX_COLUMNS = 64 }; /* of a result */

typedef enum lw_column_op {
    LW_ADD = 0,
    LW_SUB = 1,
    LW_MUL = 2,
    LW_DIV = 3,
    LW_MAX = 4, /* a > b ? a : b */
    LW_EXP = 5  /* of a, as in LW_SILU: of [-87, 88] */
} lw_column_op;

/* Rows [first, first + rows) of every image, of n columns from `column` on.
 * x : f32 (images, rows, n), C-contiguous. */
typedef struct lw_columns_part {
    const float *x;
    int64_t first, rows, n, column;
} lw_columns_part;

typedef struct lw_columns_step {
    int32_t op, a, b; /* lw_column_op; columns */
} lw_columns_step;

/* A matrix of few columns from others, row by row: what a detector does with boxes and scores.
 * Columns are numbered: those of the parts, whose first is 0, then the constants, then the result
 * of each step in turn, which reads columns before its own.
 * part     : (parts), which give every row of each of their columns once.
 * constant : f32 (constants, rows), the same for every image; copied, as are part, step, result.
 * result   : (n) columns, n <= LW_MAX_COLUMNS.
 * y        : f32 (images, rows, n), C-contiguous; shares nothing with the parts. */
typedef struct lw_columns_args {
    int64_t images, rows, parts, constants, steps, n;
    const lw_columns_part *part;
    const float *constant;
    const lw_columns_step *step;
    const int32_t *result;
    float *y;
} lw_columns_args;

typedef struct lw_columns lw_columns;

/* All memory is allocated here. NULL: no memory. */
lw_columns *lw_columns_create(const lw_isa *isa, const lw_columns_args *args, int threads);
void lw_columns_run(lw_columns *columns, lw_pool *pool);
void lw_columns_destroy(lw_columns *columns);

#ifdef __cplusplus
}
#endif
#endif

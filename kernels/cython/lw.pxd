# The C interface, as declared in kernels/include/lw.h.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t

cdef extern from "lw.h" nogil:
    enum: LW_SLACK, LW_ALIGN, LW_MIDDLE, LW_MAX_PLANES, LW_MAX_CHUNK, LW_MAX_DEPTH
    enum: LW_REST, LW_FINE_LEVELS, LW_MAX_POOL, LW_DEPTHWISE_LEVELS, LW_DEPTHWISE_TAPS
    enum: LW_LINES, LW_LINE_STEP, LW_LINE_WINDOW
    ctypedef enum lw_status:
        LW_OK, LW_NONFINITE, LW_NOMEM, LW_INVALID
    ctypedef enum lw_activation:
        LW_NONE, LW_RELU, LW_CLIP
    ctypedef struct lw_isa
    ctypedef struct lw_pool
    ctypedef struct lw_weights
    ctypedef struct lw_conv
    ctypedef struct lw_tensor:
        uint8_t *q
        float *scale
        float *image_scale
        int64_t n, h, w, c, top, left, bottom, right
        int64_t pixel_bytes, pixel_windows, window, windows
        int zero_point, shared, rests
        uint8_t border[4]
    ctypedef struct lw_weights_args:
        const void *qw
        const float *scale
        int64_t oc, kh, kw, ic, groups, window, weight_window
        int zero_point, fine, winograd
    ctypedef void lw_gemm(int, int, int, int, int, int, int, float, const void *, int, int8_t,
                          const void *, int, int8_t, float, int32_t *, int,
                          const int32_t *) noexcept nogil
    ctypedef struct lw_max_pool:
        int64_t oh, ow, kh, kw, stride_h, stride_w, pad_top, pad_left
    ctypedef struct lw_conv_args:
        const lw_tensor *src
        const lw_weights *weights
        const float *bias
        int64_t oh, ow, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w
        const float *residual
        int64_t residual_stride[3]
        const lw_tensor *residual_q
        lw_activation activation
        float alpha, lo, hi
        float *dst
        int64_t dst_stride[3]
        const lw_tensor *dst_q
        lw_gemm *gemm
        const lw_conv_args *producer
        const lw_conv_args *shortcut
        const lw_max_pool *max_pool
    int lw_residual_shift(const lw_tensor *)
    const lw_isa *lw_isa_find(const char *)
    const lw_isa *lw_isa_best()
    const lw_isa *lw_isa_at(int)
    const char *lw_isa_name(const lw_isa *)
    int64_t lw_isa_peak(const lw_isa *, int64_t)
    int64_t lw_isa_read(const lw_isa *, const int32_t *, int64_t, int64_t)
    int64_t lw_isa_copy(const lw_isa *, const int32_t *, int32_t *, int64_t, int64_t)
    void lw_isa_tile(const lw_isa *, int *, int *, int *)
    lw_pool *lw_pool_create(int)
    void lw_pool_destroy(lw_pool *)
    int lw_pool_threads(const lw_pool *)
    void lw_pool_run(lw_pool *, int64_t, void (*)(void *, int64_t, int) noexcept nogil, void *)
    void lw_tensor_fill_border(const lw_tensor *, int64_t)
    lw_status lw_quantize_rows(const lw_isa *, lw_pool *, const float *, int64_t, int64_t, int64_t,
                               int, uint8_t *, float *)
    void lw_dequantize_rows(const uint8_t *, const float *, int64_t, int64_t, int64_t, int, float *)
    lw_status lw_quantize_tensor(const lw_isa *, lw_pool *, const float *, const lw_tensor *)
    lw_status lw_quantize_planes(const lw_isa *, lw_pool *, const float *, const lw_tensor *)
    void lw_copy_pixels(lw_pool *, const uint8_t *, const lw_tensor *)
    void lw_to_nhwc(lw_pool *, const float *, float *, int64_t, int64_t, int64_t)
    void lw_to_nchw(lw_pool *, const float *, float *, int64_t, int64_t, int64_t)
    lw_weights *lw_weights_create(const lw_isa *, const lw_weights_args *, const void *, size_t,
                                  lw_status *)
    const void *lw_weights_blob(const lw_weights *)
    void lw_weights_destroy(lw_weights *)
    size_t lw_weights_bytes(const lw_weights *)
    int lw_weights_is_depthwise(const lw_weights *)
    ctypedef struct lw_pooling_args:
        const float *src
        int64_t src_stride[3]
        const lw_tensor *src_q
        int64_t n, h, w, c
        int average, count_pads
        int64_t kh, kw, stride_h, stride_w, dilation_h, dilation_w
        int64_t pad_top, pad_left, pad_bottom, pad_right
        float *dst
        int64_t dst_stride[3]
        const lw_tensor *dst_q
    ctypedef struct lw_pooling_plan
    lw_pooling_plan *lw_pooling_create(const lw_isa *, const lw_pooling_args *, int64_t, int64_t,
                                       int)
    lw_status lw_pooling_run(lw_pooling_plan *, lw_pool *)
    void lw_pooling_destroy(lw_pooling_plan *)
    ctypedef struct lw_nearest_args:
        const float *src
        int64_t src_stride[3]
        const lw_tensor *src_q
        int64_t n, c, oh, ow
        const int32_t *rows
        const int32_t *columns
        float *dst
        int64_t dst_stride[3]
        const lw_tensor *dst_q
    void lw_nearest(lw_pool *, const lw_nearest_args *)
    ctypedef struct lw_linear_args:
        const float *src
        int64_t src_stride[3]
        int64_t n, c, oh, ow
        const int32_t *row
        const int32_t *column
        const float *row_part
        const float *column_part
        float *dst
        int64_t dst_stride[3]
    void lw_linear(const lw_isa *, lw_pool *, const lw_linear_args *)
    enum:
        LW_MAX_COLUMNS
        LW_EXP
    ctypedef struct lw_columns_part:
        const float *x
        int64_t first, rows, n, column
    ctypedef struct lw_columns_step:
        int32_t op, a, b
    ctypedef struct lw_columns_args:
        int64_t images, rows, parts, constants, steps, n
        const lw_columns_part *part
        const float *constant
        const lw_columns_step *step
        const int32_t *result
        float *y
    ctypedef struct lw_columns
    lw_columns *lw_columns_create(const lw_isa *, const lw_columns_args *, int)
    void lw_columns_run(lw_columns *, lw_pool *)
    void lw_columns_destroy(lw_columns *)
    lw_conv *lw_conv_create(const lw_conv_args *, int, lw_status *)
    lw_status lw_conv_run(lw_conv *, lw_pool *)
    void lw_conv_destroy(lw_conv *)
    ctypedef struct lw_matmul_args:
        int64_t items, packs, m, n, k, window
        const float *a
        const float *b
        const float *mask
        float *y
        const int64_t *a_at
        const int64_t *mask_at
        const int64_t *y_at
        const int64_t *pack
        const int64_t *b_at
        int64_t a_stride[2]
        int64_t b_stride[2]
        int64_t mask_stride
        int64_t y_stride
        int zero_point
        int softmax
        float scale
        lw_gemm *gemm
    ctypedef struct lw_matmul
    lw_matmul *lw_matmul_create(const lw_isa *, const lw_matmul_args *, int, lw_status *)
    lw_status lw_matmul_run(lw_matmul *, lw_pool *)
    void lw_matmul_destroy(lw_matmul *)

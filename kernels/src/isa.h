/* isa.h - the table that one instruction set fills: tile geometry and kernels. */
#ifndef LW_SRC_ISA_H
#define LW_SRC_ISA_H

#include "lw.h"

enum { LW_MR_MAX = 14, LW_DEPTHWISE_ROWS = 4, LW_FINISH_ROWS = 32, LW_VW_MAX = 16 };

/* One chunk of the reduction, seen from the first tap of an output pixel. */
typedef struct lw_win {
    int32_t a_off; /* bytes from the pixel's base in q */
    int32_t s_off; /* floats from the pixel's base in scale */
    int32_t k4;    /* steps of four channels */
    int32_t b_off; /* bytes from the panel's base */
} lw_win;

/* Where the sums of `rows` pixels by one panel go: y[i][at + j] = fma(f, sb[j], bias[j]), j < n.
 * sb and bias are nr long. With `ahead`, lines of so many pixels are fetched at every chunk. */
typedef struct lw_out {
    const float *sb, *bias;
    float *const *y;
    int64_t at, n;
    int rows, ahead;
} lw_out;

/* What becomes of the sums of a few output pixels: y = fma(f, sb, bias), residual, activation,
 * then the stores. Pointers are at the first of the n channels, arrays hold one per pixel. */
typedef struct lw_post {
    lw_activation activation;
    float alpha, lo, hi;
    int64_t n;
    const float *sb, *bias;       /* NULL: the sums are y already */
    const float *const *residual; /* or NULL */
    float *const *dst;            /* or NULL */
    uint8_t *const *q;            /* or NULL; then the rest does not count */
    float *const *scale;
    int64_t window;
    int zero_point;
} lw_post;

/* One panel times pixels, a multiple of the tile's. a[i], sa[i] : base of pixel i; a has those of
 * one tile more, which may be fetched but are not read; b : panel.
 * Panel, per chunk: s32 comp[nr]; f32 sb[nr] (mode AW only); s8 q[k4][nr][4]. In mode C: one
 * comp[nr] for all chunks at the base of the panel, and one scale at sa[i]. */
typedef void lw_dot(int windows, const lw_win *win, const uint8_t *const *a, const float *const *sa,
                    const uint8_t *b, const lw_out *out);

/* `rows` pixels (at most LW_DEPTHWISE_ROWS) of a depthwise layer, channels [c0, c1) of one window:
 * f[i * ldf + c] for c in the range. Rows of comp, w (s32 each) and sb (f32; NULL in mode A) are
 * ldw apart, one per tap. Reads and writes up to one vector beyond c1. */
typedef void lw_depthwise(int rows, int taps, const lw_win *win, const uint8_t *const *a,
                          const float *const *sa, const int32_t *comp, const int32_t *w,
                          const float *sb, ptrdiff_t ldw, int64_t c0, int64_t c1, float *f,
                          ptrdiff_t ldf);

/* Maxima of one window of several rows, lane by lane, and what takes their values to levels. */
typedef struct lw_maxima {
    /* bits of the largest |x| if signed, else of x or 0 */
    _Alignas(LW_ALIGN) int32_t top[LW_FINISH_ROWS * LW_VW_MAX];
    int32_t any[LW_VW_MAX]; /* of the largest |x| of all rows */
    float factor[LW_FINISH_ROWS];
} lw_maxima;

/* From top: factors, and scales to scale[i][at]. Nonzero if a value was NaN or infinite. */
typedef int lw_scales(lw_maxima *m, int rows, int zero_point, float *const *scale, int64_t at);

/* n values of each row of x, ldx apart, become levels at q[i] + at. */
typedef struct lw_levels {
    int rows, zero_point;
    int floor; /* negative values become 0 */
    const float *x;
    ptrdiff_t ldx;
    const float *factor;
    uint8_t *const *q;
    int64_t at, n;
} lw_levels;

typedef void lw_write(const lw_levels *levels);

/* rows (at most LW_FINISH_ROWS) of sums f, ldf apart, become y; f may be overwritten. Reads up to
 * one vector beyond n. */
typedef lw_status lw_finish(const lw_post *post, int rows, float *f, ptrdiff_t ldf);

/* Rows of n floats, ldx apart, to rows of q, ldq bytes apart, and of scale, lds floats apart. */
typedef lw_status lw_quantize(int64_t rows, const float *x, ptrdiff_t ldx, int64_t n,
                              int64_t window, int zero_point, uint8_t *q, ptrdiff_t ldq,
                              float *scale, ptrdiff_t lds);

/* Bits of the largest |x|, which order as the numbers do; those of infinity or NaN if one is in x. */
typedef int32_t lw_largest(const float *x, int64_t n);

/* q[4 i + j] = 128 + rint(x[j * stride + i] * factor) for the c planes j of n pixels i; the bytes
 * beyond c become 0. */
typedef void lw_planes(const float *x, int64_t stride, int64_t c, int64_t n, float factor,
                       uint8_t *q);

/* f[j] = fma((float)(acc[j] + comp[j]) (* sb[j] unless NULL), sa, f[j]). */
typedef void lw_accumulate(int64_t n, const int32_t *acc, const int32_t *comp, const float *sb,
                           float sa, float *f);

/* One pixel under a pooling window: f32 channels, or u8 with the scales of its windows. */
typedef struct lw_tap {
    const float *x;
    const uint8_t *q;
    const float *s;
} lw_tap;

/* f[0..n) = max or (sum in order) * factor over the taps, at least one. Writes up to one vector
 * beyond n. */
typedef void lw_pool_taps(int average, int taps, const lw_tap *tap, int64_t n, int64_t window,
                          int zero_point, float factor, float *f);

/* Runs the dot instruction for `steps` tiles; returns the multiplications done. */
typedef int64_t lw_peak(int64_t steps);

struct lw_isa {
    const char *name;
    int vw;         /* float lanes of a vector */
    int mr, nr, kr; /* register tile */
    int a_offset;   /* what v_dot4 takes off every activation: comp adds it back */
    lw_dot *dot[LW_MODES][LW_MR_MAX]; /* [mode][rows - 1] */
    int narrow_rows;                  /* of the tile for panels of at most vw channels; 0: none */
    lw_dot *narrow[LW_MODES];
    lw_depthwise *depthwise;
    lw_finish *finish;
    lw_quantize *quantize;
    lw_largest *largest;
    lw_planes *planes;
    lw_accumulate *accumulate;
    lw_pool_taps *pool;
    lw_peak *peak;
};

extern const lw_isa lw_isa_scalar;
#ifdef LW_X86
extern const lw_isa lw_isa_avx2;
extern const lw_isa lw_isa_avxvnni;      /* VEX encoding */
extern const lw_isa lw_isa_avxvnni_evex; /* the same kernels in the encoding of AVX512VL */
extern const lw_isa lw_isa_avx512vnni;
#endif
#ifdef LW_ARM64
extern const lw_isa lw_isa_neon_dot;  /* sdot */
extern const lw_isa lw_isa_neon_i8mm; /* sudot */
#endif

#endif

/* isa.h - the table that one instruction set fills: tile geometry and kernels. */
#ifndef LW_SRC_ISA_H
#define LW_SRC_ISA_H

#include "lw.h"

enum {
    LW_MR_MAX = 14,
    LW_FINISH_ROWS = 64,
    LW_DEPTHWISE_ROW = 3,
    LW_PATCH = 256, /* bytes from one gathered pixel of a first layer to the next */
    LW_PATCH_PIECES = 64
};

/* One chunk of the reduction, seen from the first tap of an output pixel. */
typedef struct lw_win {
    int32_t a_off; /* bytes from the pixel's base in q */
    int32_t s_off; /* floats from the pixel's base in scale */
    int32_t k4;    /* steps of four channels */
    int32_t b_off; /* bytes from the panel's base */
} lw_win;

/* Elements from line to line of an image and from pixel to pixel of a line. */
typedef struct lw_step {
    ptrdiff_t line, pixel;
} lw_step;

/* `lines` times `count` output pixels: where the first begins in q and in scale, and bytes and
 * floats from one to the next. */
typedef struct lw_pixels {
    const uint8_t *a;
    const float *sa;
    lw_step a_step, sa_step;
    int lines, count;
} lw_pixels;

/* What a tile adds to its sums, of a panel of nr channels: what y holds, in a mode of windows, and
 * then the same less the sums may go to a twin of y; or a residual. */
typedef enum lw_addend { LW_ADD_NOTHING, LW_ADD_Y, LW_ADD_TWIN, LW_ADD_RESIDUAL } lw_addend;

/* Where the sums of pixels by one panel go: y[.. + j] = fma(f, sb[j], bias[j]) + addend, j < n. sb
 * and bias are nr long; in mode AW, sb may be NULL for ones. With `ahead`, so many pixels of what
 * will be written, or of the residual, are fetched at every chunk. */
typedef struct lw_out {
    const float *sb, *bias;
    float *y;
    lw_step step;
    int64_t n;
    int ahead;
    lw_addend adds;
    ptrdiff_t twin;          /* floats from y to its twin */
    const uint8_t *residual; /* levels, of a window that holds the panel, and its scale */
    const float *residual_scale;
    lw_step residual_step, residual_scale_step;
    int residual_zero;
} lw_out;

/* What becomes of the sums of `lines` times `count` output pixels, at most LW_FINISH_ROWS:
 * y = fma(f, sb, bias), residual, activation, then the stores. Pointers are at the first of the n
 * channels of the first pixel. */
typedef struct lw_post {
    int lines, count;
    lw_activation activation;
    float alpha, lo, hi;
    int64_t n;
    const float *sb, *bias;      /* NULL: the sums are y already */
    const float *residual;       /* or NULL */
    const uint8_t *residual_q;   /* or NULL; then the three below do not count */
    const float *residual_scale; /* of channel 0, which is `first` before the first one */
    lw_step residual_step, residual_q_step, residual_scale_step;
    int64_t first;
    int residual_shift, residual_zero; /* log2 of its window; its zero point */
    float *dst;                        /* or NULL */
    uint8_t *q;                        /* or NULL; then the rest does not count */
    float *scale;
    lw_step dst_step, q_step, scale_step;
    int64_t window;
    int zero_point, rests; /* of lw_tensor */
} lw_post;

/* One panel times pixels, the count of a line a multiple of the tile's; b : panel.
 * Panel, per chunk: s32 comp[nr]; f32 sb[nr] (mode AW only); s8 q[k4][nr][4]. In mode C: one
 * comp[nr] for all chunks at the base of the panel, and one scale for all pixels. */
typedef void lw_dot(int windows, const lw_win *win, const lw_pixels *from, const uint8_t *b,
                    const lw_out *out);

/* ratio[i] = R[i] + (R[i + 1] << 16), R[i] = rint(scale[i] * factor); both are padded to whole
 * vectors, scale by one number more. */
typedef void lw_ratios(int64_t n, const float *scale, float factor, int32_t *ratio);

/* The 16-bit values (lw.h) of up to four vectors of channels of n pairs of pixels:
 * out (n, vectors * vw), the value of the first in the lower half of a lane, that of the second in
 * the upper one; ratio holds R of both likewise. Reads 4 * vw bytes of each pixel. */
typedef struct lw_pairs {
    int64_t n,
        whole; /* the first `whole` have a second pixel, in the others it is the first again */
    const uint8_t *a;
    ptrdiff_t next, step; /* bytes to the second pixel; to the next pair */
    const int32_t *ratio; /* ratio_step ints apart */
    ptrdiff_t ratio_step;
    int vectors, zero_point;
    int32_t *out;
} lw_pairs;

typedef void lw_pair_pixels(const lw_pairs *pairs);

/* n pixels of sums as 16-bit values, rounded, ties to even: out as that of lw_pairs. With a limit,
 * min(max(y, 0), limit), 0 for NaN; else y * factor, which must fit. y : (n, vectors * vw), ldy
 * apart. */
typedef struct lw_halves {
    int64_t n;
    int upper; /* whether the first pixel is the second one of the first pair */
    const float *y;
    ptrdiff_t ldy;
    float limit, factor;
    int vectors;
    int32_t *out;
} lw_halves;

typedef void lw_put_halves(const lw_halves *halves);

/* One panel, of mode A or C, times one line of pixels, as lw_dot has them, and what becomes of
 * y = fma(f, sb[j], bias[j]); sb and bias are nr long. With a limit, 16-bit values as lw_halves
 * makes of y. Else max(y, 0) if floored, or max(y, alpha * y), of nr channels of each pixel, and
 * top[j] becomes the largest of what it was and their absolute values in channel j. */
typedef struct lw_row_out {
    const float *sb, *bias;
    float limit, alpha;
    int floored;
    int upper;      /* whether the first pixel is the second one of the first pair */
    int vectors;    /* of the panel, that become 16-bit values */
    ptrdiff_t step; /* ints from pair to pair, or floats from pixel to pixel */
    int32_t *pair;  /* at the first channel of the panel, as are: */
    float *y, *top;
} lw_row_out;

typedef void lw_dot_row(int windows, const lw_win *win, const lw_pixels *from, const uint8_t *b,
                        const lw_row_out *out);

/* Both 16-bit values of n lanes, shifted right; n is a multiple of vw, shift < 16. */
typedef void lw_shift_halves(int64_t n, const int32_t *x, int shift, int32_t *out);

/* The activation of n channels of `count` pixels, in place; returns bits as lw_largest does. Writes
 * up to one vector beyond n, unless n is ldf. */
typedef struct lw_activate_args {
    lw_activation activation;
    float alpha, lo, hi;
    int64_t count, n;
    float *f;
    ptrdiff_t ldf;
} lw_activate_args;

typedef int32_t lw_activate(const lw_activate_args *args);

/* Vectors of channels, side by side in all that is named, of output pixels side by side. */
typedef struct lw_depthwise_args {
    int vectors;
    int64_t kh, taps;        /* pairs of a row */
    const int32_t *const *p; /* source rows in pairs; the first of the first column lies at `at` */
    ptrdiff_t at, step, tap; /* ints; from pair to pair of output columns, and of taps */
    const int32_t *w;        /* (kh, taps, outputs of a pair, vw), or as a kernel says */
    ptrdiff_t w_step;        /* from vector to vector */
    const float *scale, *bias;
    ptrdiff_t columns; /* filled up to the kernel's step */
    float *y;          /* (columns, ldy): fma(sum, scale, bias); a second row lies `row` on */
    ptrdiff_t ldy, row;
} lw_depthwise_args;

typedef void lw_depthwise(const lw_depthwise_args *args);

/* Sums f become y; f may be overwritten. Reads up to one vector beyond n. */
typedef lw_status lw_finish(const lw_post *post, float *f, lw_step step);

/* Rows of n floats, ldx apart, to rows of q, ldq bytes apart, and of scale, lds floats apart. */
typedef lw_status lw_quantize(int64_t rows, const float *x, ptrdiff_t ldx, int64_t n,
                              int64_t window, int zero_point, uint8_t *q, ptrdiff_t ldq,
                              float *scale, ptrdiff_t lds);

/* Rows of n scores, ldx apart, and what is added to them (NULL: nothing), ldmask apart, to
 * y (rows, n) = exp(x + mask - the largest) and factor (rows) = 1 / sum. x may be y. */
typedef lw_status lw_softmax(int64_t rows, const float *x, ptrdiff_t ldx, const float *mask,
                             ptrdiff_t ldmask, int64_t n, float *y, float *factor);

/* Bits of the largest |x|, which order as the numbers do; those of infinity or NaN if one is in x.
 */
typedef int32_t lw_largest(const float *x, int64_t n);

/* q[c * i + j] = 128 + rint(x[j * stride + i] * factor) for the c planes j of n pixels i. */
typedef void lw_planes(const float *x, int64_t stride, int64_t c, int64_t n, float factor,
                       uint8_t *q);

/* The taps of an output pixel as one run of bytes: `pieces` runs of `bytes`, piece[i] bytes from
 * its first tap. Pixels are `step` bytes apart, the runs made of them ld. */
typedef struct lw_patches {
    const int32_t *piece;
    int pieces, bytes;
    ptrdiff_t step, ld;
} lw_patches;

/* n pixels from src on. May read and write LW_SLACK bytes beyond. */
typedef void lw_gather(const lw_patches *patches, const uint8_t *src, int64_t n, uint8_t *to);

/* A layer over gathered pixels, with a quantized result. */
typedef struct lw_first_args {
    lw_patches patches; /* LW_PATCH apart */
    int64_t k4;
    const uint8_t *panels; /* of mode C */
    int64_t panel_bytes, oc;
    const float *sb, *bias;   /* padded to whole panels and one more */
    lw_activation activation; /* not LW_RELU: that is LW_CLIP from 0 to infinity */
    float alpha, lo, hi;
    int64_t window;           /* of the result: as many channels as one or two panels, or all */
    int vectors;              /* of a window: one, or those of one or two panels */
    int zero_point, rests;    /* of lw_tensor */
    ptrdiff_t row;            /* bytes from the source of an output row to that of the next */
    ptrdiff_t q_row, s_row;   /* bytes and scales from one output row to the next, */
    ptrdiff_t q_step, s_step; /* and from one output pixel to the next */
    float *scaled;            /* scratch, zero: as long as sb */
} lw_first_args;

/* Rows of n output pixels side by side, at least first_sums / vectors; scale: of the image. */
typedef lw_status lw_first(const lw_first_args *args, int64_t rows, int64_t n, const uint8_t *src,
                           float scale, uint8_t *q, float *s);

/* A row of a layer over gathered pixels, ahead of the maximum of 3 x 3 at stride 2. */
typedef struct lw_first_maxima_args {
    lw_patches patches; /* LW_PATCH apart */
    int64_t k4;
    const uint8_t *panels; /* of mode C */
    int64_t panel_bytes, oc;
    const float *sb, *bias; /* padded to whole panels and one more; sb times the image's scale */
    int pad, ends;          /* columns left of the image: 0 or 1; whether the maxima are complete */
    int64_t wide, count;    /* pixels of the row; maxima */
    const uint8_t *src;
    int32_t *sums; /* (count, ld), largest so far: begun anew with INT32_MIN, or by `ends` */
    float *y;      /* (count, ld), with `ends`: fma((float)sum, sb, bias) */
    ptrdiff_t ld;  /* as long as sb */
} lw_first_maxima_args;

/* Writes one pixel ahead of sums and y, and up to first_sums pixels behind the last. */
typedef void lw_first_maxima(const lw_first_maxima_args *args);

/* f[j] = fma((float)(acc[j] + comp[j]) (* sb[j] unless NULL), sa, f[j]); with a bias, mode C:
 * f[j] = fma((float)(acc[j] + comp[j]), sb[j] * sa, bias[j]). */
typedef void lw_accumulate(int64_t n, const int32_t *acc, const int32_t *comp, const float *sb,
                           float sa, const float *bias, float *f);

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

/* f[x * ldf + c] = the maximum of `rows` rows and kw columns of quantized pixels, from column
 * x * stride on, for `count` outputs and n channels. kw, stride: 2, 2 or 3, 2 or 3, 1. Writes up to
 * one vector beyond n. */
typedef struct lw_max_args {
    int64_t rows, count, n, window;
    int kw, stride, zero_point;
    const uint8_t *q; /* of the first row and column */
    const float *s;
    ptrdiff_t q_row, s_row, q_step, s_step; /* from row to row, from column to column */
    float *f;
    ptrdiff_t ldf;
} lw_max_args;

typedef void lw_max_row(const lw_max_args *args);

/* y[x * ldy + c] = the maximum of `lines` lines and kw columns of floats, from column x * stride
 * on, for `count` outputs and n channels. floored: values below 0 count as one and the same, and
 * NaN exceeds all numbers. Reads and writes up to one vector beyond n. */
typedef struct lw_max_lines_args {
    const float *const *line; /* their first columns */
    int lines, kw, stride, floored;
    ptrdiff_t step; /* floats from column to column */
    int64_t count, n;
    float *y;
    ptrdiff_t ldy;
} lw_max_lines_args;

typedef void lw_max_lines(const lw_max_lines_args *args);

/* Transformed lines (lw.h) of `count` windows of so many channels each, which follow each other in
 * each source line: `windows` of a pixel, and pixels q_step bytes apart. */
typedef struct lw_lines_args {
    const uint8_t *q[LW_LINES];
    const float *scale[LW_LINES];
    ptrdiff_t q_step;
    int64_t count, windows, window;
    int zero_point;
    int32_t *ratio; /* scratch: (LW_LINES + 1) times as many as count in whole vectors */
    uint8_t *to;    /* (pixels, LW_LINES, windows, window) */
    float *to_scale;
} lw_lines_args;

/* Reads and writes up to LW_LINE_STEP bytes too far. */
typedef void lw_transform(const lw_lines_args *args);

/* n pixels of a row: of the rows `over` and `under`, in `part` of the way to the second, the
 * columns that lw_linear_args has. step: floats from pixel to pixel. */
typedef struct lw_linear_row_args {
    int64_t n, c;
    const float *over, *under;
    float part;
    const int32_t *column;
    const float *parts;
    ptrdiff_t step;
    float *y;
    ptrdiff_t y_step;
} lw_linear_row_args;

typedef void lw_linear_row(const lw_linear_row_args *args);

/* y = a op b, n a multiple of vw. */
typedef void lw_column(lw_column_op op, int64_t n, const float *a, const float *b, float *y);

/* n ints, `times` over: read, or copied; returns the bytes moved, whole steps only. */
typedef int64_t lw_probe_read(const int32_t *x, int64_t n, int64_t times);
typedef int64_t lw_probe_copy(const int32_t *x, int32_t *y, int64_t n, int64_t times);

/* Runs the dot instruction for `steps` tiles; returns the multiplications done. */
typedef int64_t lw_peak(int64_t steps);

struct lw_isa {
    const char *name;
    int vw;         /* float lanes of a vector */
    int mr, nr, kr; /* register tile */
    int a_offset;   /* what v_dot4 takes off every activation: comp adds it back */
    lw_dot *dot[LW_MODES][LW_MR_MAX]; /* [mode][pixels - 1] */
    int narrow_mr; /* most pixels of the tiles for panels of at most vw channels; 0: none */
    lw_dot *narrow[LW_MODES][LW_MR_MAX]; /* NULL where there is none */
    int few_pixels; /* least pixels of a line where a panel has vw / 2 or vw / 4 channels; 0: none
                     */
    lw_dot *few[LW_MODES][2]; /* of pixels that lie side by side in y, which is filled up to vw */
    lw_dot_row *dot_row[LW_MODES][LW_MR_MAX];    /* as dot, but of modes A and C */
    lw_dot_row *narrow_row[LW_MODES][LW_MR_MAX]; /* as narrow, likewise */
    int depthwise_columns;
    lw_ratios *ratios;
    lw_pair_pixels *pairs;
    lw_put_halves *halves;
    lw_shift_halves *shift_halves;
    lw_activate *activate;
    /* [outputs of a pair - 1][taps, adjacent as columns are; 0: any taps] */
    lw_depthwise *depthwise[2][LW_DEPTHWISE_ROW + 1];
    lw_depthwise *depthwise_3x3, *depthwise_winograd;
    lw_finish *finish;
    lw_quantize *quantize;
    lw_softmax *softmax;
    lw_largest *largest;
    lw_planes *planes;
    lw_gather *gather;
    int first_sums; /* vectors of sums of a tile of `first` */
    lw_first *first;
    lw_first_maxima *first_maxima;
    lw_accumulate *accumulate;
    lw_pool_taps *pool;
    lw_max_row *max_row;
    lw_max_lines *max_lines;
    lw_transform *transform;
    lw_linear_row *linear_row;
    lw_column *column;
    lw_peak *peak;
    lw_probe_read *read;
    lw_probe_copy *copy;
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

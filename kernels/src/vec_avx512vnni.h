/* vec_avx512vnni.h - sixteen lanes, 32 registers, vpdpbusd: four u8 * s8 products per lane, exact.
 *
 * The instruction is wrapped in asm because gcc 12 copies and spills accumulators around the
 * intrinsic when the tile fills the register file. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LW_ISA avx512vnni
#define LW_MR 7
#define LW_NARROW 14
#define LW_FIRST 16
#define LW_PARTED 6
enum { VW = 16, NR = 32, DW = 7 };

typedef __m512 vf;
typedef __m512i vi;
typedef __m512i va; /* four u8, the same in all lanes */
typedef __m512i vb; /* four s8 of sixteen output channels */

static inline __mmask16 lanes(int64_t n) { /* n < 16 */ return (__mmask16)((1u << n) - 1); }

static inline vf vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf vf_load_n(const float *p, int64_t n) {
    return n >= VW ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(lanes(n), p);
}
static inline void vf_store_n(float *p, vf x, int64_t n) {
    if (n >= VW)
        _mm512_storeu_ps(p, x);
    else
        _mm512_mask_storeu_ps(p, lanes(n), x);
}
static inline vf vf_first_n(vf x, int64_t n) { return _mm512_maskz_mov_ps(lanes(n), x); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_positive(vf y, vf a, vf b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GT_OQ), b, a);
}
static inline vf vf_rint(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
static inline vf vf_from(vi a) { return _mm512_cvtepi32_ps(a); }
static inline vi vf_round(vf a) { return _mm512_cvtps_epi32(a); }
static inline vi vf_bits(vf a) { return _mm512_castps_si512(a); }
static inline vf vi_bits(vi a) { return _mm512_castsi512_ps(a); }
static inline vi vi_set(int32_t a) { return _mm512_set1_epi32(a); }
static inline vi vi_load(const int32_t *p) { return _mm512_loadu_si512(p); }
static inline void vi_store(int32_t *p, vi x) { _mm512_storeu_si512(p, x); }
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
static inline vi vi_maxu(vi a, vi b) { return _mm512_max_epu32(a, b); }
static inline vi vi_min(vi a, vi b) { return _mm512_min_epi32(a, b); }
static inline vi vi_shl23(vi a) { return _mm512_slli_epi32(a, 23); }
static inline vi vi_shl16(vi a) { return _mm512_slli_epi32(a, 16); }
static inline int32_t vi_hmax(vi a) { return _mm512_reduce_max_epi32(a); }
static inline int vi_any_above(vi a, int32_t b) { /* whether a lane is */
    return _mm512_cmpgt_epi32_mask(a, _mm512_set1_epi32(b)) != 0;
}
static inline vi vi_from_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}
/* Three bytes of each lane. */
static inline void vi_store_u24(uint8_t *p, vi x) {
    const __m512i squeeze = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    const __m512i order = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
    x = _mm512_permutexvar_epi32(order, _mm512_shuffle_epi8(x, squeeze));
    _mm512_mask_storeu_epi32(p, 0xfff, x);
}

/* The larger of both halves: the lower half holds those of a, the upper those of b. A blend runs
 * where a second shuffle would wait. */
static inline vi larger_halves(vi a, vi b) {
    return _mm512_max_epi32(_mm512_mask_blend_epi32(0xff00, a, b),
                            _mm512_shuffle_i32x4(a, b, 0x4e));
}
static inline vi larger_pairs(vi a, vi b) { /* the same in every 128 bits */
    vf swapped = _mm512_shuffle_ps(vi_bits(a), vi_bits(b), 0x4e);
    return _mm512_max_epi32(_mm512_mask_blend_epi32(0xcccc, a, b), vf_bits(swapped));
}

/* The lanes of vectors 0..3, which hold the largest of a quarter each: lane 4 g + e is the largest
 * of quarter g of vector e. */
static inline vi larger_quarters(const vi *v) {
    vf a = vi_bits(larger_pairs(v[0], v[1])), b = vi_bits(larger_pairs(v[2], v[3]));
    return _mm512_max_epi32(vf_bits(_mm512_shuffle_ps(a, b, 0x88)),
                            vf_bits(_mm512_shuffle_ps(a, b, 0xdd)));
}

/* Lane i: the largest lane of vector i. */
static inline vi vi_hmax_rows(const vi *m) {
    vi v[4];
    for (int e = 0; e < 4; e++) {
        vi p = larger_halves(m[e], m[4 + e]), r = larger_halves(m[8 + e], m[12 + e]);
        v[e] = _mm512_max_epi32(_mm512_shuffle_i32x4(p, r, 0x88), _mm512_shuffle_i32x4(p, r, 0xdd));
    }
    return larger_quarters(v);
}

/* Parts: a vector of floats of 2 or 4 pixels, as many of each. */
#define LW_PARTS
static inline vf vf_load_parts(const int parts, const float *p, ptrdiff_t step) {
    if (parts == 2) {
        __m256 next = _mm256_loadu_ps(p + step);
        return _mm512_mask_broadcast_f32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), 0xff00,
                                           next);
    }
    vf x = _mm512_castps128_ps512(_mm_loadu_ps(p));
    x = _mm512_mask_broadcast_f32x4(x, 0x00f0, _mm_loadu_ps(p + step));
    x = _mm512_mask_broadcast_f32x4(x, 0x0f00, _mm_loadu_ps(p + 2 * step));
    return _mm512_mask_broadcast_f32x4(x, 0xf000, _mm_loadu_ps(p + 3 * step));
}
/* The same float in all lanes of a pixel. In asm, as a broadcast from memory takes no shuffle.
 */
static inline vi set_lanes(vi x, __mmask16 lanes, const void *p) {
    __asm__("vpbroadcastd %2, %0 %{%1%}" : "+v"(x) : "Yk"(lanes), "m"(*(const int32_t *)p));
    return x;
}
static inline vf vf_set_parts(const int parts, const float *p, ptrdiff_t step) {
    vi x = vf_bits(_mm512_set1_ps(*p));
    if (parts == 2) return vi_bits(set_lanes(x, 0xff00, p + step));
    x = set_lanes(x, 0x00f0, p + step);
    x = set_lanes(x, 0x0f00, p + 2 * step);
    return vi_bits(set_lanes(x, 0xf000, p + 3 * step));
}
/* Sixteen bytes of each pixel in every quarter of its lanes, and four of these in all of them; `at`
 * is a literal. */
static inline vi set_quarters(vi x, __mmask16 lanes, const void *p) {
    __asm__("vbroadcasti32x4 %2, %0 %{%1%}" : "+v"(x) : "Yk"(lanes), "m"(*(const __m128i_u *)p));
    return x;
}
static inline va va_load_parts(const int parts, const uint8_t *p, ptrdiff_t step) {
    vi x = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)p));
    if (parts == 2) return set_quarters(x, 0xff00, p + step);
    x = set_quarters(x, 0x00f0, p + step);
    x = set_quarters(x, 0x0f00, p + 2 * step);
    return set_quarters(x, 0xf000, p + 3 * step);
}
#define va_step(x, at) _mm512_shuffle_epi32(x, (at) * 0x55)
/* The first lanes of x, as many as a pixel has, for every pixel. */
static inline vi vi_repeat(const int parts, const int32_t *p) {
    if (parts == 2) return _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)p));
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)p));
}
/* Lanes of x, one for each pixel, to the lanes of the pixels of vector v. */
static inline vf vf_spread(const int parts, const int v, vf x) {
    const int part = parts == 2 ? 8 : 4;
    vi lane =
        _mm512_setr_epi32(0, 0, 0, 0, 4 / part, 4 / part, 4 / part, 4 / part, 8 / part, 8 / part,
                          8 / part, 8 / part, 12 / part, 12 / part, 12 / part, 12 / part);
    return _mm512_permutexvar_ps(_mm512_add_epi32(lane, _mm512_set1_epi32(v * parts)), x);
}
/* Lane i: the largest lane of pixel i of 16, which fill 16 / parts vectors. */
static inline vi vi_hmax_parts(const int parts, const vi *m) {
    vi v[4];
    if (parts == 4) {
        vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        return _mm512_permutexvar_epi32(order, larger_quarters(m));
    }
    for (int e = 0; e < 4; e++)
        v[e] = _mm512_max_epi32(_mm512_shuffle_i32x4(m[e], m[4 + e], 0x88),
                                _mm512_shuffle_i32x4(m[e], m[4 + e], 0xdd));
    vi order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    return _mm512_permutexvar_epi32(order, larger_quarters(v));
}

/* The same of eight vectors, twice: half the work. */
#define LW_HMAX_FEW
static inline vi vi_hmax_few(const vi *m) {
    vi p[4], v[2];
    for (int e = 0; e < 4; e++) p[e] = larger_halves(m[e], m[4 + e]);
    for (int e = 0; e < 2; e++) /* of vectors 2e, 2e + 4, 2e + 1 and 2e + 5: 128 bits each */
        v[e] = _mm512_max_epi32(_mm512_shuffle_i32x4(p[2 * e], p[2 * e + 1], 0x88),
                                _mm512_shuffle_i32x4(p[2 * e], p[2 * e + 1], 0xdd));
    vi all = larger_pairs(v[0], v[1]);
    all = _mm512_max_epi32(all, _mm512_shuffle_epi32(all, 0xb1));
    const __m512i order = _mm512_setr_epi32(0, 8, 2, 10, 4, 12, 6, 14, 0, 8, 2, 10, 4, 12, 6, 14);
    return _mm512_permutexvar_epi32(order, all);
}

/* Packing works inside 128-bit lanes: its groups of four bytes are put into order. */
static inline vi vi4_u8(const vi *x) {
    vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    vi s = _mm512_packus_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]));
    return _mm512_permutexvar_epi32(order, s);
}
static inline void vi_store4_u8(uint8_t *p, const vi *x) { _mm512_storeu_si512(p, vi4_u8(x)); }
/* The same in 1, 2 or 4 parts, step bytes apart. */
static inline void vi_store4_u8_parts(const int parts, uint8_t *p, ptrdiff_t step, const vi *x) {
    vi s = vi4_u8(x);
    if (parts == 1) _mm512_storeu_si512(p, s);
    if (parts == 2) {
        _mm256_storeu_si256((void *)p, _mm512_castsi512_si256(s));
        _mm256_storeu_si256((void *)(p + step), _mm512_extracti64x4_epi64(s, 1));
    }
    if (parts == 4) {
        _mm_storeu_si128((void *)p, _mm512_castsi512_si128(s));
        _mm_storeu_si128((void *)(p + step), _mm512_extracti32x4_epi32(s, 1));
        _mm_storeu_si128((void *)(p + 2 * step), _mm512_extracti32x4_epi32(s, 2));
        _mm_storeu_si128((void *)(p + 3 * step), _mm512_extracti32x4_epi32(s, 3));
    }
}
/* The same, but only the first n bytes of each part, by plain stores: they leave the queue sooner
 * than a masked one, and bytes that went through memory would wait for it. */
#define LW_STORE_N
static inline void store_bytes(uint8_t *p, __m256i bytes, int64_t n) { /* n <= 32 */
    __m128i x = _mm256_castsi256_si128(bytes);
    if (n == 32) {
        _mm256_storeu_si256((void *)p, bytes);
        return;
    }
    if (n & 16) {
        _mm_storeu_si128((void *)p, x);
        x = _mm256_extracti128_si256(bytes, 1), p += 16;
    }
    if (n & 8) {
        _mm_storel_epi64((void *)p, x);
        x = _mm_unpackhi_epi64(x, x), p += 8;
    }
    int64_t rest = _mm_cvtsi128_si64(x);
    memcpy(p, &rest, (size_t)(n & 7));
}
static inline void vi_store4_u8_n(const int parts, int64_t n, uint8_t *p, ptrdiff_t step,
                                  const vi *x) {
    vi s = vi4_u8(x);
    __m256i lower = _mm512_castsi512_si256(s), upper = _mm512_extracti64x4_epi64(s, 1);
    if (parts == 1) {
        store_bytes(p, lower, n < 32 ? n : 32);
        if (n > 32) store_bytes(p + 32, upper, n - 32);
    }
    if (parts == 2) store_bytes(p, lower, n), store_bytes(p + step, upper, n);
    if (parts == 4) {
        store_bytes(p, lower, n);
        store_bytes(p + step, _mm256_permute4x64_epi64(lower, 0xee), n);
        store_bytes(p + 2 * step, upper, n);
        store_bytes(p + 3 * step, _mm256_permute4x64_epi64(upper, 0xee), n);
    }
}

static inline vi v_dot4(vi c, va a, vb b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
    return c;
}
static inline va va_set(const uint8_t *p) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}
static inline vb vb_load(const uint8_t *p) { return _mm512_loadu_si512(p); }

static inline vi vi_dot2(vi c, vi a, vi w) { /* two s16 * s16 products per lane */
    __asm__("vpdpwssd %2, %1, %0" : "+v"(c) : "v"(a), "v"(w));
    return c;
}
static inline vi v16_add(vi a, vi b) { return _mm512_add_epi16(a, b); }
static inline vi v16_sub(vi a, vi b) { return _mm512_sub_epi16(a, b); }
/* Halves of a lane, from 0 to 65535. */
static inline vi v16_join(vi lower, vi upper) {
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    return _mm512_shuffle_epi8(_mm512_packus_epi32(lower, upper), order);
}
static inline vi v16_shift(vi a, int n) { return _mm512_sra_epi16(a, _mm_cvtsi32_si128(n)); }
/* (x * by) >> 16 */
static inline vi v16_scaled(vi x, vi by) { return _mm512_mulhi_epi16(x, by); }
static inline vi v16_scaled_unsigned(vi x, vi by) { return _mm512_mulhi_epu16(x, by); }
static inline vi v16_shl7(vi a) { return _mm512_slli_epi16(a, 7); }
/* ((x * by >> 14) + 1) >> 1 */
static inline vi v16_rounded(vi x, vi by) { return _mm512_mulhrs_epi16(x, by); }
static inline vi v16_abs(vi a) { return _mm512_abs_epi16(a); }
static inline vi v16_max(vi a, vi b) { return _mm512_max_epi16(a, b); }
/* The larger half of each lane. */
static inline vi v16_larger_half(vi a) {
    return _mm512_max_epi32(_mm512_srai_epi32(a, 16),
                            _mm512_srai_epi32(_mm512_slli_epi32(a, 16), 16));
}
/* 32 bytes, and back those that are 0 to 255. */
static inline vi v16_from_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)p));
}
static inline void v16_to_u8(uint8_t *p, vi x) {
    _mm256_storeu_si256((void *)p, _mm512_cvtusepi16_epi8(x));
}
static inline vi v16_first_n(vi x, int64_t n) { /* of 32 */
    return _mm512_maskz_mov_epi16((__mmask32)((1ull << n) - 1), x);
}
static inline vi load_u8(const int vectors, const uint8_t *p) {
    return vectors > 2 ? _mm512_loadu_si512(p)
                       : _mm512_castsi256_si512(_mm256_loadu_si256((const void *)p));
}
/* A lane holds one channel of a and of b, bytes shifted left by 8; 64 channels. Unpacking works
 * inside 128-bit lanes: what must become adjacent is brought there first. */
static inline void v16_pairs(const int vectors, const uint8_t *a, const uint8_t *b, vi *pair) {
    vi order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    vi zero = _mm512_setzero_si512();
    if (vectors == 1) {
        pair[0] = _mm512_or_si512(_mm512_slli_epi32(vi_from_u8(a), 8),
                                  _mm512_slli_epi32(vi_from_u8(b), 24));
        return;
    }
    vi x = _mm512_permutexvar_epi32(order, load_u8(vectors, a));
    vi y = _mm512_permutexvar_epi32(order, load_u8(vectors, b));
    vi lower = _mm512_unpacklo_epi8(x, y), upper = _mm512_unpackhi_epi8(x, y);
    pair[0] = _mm512_unpacklo_epi8(zero, lower);
    if (vectors > 1) pair[1] = _mm512_unpackhi_epi8(zero, lower);
    if (vectors > 2) pair[2] = _mm512_unpacklo_epi8(zero, upper);
    if (vectors > 3) pair[3] = _mm512_unpackhi_epi8(zero, upper);
}

/* vec_avx2.h - eight lanes, 16 registers. The byte product widens to 16 bits, because vpmaddubsw
 * would saturate (2 * 255 * 127 > 32767). |a - 128| * sign(w, a - 128) would not (2 * 128 * 127 <
 * 32767), but takes three of its four instructions from the two multipliers, where widening takes
 * two: 134 to 148 GOP/s on one core of Zen 4. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef LW_ISA
#define LW_ISA avx2
#define LW_MR 3 /* a fourth row would spill sums */
#define LW_FIRST 4
#endif
enum { VW = 8, NR = 16, DW = 5 };

typedef __m256 vf;
typedef __m256i vi;
static inline __m256i lanes(int64_t n) {
    __m256i iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : (int)n), iota);
}

static inline vf vf_set(float x) { return _mm256_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf vf_load_n(const float *p, int64_t n) {
    return n >= VW ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, lanes(n));
}
static inline void vf_store_n(float *p, vf x, int64_t n) {
    if (n >= VW)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, lanes(n), x);
}
static inline vf vf_first_n(vf x, int64_t n) {
    return _mm256_and_ps(x, _mm256_castsi256_ps(lanes(n)));
}
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_positive(vf y, vf a, vf b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_GT_OQ));
}
static inline vf vf_rint(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_from(vi a) { return _mm256_cvtepi32_ps(a); }
static inline vi vf_round(vf a) { return _mm256_cvtps_epi32(a); }
static inline vi vf_bits(vf a) { return _mm256_castps_si256(a); }
static inline vf vi_bits(vi a) { return _mm256_castsi256_ps(a); }
static inline vi vi_set(int32_t a) { return _mm256_set1_epi32(a); }
static inline vi vi_load(const int32_t *p) { return _mm256_loadu_si256((const void *)p); }
static inline void vi_store(int32_t *p, vi x) { _mm256_storeu_si256((void *)p, x); }
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
static inline vi vi_maxu(vi a, vi b) { return _mm256_max_epu32(a, b); }
static inline vi vi_min(vi a, vi b) { return _mm256_min_epi32(a, b); }
static inline vi vi_shl23(vi a) { return _mm256_slli_epi32(a, 23); }
static inline vi vi_shl16(vi a) { return _mm256_slli_epi32(a, 16); }
static inline int32_t vi_hmax(vi a) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return _mm_cvtsi128_si32(m);
}
static inline int vi_any_above(vi a, int32_t b) { /* whether a lane is */
    return _mm256_movemask_epi8(_mm256_cmpgt_epi32(a, _mm256_set1_epi32(b))) != 0;
}
static inline vi vi_from_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
}
/* Three bytes of each lane. */
static inline void vi_store_u24(uint8_t *p, vi x) {
    const __m256i squeeze =
        _mm256_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, 0, 1, 2, 4, 5, 6,
                         8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    __m256i y = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(x, squeeze),
                                            _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
    _mm_storeu_si128((void *)p, _mm256_castsi256_si128(y));
    _mm_storel_epi64((void *)(p + 16), _mm256_extracti128_si256(y, 1));
}

/* Lane i: the largest lane of vector i. */
static inline vi vi_hmax_rows(const vi *m) {
    vi v[4];
    for (int e = 0; e < 4; e++)
        v[e] = _mm256_max_epi32(_mm256_permute2x128_si256(m[e], m[4 + e], 0x20),
                                _mm256_permute2x128_si256(m[e], m[4 + e], 0x31));
    vi a = _mm256_max_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
    vi b = _mm256_max_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
    return _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* Packing works inside 128-bit lanes: its groups of four bytes are put into order. */
static inline vi vi4_u8(const vi *x) {
    vi order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    vi s = _mm256_packus_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
    return _mm256_permutevar8x32_epi32(s, order);
}
static inline void vi_store4_u8(uint8_t *p, const vi *x) {
    _mm256_storeu_si256((void *)p, vi4_u8(x));
}
/* The same in 1, 2 or 4 parts, step bytes apart. */
static inline void vi_store4_u8_parts(const int parts, uint8_t *p, ptrdiff_t step, const vi *x) {
    vi s = vi4_u8(x);
    __m128i lower = _mm256_castsi256_si128(s), upper = _mm256_extracti128_si256(s, 1);
    if (parts == 1) _mm256_storeu_si256((void *)p, s);
    if (parts == 2) {
        _mm_storeu_si128((void *)p, lower);
        _mm_storeu_si128((void *)(p + step), upper);
    }
    if (parts == 4) {
        _mm_storel_epi64((void *)p, lower);
        _mm_storel_epi64((void *)(p + step), _mm_unpackhi_epi64(lower, lower));
        _mm_storel_epi64((void *)(p + 2 * step), upper);
        _mm_storel_epi64((void *)(p + 3 * step), _mm_unpackhi_epi64(upper, upper));
    }
}

static inline vi v16_add(vi a, vi b) { return _mm256_add_epi16(a, b); }
static inline vi v16_sub(vi a, vi b) { return _mm256_sub_epi16(a, b); }
/* Halves of a lane, from 0 to 65535. */
static inline vi v16_join(vi lower, vi upper) {
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    return _mm256_shuffle_epi8(_mm256_packus_epi32(lower, upper), order);
}
static inline vi v16_shift(vi a, int n) { return _mm256_sra_epi16(a, _mm_cvtsi32_si128(n)); }
/* (x * by) >> 16 */
static inline vi v16_scaled(vi x, vi by) { return _mm256_mulhi_epi16(x, by); }
static inline vi v16_scaled_unsigned(vi x, vi by) { return _mm256_mulhi_epu16(x, by); }
static inline vi v16_shl7(vi a) { return _mm256_slli_epi16(a, 7); }
/* ((x * by >> 14) + 1) >> 1 */
static inline vi v16_rounded(vi x, vi by) { return _mm256_mulhrs_epi16(x, by); }
static inline vi v16_abs(vi a) { return _mm256_abs_epi16(a); }
static inline vi v16_max(vi a, vi b) { return _mm256_max_epi16(a, b); }
/* The larger half of each lane. */
static inline vi v16_larger_half(vi a) {
    return _mm256_max_epi32(_mm256_srai_epi32(a, 16),
                            _mm256_srai_epi32(_mm256_slli_epi32(a, 16), 16));
}
/* 16 bytes, and back those that are 0 to 255. */
static inline vi v16_from_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)p));
}
static inline void v16_to_u8(uint8_t *p, vi x) {
    __m128i s = _mm_packus_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si128((void *)p, s);
}
static inline vi v16_first_n(vi x, int64_t n) { /* of 16 */
    const __m256i iota = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm256_and_si256(x, _mm256_cmpgt_epi16(_mm256_set1_epi16((short)n), iota));
}
/* A lane holds one channel of a and of b, bytes shifted left by 8; 32 channels. Unpacking works
 * inside 128-bit lanes: what must become adjacent is brought there first. */
static inline void v16_pairs(const int vectors, const uint8_t *a, const uint8_t *b, vi *pair) {
    vi order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7), zero = _mm256_setzero_si256();
    vi x = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const void *)a), order);
    vi y = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const void *)b), order);
    vi lower = _mm256_unpacklo_epi8(x, y), upper = _mm256_unpackhi_epi8(x, y);
    pair[0] = _mm256_unpacklo_epi8(zero, lower);
    if (vectors > 1) pair[1] = _mm256_unpackhi_epi8(zero, lower);
    if (vectors > 2) pair[2] = _mm256_unpacklo_epi8(zero, upper);
    if (vectors > 3) pair[3] = _mm256_unpackhi_epi8(zero, upper);
}

#ifndef LW_AVX_VNNI
typedef struct {
    __m256i even, odd;
} va; /* u16 of channels 0,2 and 1,3, the same in all lanes */
typedef struct {
    __m256i even, odd;
} vb; /* s16 of channels 0,2 and 1,3 of eight output channels */

static inline vi vi_dot2(vi c, vi a, vi w) { /* two s16 * s16 products per lane */
    return _mm256_add_epi32(c, _mm256_madd_epi16(a, w));
}

static inline va va_set(const uint8_t *p) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    __m256i x = _mm256_set1_epi32(bytes);
    return (va){_mm256_and_si256(x, _mm256_set1_epi32(0x00ff00ff)), _mm256_srli_epi16(x, 8)};
}
static inline vb vb_load(const uint8_t *p) {
    __m256i x = _mm256_loadu_si256((const void *)p);
    return (vb){_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
}
static inline vi v_dot4(vi c, va a, vb b) {
    c = _mm256_add_epi32(c, _mm256_madd_epi16(a.even, b.even));
    return _mm256_add_epi32(c, _mm256_madd_epi16(a.odd, b.odd));
}
#endif

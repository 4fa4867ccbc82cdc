/* vec_neon.h - four lanes, 32 registers, the dot product of aarch64: four s8 * s8 products a lane.
 *
 * sdot takes signed activations, so 128 is taken off each by flipping its upper bit, and comp makes
 * up for that (LW_A_OFFSET). With LW_I8MM the mixed product sudot takes them as they are. */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef LW_I8MM
#define LW_ISA neon_i8mm
#else
#define LW_ISA neon_dot
#define LW_A_OFFSET 128
#endif
#define LW_MR 3
#define LW_FIRST 12
enum { VW = 4, NR = 16, DW = 7 };

typedef float32x4_t vf;
typedef int32x4_t vi;
static inline uint32x4_t lanes(int64_t n) {
    static const uint32_t iota[4] = {0, 1, 2, 3};
    return vcltq_u32(vld1q_u32(iota), vdupq_n_u32((uint32_t)n));
}

static inline vf vf_set(float x) { return vdupq_n_f32(x); }
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf x) { vst1q_f32(p, x); }
static inline vf vf_load_n(const float *p, int64_t n) {
    if (n >= VW) return vld1q_f32(p);
    float x[VW] = {0};
    for (int i = 0; i < VW - 1; i++)
        if (i < n) x[i] = p[i];
    return vld1q_f32(x);
}
static inline void vf_store_n(float *p, vf x, int64_t n) {
    if (n >= VW) {
        vst1q_f32(p, x);
        return;
    }
    if (n > 0) vst1q_lane_f32(p, x, 0);
    if (n > 1) vst1q_lane_f32(p + 1, x, 1);
    if (n > 2) vst1q_lane_f32(p + 2, x, 2);
}
static inline vf vf_first_n(vf x, int64_t n) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), lanes(n)));
}
static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
/* fmax would order zeros and answer a NaN with NaN: b is asked for instead. */
static inline vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline vf vf_positive(vf y, vf a, vf b) { return vbslq_f32(vcgtzq_f32(y), a, b); }
static inline vf vf_rint(vf a) { return vrndnq_f32(a); }
static inline vf vf_from(vi a) { return vcvtq_f32_s32(a); }
static inline vi vf_round(vf a) { return vcvtnq_s32_f32(a); }
static inline vi vf_bits(vf a) { return vreinterpretq_s32_f32(a); }
static inline vf vi_bits(vi a) { return vreinterpretq_f32_s32(a); }
static inline vi vi_set(int32_t a) { return vdupq_n_s32(a); }
static inline vi vi_load(const int32_t *p) { return vld1q_s32(p); }
static inline void vi_store(int32_t *p, vi x) { vst1q_s32(p, x); }
static inline vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
static inline vi vi_sub(vi a, vi b) { return vsubq_s32(a, b); }
static inline vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi vi_max(vi a, vi b) { return vmaxq_s32(a, b); }
static inline vi vi_maxu(vi a, vi b) {
    return vreinterpretq_s32_u32(vmaxq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)));
}
static inline vi vi_min(vi a, vi b) { return vminq_s32(a, b); }
static inline vi vi_shl23(vi a) { return vshlq_n_s32(a, 23); }
static inline vi vi_shl16(vi a) { return vshlq_n_s32(a, 16); }
static inline int32_t vi_hmax(vi a) { return vmaxvq_s32(a); }
static inline int vi_any_above(vi a, int32_t b) { return vmaxvq_s32(a) > b; }
static inline vi vi_from_u8(const uint8_t *p) {
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
}
static inline void vi_store_u24(uint8_t *p, vi x) { /* three bytes of each lane */
    static const uint8_t squeeze[16] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 16, 16, 16};
    uint8x16_t y = vqtbl1q_u8(vreinterpretq_u8_s32(x), vld1q_u8(squeeze));
    uint32_t rest = vgetq_lane_u32(vreinterpretq_u32_u8(y), 2);
    vst1_u8(p, vget_low_u8(y));
    memcpy(p + 8, &rest, sizeof rest);
}
/* Lane i: the largest lane of vector i. */
static inline vi vi_hmax_rows(const vi *m) {
    return vpmaxq_s32(vpmaxq_s32(m[0], m[1]), vpmaxq_s32(m[2], m[3]));
}
static inline void vi_store4_u8(uint8_t *p, const vi *x) {
    int16x8_t a = vcombine_s16(vqmovn_s32(x[0]), vqmovn_s32(x[1]));
    int16x8_t b = vcombine_s16(vqmovn_s32(x[2]), vqmovn_s32(x[3]));
    vst1q_u8(p, vcombine_u8(vqmovun_s16(a), vqmovun_s16(b)));
}
/* The same in 1, 2 or 4 parts, step bytes apart. */
static inline void vi_store4_u8_parts(const int parts, uint8_t *p, ptrdiff_t step, const vi *x) {
    uint8_t bytes[4 * VW];
    vi_store4_u8(bytes, x);
    for (int i = 0; i < parts; i++)
        memcpy(p + i * step, bytes + i * 4 * VW / parts, (size_t)(4 * VW / parts));
}

static inline vi vi_dot2(vi c, vi a, vi w) { /* two s16 * s16 products per lane */
    int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(w);
    int32x4_t lower = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    return vaddq_s32(c, vpaddq_s32(lower, vmull_high_s16(x, y)));
}
static inline vi v16_add(vi a, vi b) {
    return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
static inline vi v16_sub(vi a, vi b) {
    return vreinterpretq_s32_s16(vsubq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
/* Halves of a lane, from 0 to 65535. */
static inline vi v16_join(vi lower, vi upper) {
    uint32x4_t a = vmovl_u16(vqmovun_s32(lower)), b = vmovl_u16(vqmovun_s32(upper));
    return vreinterpretq_s32_u32(vorrq_u32(a, vshlq_n_u32(b, 16)));
}
static inline vi v16_shift(vi a, int n) {
    return vreinterpretq_s32_s16(vshlq_s16(vreinterpretq_s16_s32(a), vdupq_n_s16((int16_t)-n)));
}
/* (x * by) >> 16 */
static inline vi v16_scaled(vi x, vi by) {
    int16x8_t a = vreinterpretq_s16_s32(x), b = vreinterpretq_s16_s32(by);
    int16x4_t lower = vshrn_n_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), 16);
    return vreinterpretq_s32_s16(vshrn_high_n_s32(lower, vmull_high_s16(a, b), 16));
}
static inline vi v16_scaled_unsigned(vi x, vi by) {
    uint16x8_t a = vreinterpretq_u16_s32(x), b = vreinterpretq_u16_s32(by);
    uint16x4_t lower = vshrn_n_u32(vmull_u16(vget_low_u16(a), vget_low_u16(b)), 16);
    return vreinterpretq_s32_u16(vshrn_high_n_u32(lower, vmull_high_u16(a, b), 16));
}
static inline vi v16_shl7(vi a) {
    return vreinterpretq_s32_s16(vshlq_n_s16(vreinterpretq_s16_s32(a), 7));
}
/* ((x * by >> 14) + 1) >> 1 */
static inline vi v16_rounded(vi x, vi by) {
    return vreinterpretq_s32_s16(
        vqrdmulhq_s16(vreinterpretq_s16_s32(x), vreinterpretq_s16_s32(by)));
}
static inline vi v16_abs(vi a) {
    return vreinterpretq_s32_s16(vabsq_s16(vreinterpretq_s16_s32(a)));
}
static inline vi v16_max(vi a, vi b) {
    return vreinterpretq_s32_s16(vmaxq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}
/* The larger half of each lane. */
static inline vi v16_larger_half(vi a) {
    return vmaxq_s32(vshrq_n_s32(a, 16), vshrq_n_s32(vshlq_n_s32(a, 16), 16));
}
/* Eight bytes, and back those that are 0 to 255. */
static inline vi v16_from_u8(const uint8_t *p) {
    return vreinterpretq_s32_u16(vmovl_u8(vld1_u8(p)));
}
static inline void v16_to_u8(uint8_t *p, vi x) { vst1_u8(p, vqmovn_u16(vreinterpretq_u16_s32(x))); }
static inline vi v16_first_n(vi x, int64_t n) { /* of eight */
    static const uint16_t iota[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    uint16x8_t mask = vcltq_u16(vld1q_u16(iota), vdupq_n_u16((uint16_t)n));
    return vandq_s32(x, vreinterpretq_s32_u16(mask));
}
/* A lane holds one channel of a and of b, bytes shifted left by 8; 16 channels. */
static inline void v16_pairs(const int vectors, const uint8_t *a, const uint8_t *b, vi *pair) {
    uint8x16_t zero = vdupq_n_u8(0), x = vld1q_u8(a), y = vld1q_u8(b);
    uint8x16_t lower = vzip1q_u8(x, y), upper = vzip2q_u8(x, y);
    pair[0] = vreinterpretq_s32_u8(vzip1q_u8(zero, lower));
    if (vectors > 1) pair[1] = vreinterpretq_s32_u8(vzip2q_u8(zero, lower));
    if (vectors > 2) pair[2] = vreinterpretq_s32_u8(vzip1q_u8(zero, upper));
    if (vectors > 3) pair[3] = vreinterpretq_s32_u8(vzip2q_u8(zero, upper));
}

typedef uint8x16_t va; /* u8, or s8 for sdot, of four steps; or of one, in the first lane */
typedef int8x16_t vb;  /* four s8 of four output channels */

static inline va va_signed(va a) {
#ifdef LW_I8MM
    return a;
#else
    return veorq_u8(a, vdupq_n_u8(0x80));
#endif
}
static inline va va_set(const uint8_t *p) {
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return va_signed(vreinterpretq_u8_u32(vsetq_lane_u32(bytes, vdupq_n_u32(0), 0)));
}
static inline vb vb_load(const uint8_t *p) { return vld1q_s8((const int8_t *)p); }

/* One load of activations serves four steps of the product, each by its lane. */
#define LW_FOUR_STEPS
static inline va va_load4(const uint8_t *p) { return va_signed(vld1q_u8(p)); }
#ifdef LW_I8MM
#define v_dot4_lane(c, a, lane, b) vsudotq_laneq_s32(c, b, a, lane)
#else
#define v_dot4_lane(c, a, lane, b) vdotq_laneq_s32(c, b, vreinterpretq_s8_u8(a), lane)
#endif
static inline vi v_dot4(vi c, va a, vb b) { return v_dot4_lane(c, a, 0, b); }

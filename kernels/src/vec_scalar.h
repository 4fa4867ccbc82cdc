/* vec_scalar.h - vectors of one lane: kern.c over this header is the specification. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LW_ISA scalar
#define LW_MR 2
#define LW_FIRST 8
enum { VW = 1, NR = 4, DW = 2 };

typedef float vf;
typedef int32_t vi;
typedef struct {
    uint8_t k[4];
} va; /* four activations */
typedef struct {
    int8_t k[4];
} vb; /* four weights of one output channel */

static inline vf vf_set(float x) { return x; }
static inline vf vf_load(const float *p) { return *p; }
static inline void vf_store(float *p, vf x) { *p = x; }
static inline vf vf_load_n(const float *p, int64_t n) { return n > 0 ? *p : 0.0f; }
static inline void vf_store_n(float *p, vf x, int64_t n) {
    if (n > 0) *p = x;
}
static inline vf vf_first_n(vf x, int64_t n) { return n > 0 ? x : 0.0f; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_fma(vf a, vf b, vf c) { return fmaf(a, b, c); }
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; } /* b if either is NaN */
static inline vf vf_min(vf a, vf b) { return a < b ? a : b; }
static inline vf vf_positive(vf y, vf a, vf b) { return y > 0 ? a : b; }
static inline vf vf_rint(vf a) { return rintf(a); }
static inline vf vf_from(vi a) { return (float)a; }
static inline vi vf_round(vf a) { /* as vector instructions do beyond int32 */
    return a < 0x1p31f && a >= -0x1p31f ? (int32_t)rintf(a) : INT32_MIN;
}
static inline vi vf_bits(vf a) {
    vi i;
    memcpy(&i, &a, sizeof i);
    return i;
}
static inline vf vi_bits(vi a) {
    vf f;
    memcpy(&f, &a, sizeof f);
    return f;
}
static inline vi vi_set(int32_t a) { return a; }
static inline vi vi_load(const int32_t *p) { return *p; }
static inline void vi_store(int32_t *p, vi x) { *p = x; }
static inline vi vi_add(vi a, vi b) { return (vi)((uint32_t)a + (uint32_t)b); }
static inline vi vi_sub(vi a, vi b) { return (vi)((uint32_t)a - (uint32_t)b); }
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_max(vi a, vi b) { return a > b ? a : b; }
static inline vi vi_maxu(vi a, vi b) { return (uint32_t)a > (uint32_t)b ? a : b; }
static inline vi vi_min(vi a, vi b) { return a < b ? a : b; }
static inline vi vi_shl23(vi a) { return (vi)((uint32_t)a << 23); }
static inline vi vi_shl16(vi a) { return (vi)((uint32_t)a << 16); }
static inline int32_t vi_hmax(vi a) { return a; }
static inline int vi_any_above(vi a, int32_t b) { return a > b; }
static inline vi vi_from_u8(const uint8_t *p) { return *p; }
static inline void vi_store_u24(uint8_t *p, vi x) { /* three bytes of each lane */
    for (int i = 0; i < 3; i++) p[i] = (uint8_t)(x >> 8 * i);
}
static inline vi vi_hmax_rows(const vi *m) { return *m; }
static inline void vi_store4_u8(uint8_t *p, const vi *x) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(x[i] < 0 ? 0 : x[i] > 255 ? 255 : x[i]);
}
/* The same in 1, 2 or 4 parts, step bytes apart. */
static inline void vi_store4_u8_parts(const int parts, uint8_t *p, ptrdiff_t step, const vi *x) {
    uint8_t bytes[4];
    vi_store4_u8(bytes, x);
    for (int i = 0; i < parts; i++)
        memcpy(p + i * step, bytes + i * 4 / parts, (size_t)(4 / parts));
}
/* Pairs of s16 in one lane. */
static inline vi pair_of(int lower, int upper) {
    return (vi)((uint32_t)(uint16_t)lower | (uint32_t)(uint16_t)upper << 16);
}
static inline vi v16_add(vi a, vi b) {
    return pair_of((int16_t)a + (int16_t)b, (a >> 16) + (b >> 16));
}
static inline vi v16_sub(vi a, vi b) {
    return pair_of((int16_t)a - (int16_t)b, (a >> 16) - (b >> 16));
}
/* Halves of a lane, from 0 to 65535. */
static inline vi v16_join(vi lower, vi upper) {
    int a = lower < 0 ? 0 : lower > 65535 ? 65535 : lower;
    return pair_of(a, upper < 0 ? 0 : upper > 65535 ? 65535 : upper);
}
static inline vi v16_shift(vi a, int n) { return pair_of((int16_t)a >> n, a >> 16 >> n); }
/* (x * by) >> 16 */
static inline vi v16_scaled(vi x, vi by) {
    return pair_of((int16_t)x * (int16_t)by >> 16, (x >> 16) * (by >> 16) >> 16);
}
static inline vi v16_scaled_unsigned(vi x, vi by) {
    uint32_t a = (uint32_t)x, b = (uint32_t)by;
    return pair_of((int)((a & 0xffff) * (b & 0xffff) >> 16), (int)((a >> 16) * (b >> 16) >> 16));
}
static inline vi v16_shl7(vi a) { return pair_of((int16_t)a * 128, (a >> 16) * 128); }
/* ((x * by >> 14) + 1) >> 1 */
static inline vi v16_rounded(vi x, vi by) {
    return pair_of((((int16_t)x * (int16_t)by >> 14) + 1) >> 1,
                   (((x >> 16) * (by >> 16) >> 14) + 1) >> 1);
}
static inline vi v16_abs(vi a) {
    int lower = (int16_t)a, upper = a >> 16;
    return pair_of(lower < 0 ? -lower : lower, upper < 0 ? -upper : upper);
}
/* The larger half of each lane. */
static inline vi v16_larger_half(vi a) { return vi_max((int16_t)a, a >> 16); }
static inline vi v16_max(vi a, vi b) {
    return pair_of(vi_max((int16_t)a, (int16_t)b), vi_max(a >> 16, b >> 16));
}
/* Two bytes, and back those that are 0 to 255. */
static inline vi v16_from_u8(const uint8_t *p) { return pair_of(p[0], p[1]); }
static inline void v16_to_u8(uint8_t *p, vi x) {
    int lower = (int)((uint32_t)x & 0xffff), upper = (int)((uint32_t)x >> 16);
    p[0] = (uint8_t)vi_min(lower, 255), p[1] = (uint8_t)vi_min(upper, 255);
}
static inline vi v16_first_n(vi x, int64_t n) { /* of two */
    return n > 1 ? x : n ? (int16_t)x & 0xffff : 0;
}
/* One channel of a and of b, bytes shifted left by 8; four channels. */
static inline void v16_pairs(const int vectors, const uint8_t *a, const uint8_t *b, vi *pair) {
    for (int v = 0; v < vectors; v++) pair[v] = pair_of(a[v] << 8, b[v] << 8);
}
static inline vi vi_dot2(vi c, vi a, vi w) {
    return vi_add(c, vi_add((int16_t)a * (int16_t)w, (a >> 16) * (w >> 16)));
}

static inline va va_set(const uint8_t *p) {
    va a;
    memcpy(&a, p, sizeof a);
    return a;
}
static inline vb vb_load(const uint8_t *p) {
    vb b;
    memcpy(&b, p, sizeof b);
    return b;
}
static inline vi v_dot4(vi c, va a, vb b) {
    for (int k = 0; k < 4; k++) c += a.k[k] * b.k[k];
    return c;
}

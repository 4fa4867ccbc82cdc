/* vec_avxvnni.h - the vectors of vec_avx2.h, and vpdpbusd on eight lanes in its VEX encoding.
 *
 * With LW_VNNI_EVEX the same source takes the EVEX encoding of AVX512VL, for machines that have no
 * other. In asm for the reason that vec_avx512vnni.h gives. */
#define LW_AVX_VNNI
#define LW_FIRST 12
#define LW_MR 6 /* 12 chains: 8 hide the latency of two dots a cycle, 12 read less for each */
#ifdef LW_VNNI_EVEX
#define LW_ISA avxvnni_evex
#define VNNI_ENCODING "%{evex%}"
#else
#define LW_ISA avxvnni
#define VNNI_ENCODING "%{vex%}"
#endif
#include "vec_avx2.h"

typedef __m256i va; /* four u8, the same in all lanes */
typedef __m256i vb; /* four s8 of eight output channels */

static inline vi v_dot4(vi c, va a, vb b) {
    __asm__(VNNI_ENCODING " vpdpbusd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
    return c;
}
static inline va va_set(const uint8_t *p) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm256_set1_epi32(bytes);
}
static inline vb vb_load(const uint8_t *p) { return _mm256_loadu_si256((const void *)p); }
static inline vi vi_dot2(vi c, vi a, vi w) {
    __asm__(VNNI_ENCODING " vpdpwssd %2, %1, %0" : "+x"(c) : "x"(a), "x"(w));
    return c;
}

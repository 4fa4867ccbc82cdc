/* isa.c - which instruction sets this CPU and its operating system support. */
#include "isa.h"

#include <string.h>

#ifdef LW_X86
#include <cpuid.h>

static uint64_t xcr0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((uint64_t)hi << 32) | lo;
}

enum {
    LEAF1_FMA = 1 << 12,
    LEAF1_OSXSAVE = 1 << 27,
    LEAF7_AVX2 = 1 << 5,
    LEAF7_AVX512F = 1 << 16,
    LEAF7_AVX512DQ = 1 << 17,
    LEAF7_AVX512BW = 1 << 30,
    LEAF7C_VNNI = 1 << 11,
    LEAF7A1_AVX_VNNI = 1 << 4, /* of subleaf 1 */
    XCR0_YMM = 0x06,           /* xmm and ymm saved by the operating system */
    XCR0_ZMM = 0xe6            /* and opmask and both halves of zmm */
};

static int has_all(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

static int has_vex_vnni(void) {
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && has_all(a, LEAF7A1_AVX_VNNI);
}

/* Where AVX-VNNI is missing, its kernels run in the EVEX encoding. */
static int cpu_has(const lw_isa *isa) {
    uint32_t a, b, c, d, b7, c7;
    if (isa == &lw_isa_scalar) return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!has_all(c, LEAF1_FMA | LEAF1_OSXSAVE)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d)) return 0;
    uint64_t saved = xcr0();
    if ((saved & XCR0_YMM) != XCR0_YMM || !has_all(b7, LEAF7_AVX2)) return 0;
    if (isa == &lw_isa_avx2) return 1;
    if (isa == &lw_isa_avxvnni) return has_vex_vnni();
    if (isa == &lw_isa_avxvnni_evex && has_vex_vnni()) return 0;
    uint32_t avx512 = LEAF7_AVX512F | LEAF7_AVX512DQ | LEAF7_AVX512BW | (1u << 31); /* VL */
    return (saved & XCR0_ZMM) == XCR0_ZMM && has_all(b7, avx512) && has_all(c7, LEAF7C_VNNI);
}

static const lw_isa *const compiled[] = {&lw_isa_scalar, &lw_isa_avx2, &lw_isa_avxvnni,
                                         &lw_isa_avxvnni_evex, &lw_isa_avx512vnni};
#elif defined(LW_ARM64)
#include <sys/auxv.h>

enum { DOT_PRODUCT = 1 << 20 /* of AT_HWCAP */, INT8_MATRIX = 1 << 13 /* of AT_HWCAP2 */ };

static int cpu_has(const lw_isa *isa) {
    if (isa == &lw_isa_scalar) return 1;
    if (!(getauxval(AT_HWCAP) & DOT_PRODUCT)) return 0;
    return isa == &lw_isa_neon_dot || getauxval(AT_HWCAP2) & INT8_MATRIX;
}

static const lw_isa *const compiled[] = {&lw_isa_scalar, &lw_isa_neon_dot, &lw_isa_neon_i8mm};
#else
static int cpu_has(const lw_isa *isa) { return isa == &lw_isa_scalar; }

static const lw_isa *const compiled[] = {&lw_isa_scalar};
#endif

enum { COMPILED = sizeof compiled / sizeof *compiled };

const lw_isa *lw_isa_at(int i) {
    for (int j = 0; j < COMPILED; j++)
        if (cpu_has(compiled[j]) && i-- == 0) return compiled[j];
    return NULL;
}

const lw_isa *lw_isa_find(const char *name) {
    for (int j = 0; j < COMPILED; j++)
        if (strcmp(compiled[j]->name, name) == 0) return cpu_has(compiled[j]) ? compiled[j] : NULL;
    return NULL;
}

const lw_isa *lw_isa_best(void) {
    for (int j = COMPILED - 1; j > 0; j--)
        if (cpu_has(compiled[j])) return compiled[j];
    return compiled[0];
}

const char *lw_isa_name(const lw_isa *isa) { return isa->name; }

int64_t lw_isa_peak(const lw_isa *isa, int64_t steps) { return isa->peak(steps); }

int64_t lw_isa_read(const lw_isa *isa, const int32_t *x, int64_t n, int64_t times) {
    return isa->read(x, n, times);
}

int64_t lw_isa_copy(const lw_isa *isa, const int32_t *x, int32_t *y, int64_t n, int64_t times) {
    return isa->copy(x, y, n, times);
}

void lw_isa_tile(const lw_isa *isa, int *mr, int *nr, int *kr) {
    *mr = isa->mr;
    *nr = isa->nr;
    *kr = isa->kr;
}

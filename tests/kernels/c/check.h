/* check.h - an assertion that stays in release builds, repeatable random numbers, and memory that
 * ends at a page that nobody may touch. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t random_state = 1;

static inline uint32_t random_u32(void) { /* splitmix64 */
    uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

static inline int64_t random_in(int64_t low, int64_t high) {
    return low + (int64_t)(random_u32() % (uint64_t)(high - low + 1));
}

static inline float random_float(void) { return (float)random_in(-1000, 1000) / 256.0f; }

typedef enum kind { NORMAL, ZEROS, SATURATING, DENORMAL, WIDE, HUGE_VALUES, KINDS } kind;

/* count values in rows of `row`; ZEROS: some rows are 0 throughout. */
static inline void random_values(kind kind, float *x, size_t count, size_t row) {
    for (size_t i = 0, zero = 0; i < count; i++) {
        if (i % row == 0) zero = random_in(0, 1);
        x[i] = random_float();
        if (kind == ZEROS && zero) x[i] = 0;
        if (kind == SATURATING) x[i] = 3;
        if (kind == DENORMAL) x[i] *= 0x1p-130f;
        if (kind == WIDE) x[i] *= random_in(0, 1) ? 0x1p-30f : 0x1p30f;
        if (kind == HUGE_VALUES) x[i] *= 0x1p100f; /* sums below FLT_MAX */
    }
}

/* FNV-1a of everything that was computed: equal on machines of different instruction sets. */
static uint64_t digest = 0xcbf29ce484222325u;

static inline void add_to_digest(const void *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) digest = (digest ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
}

/* Bytes whose last one is followed by a page without access. Aligned to 4 if bytes is. */
typedef struct guarded {
    void *map;
    size_t map_bytes;
    void *p;
} guarded;

static inline guarded guard(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page;
    guarded g = {.map_bytes = room + page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(g.map != MAP_FAILED);
    CHECK(mprotect((char *)g.map + room, page, PROT_NONE) == 0);
    g.p = (char *)g.map + room - bytes;
    return g;
}

static inline void release(guarded g) { munmap(g.map, g.map_bytes); }

#endif

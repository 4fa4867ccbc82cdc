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

/* test_pool.c - the worker pool under load: every index once, several callers, fork. Built with
 * the thread sanitizer it also proves the absence of data races that this load can show. */
#include "check.h"
#include "lw.h"

#include <pthread.h>
#include <sys/wait.h>

enum { RUNS = 300, COUNT = 57, CALLERS = 3 };

typedef struct tally {
    int seen[COUNT]; /* not atomic: every index belongs to one task */
    int threads;
} tally;

static void count_task(void *context, int64_t index, int worker) {
    tally *t = context;
    CHECK(worker >= 0 && worker < t->threads);
    t->seen[index]++;
}

static void run_many(lw_pool *pool) {
    tally t = {.threads = lw_pool_threads(pool)};
    for (int run = 1; run <= RUNS; run++) {
        lw_pool_run(pool, run % COUNT + 1, count_task, &t);
        if (run % 100 == 0) usleep(500); /* let the workers fall asleep */
    }
    int sum = 0, want = 0;
    for (int i = 0; i < COUNT; i++) sum += t.seen[i];
    for (int run = 1; run <= RUNS; run++) want += run % COUNT + 1;
    CHECK(sum == want);
    CHECK(t.seen[0] == RUNS);
}

static void *caller(void *pool) {
    run_many(pool);
    return NULL;
}

int main(void) {
    for (int threads = 1; threads <= 4; threads++) {
        lw_pool *pool = lw_pool_create(threads);
        CHECK(pool);
        pthread_t callers[CALLERS];
        for (int i = 0; i < CALLERS; i++) CHECK(!pthread_create(callers + i, NULL, caller, pool));
        for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
#ifndef __SANITIZE_THREAD__ /* which does not support threads in a forked child */
        pid_t child = fork();
        if (child == 0) {
            run_many(pool);
            lw_pool_destroy(pool);
            _exit(0);
        }
        int status = 1;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        run_many(pool);
#endif
        lw_pool_destroy(pool);
    }
    return 0;
}

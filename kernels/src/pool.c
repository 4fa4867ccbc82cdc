/* pool.c - a pool of worker threads: spin for a short time, then sleep. */
#include "lw.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
static void relax(void) { _mm_pause(); }
enum { DEFAULT_MXCSR = 0x1f80 };
static unsigned enter_default_float(void) {
    unsigned old = _mm_getcsr();
    if (old != DEFAULT_MXCSR) _mm_setcsr(DEFAULT_MXCSR);
    return old;
}
static void leave_default_float(unsigned old) {
    if (old != DEFAULT_MXCSR) _mm_setcsr(old);
}
#elif defined(__aarch64__)
static void relax(void) { __asm__ volatile("yield"); }
static unsigned enter_default_float(void) {
    uint64_t old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    if (old) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return (unsigned)old;
}
static void leave_default_float(unsigned old) {
    if (old) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)old));
}
#else
static void relax(void) {}
static unsigned enter_default_float(void) { return 0; }
static void leave_default_float(unsigned old) { (void)old; }
#endif

enum { SPIN_NS = 50000, SPINS_PER_CLOCK = 64 };

/* Tasks [next, end) of a run. Alone in its cache lines. */
typedef struct share {
    _Alignas(2 * LW_ALIGN) _Atomic int64_t next;
    int64_t end;
} share;

typedef struct worker {
    lw_pool *pool;
    pthread_t thread;
    int index;
    unsigned epoch; /* of the last run before it started */
} worker;

struct lw_pool {
    int threads, started, stop; /* started: workers running, the caller not counted */
    unsigned fork_generation;   /* of the process that started them */
    pthread_mutex_t run;        /* held during a run */
    pthread_mutex_t sleep;      /* guards the two conditions */
    pthread_cond_t work, done;
    atomic_int sleepers, caller_sleeps;
    atomic_uint epoch; /* one more for every run */
    atomic_int busy;   /* workers that have not ended this run */
    share *shares;     /* one for each thread */
    lw_task *task;
    void *context;
    worker *workers;
};

/* A child of fork() has the memory of the pool but none of its threads. */
static atomic_uint fork_generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static void count_fork(void) { atomic_fetch_add(&fork_generation, 1); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

/* Every thread begins with a range of its own, the same in every run, so that what it wrote is in
 * its own cache when it comes back; then it helps the others. */
static void share_tasks(lw_pool *pool, int64_t count) {
    for (int64_t i = 0; i < pool->threads; i++) {
        atomic_store(&pool->shares[i].next, count * i / pool->threads);
        pool->shares[i].end = count * (i + 1) / pool->threads;
    }
}

static void take_tasks(lw_pool *pool, int index) {
    for (int i = 0; i < pool->threads; i++) {
        share *from = pool->shares + (index + i) % pool->threads;
        for (int64_t t; (t = atomic_fetch_add(&from->next, 1)) < from->end;)
            pool->task(pool->context, t, index);
    }
}

/* Spins until *value != old; 0 after SPIN_NS without a change. */
static int spin_while_uint(atomic_uint *value, unsigned old) {
    for (int64_t end = now_ns() + SPIN_NS; now_ns() < end;)
        for (int i = 0; i < SPINS_PER_CLOCK; i++, relax())
            if (atomic_load(value) != old) return 1;
    return 0;
}

static int spin_until_zero(atomic_int *value) {
    for (int64_t end = now_ns() + SPIN_NS; now_ns() < end;)
        for (int i = 0; i < SPINS_PER_CLOCK; i++, relax())
            if (atomic_load(value) == 0) return 1;
    return 0;
}

static void wait_for_epoch(lw_pool *pool, unsigned old) {
    if (spin_while_uint(&pool->epoch, old)) return;
    pthread_mutex_lock(&pool->sleep);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->epoch) == old) pthread_cond_wait(&pool->work, &pool->sleep);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->sleep);
}

static void *work(void *argument) {
    worker *self = argument;
    lw_pool *pool = self->pool;
    enter_default_float();
    for (unsigned epoch = self->epoch;; epoch++) { /* every worker takes part in every run */
        wait_for_epoch(pool, epoch);
        if (pool->stop) return NULL;
        take_tasks(pool, self->index);
        if (atomic_fetch_sub(&pool->busy, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->sleep);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->sleep);
        }
    }
}

static void wait_for_workers(lw_pool *pool) {
    if (atomic_load(&pool->busy) == 0 || spin_until_zero(&pool->busy)) return;
    pthread_mutex_lock(&pool->sleep);
    atomic_exchange(&pool->caller_sleeps, 1); /* emulated loads overtake plain stores */
    while (atomic_load(&pool->busy)) pthread_cond_wait(&pool->done, &pool->sleep);
    atomic_store(&pool->caller_sleeps, 0);
    pthread_mutex_unlock(&pool->sleep);
}

static void wake_workers(lw_pool *pool) {
    atomic_fetch_add(&pool->epoch, 1);
    if (!atomic_load(&pool->sleepers)) return;
    pthread_mutex_lock(&pool->sleep);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->sleep);
}

static void init_locks(lw_pool *pool) {
    pthread_mutex_init(&pool->run, NULL);
    pthread_mutex_init(&pool->sleep, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->started = 0;
    atomic_store(&pool->sleepers, 0);
    atomic_store(&pool->caller_sleeps, 0);
    atomic_store(&pool->busy, 0);
    atomic_store(&pool->epoch, 0);
}

/* Starts what is missing; with fewer threads than asked for, the others do the work. */
static void start_workers(lw_pool *pool) {
    while (pool->started < pool->threads - 1) {
        worker *w = pool->workers + pool->started;
        *w = (worker){pool, 0, pool->started + 1, atomic_load(&pool->epoch)};
        if (pthread_create(&w->thread, NULL, work, w)) return;
        pool->started++;
    }
}

lw_pool *lw_pool_create(int threads) {
    pthread_once(&fork_once, watch_forks);
    lw_pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->threads = threads;
    pool->fork_generation = atomic_load(&fork_generation);
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    pool->shares = aligned_alloc(_Alignof(share), (size_t)threads * sizeof *pool->shares);
    init_locks(pool);
    if (pool->workers && pool->shares) return pool;
    free(pool->workers);
    free(pool->shares);
    free(pool);
    return NULL;
}

void lw_pool_destroy(lw_pool *pool) {
    if (!pool) return;
    if (pool->fork_generation == atomic_load(&fork_generation)) {
        pool->stop = 1;
        wake_workers(pool);
        for (int i = 0; i < pool->started; i++) pthread_join(pool->workers[i].thread, NULL);
    }
    free(pool->workers);
    free(pool->shares);
    free(pool);
}

int lw_pool_threads(const lw_pool *pool) { return pool->threads; }

static void lock_pool(lw_pool *pool) {
    static pthread_mutex_t forked = PTHREAD_MUTEX_INITIALIZER;
    unsigned generation = atomic_load(&fork_generation);
    if (pool->fork_generation != generation) { /* first run in a child: no other thread yet */
        pthread_mutex_lock(&forked);
        if (pool->fork_generation != generation) init_locks(pool);
        pool->fork_generation = generation;
        pthread_mutex_unlock(&forked);
    }
    pthread_mutex_lock(&pool->run);
}

void lw_pool_run(lw_pool *pool, int64_t count, lw_task *task, void *context) {
    lock_pool(pool);
    pool->task = task;
    pool->context = context;
    share_tasks(pool, count);
    int shared = pool->threads > 1 && count > 1;
    if (shared) start_workers(pool);
    if (shared && pool->started) {
        atomic_store(&pool->busy, pool->started);
        wake_workers(pool);
    }
    unsigned old = enter_default_float();
    take_tasks(pool, 0);
    leave_default_float(old);
    if (shared) wait_for_workers(pool);
    pthread_mutex_unlock(&pool->run);
}

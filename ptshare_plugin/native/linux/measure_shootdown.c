// TLB shootdowns: mprotect and munmap of one present page while threads of this process spin on
// other CPUs, and the time that each flush takes from a thread that spins.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "measure.h"

#define AREAS ((size_t)64)  // of one page
#define MAX_CPUS 64
#define MAX_TRIES 20  // for each repeat
#define ROUNDS 4      // of grants and drops, for what is taken from a CPU
#define TASK_NS 1e5   // an interruption that is longer was another task, not an interrupt

// What a thread that spins says about itself; a cache line each.
struct Spinner {
    _Alignas(64) _Atomic uint64_t turns;
    _Atomic uint64_t lost;   // ticks, to interrupts
    _Atomic uint64_t tasks;  // longer interruptions
    double most_ticks;       // that one interrupt may take
    unsigned cpu;
    pthread_t thread;
};

static struct Spinner spinners[MAX_CPUS];
static atomic_int stop, spinning;

static inline uint64_t ticks(void) {
    uint32_t low, high;
    __asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static inline void add(_Atomic uint64_t* counter, uint64_t by) {  // its only writer
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

// No pause instruction: a virtual machine may be left at it.
static void* spin(void* argument) {
    struct Spinner* self = argument;
    if (!pin(self->cpu)) return NULL;
    atomic_fetch_add(&spinning, 1);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) add(&self->turns, 1);
    return NULL;
}

// Reads the time stamp counter without end; what lies between two readings beyond the shortest
// distance, where that is more than an interrupt can be short, was taken from it.
static void* spin_counting(void* argument) {
    struct Spinner* self = argument;
    if (!pin(self->cpu)) return NULL;
    uint64_t shortest = UINT64_MAX, last = ticks();
    for (int i = 0; i < 100000; ++i) {
        const uint64_t read = ticks();
        if (read - last < shortest) shortest = read - last;
        last = read;
    }
    atomic_fetch_add(&spinning, 1);
    last = ticks();
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        const uint64_t read = ticks(), gap = read - last;
        last = read;
        add(&self->turns, 1);
        if (gap <= 4 * shortest) continue;
        if ((double)gap < self->most_ticks) {
            add(&self->lost, gap - shortest);
        } else {
            add(&self->tasks, 1);
        }
    }
    return NULL;
}

static void start(unsigned count, void* (*body)(void*)) {
    atomic_store(&stop, 0);
    atomic_store(&spinning, 0);
    for (unsigned i = 0; i < count; ++i) {
        spinners[i].cpu = i + 1;
        if (pthread_create(&spinners[i].thread, NULL, body, &spinners[i]) != 0) {
            die("pthread_create");
        }
    }
    while (atomic_load(&spinning) != (int)count) continue;
}

static void end(unsigned count) {
    atomic_store(&stop, 1);
    for (unsigned i = 0; i < count; ++i) pthread_join(spinners[i].thread, NULL);
}

// Whether all threads have run since `turns` was taken, which is brought up to date.
static int all_ran(unsigned others, uint64_t* turns) {
    int ran = 1;
    for (unsigned i = 0; i < others; ++i) {
        const uint64_t read = atomic_load(&spinners[i].turns);
        ran &= read != turns[i];
        turns[i] = read;
    }
    return ran;
}

static void measure_against(unsigned others) {
    static uint64_t turns[MAX_CPUS];
    int kept = 0;
    start(others, spin);
    for (int tries = 0; kept < options.repeats && tries < MAX_TRIES * options.repeats; ++tries) {
        char* base = map_touched_areas(AREAS, 1);
        protect_areas(base, AREAS, 1, PROT_READ);
        // A CPU that another task has is not interrupted.
        (void)all_ran(others, turns);
        const double drop = protect_areas(base, AREAS, 1, PROT_NONE);
        int ran = all_ran(others, turns);
        const double grant = protect_areas(base, AREAS, 1, PROT_READ);
        ran &= all_ran(others, turns);
        const double unmapped = unmap_areas(base, AREAS, 1);
        ran &= all_ran(others, turns);
        if (!ran || tries == 0) continue;
        ++kept;
        put_of("drop_cpus", others, drop);
        put_of("grant_cpus", others, grant);
        put_of("munmap_cpus", others, unmapped);
    }
    end(others);
    if (kept == 0) cannot("drop_cpus", "other tasks have the other CPUs");
}

struct Taken {
    double ticks, time;  // from the spinning CPU, in ns of the asking one
};

static void add_taken(struct Taken* sum, char* base, int prot) {
    const uint64_t lost = atomic_load(&spinners[0].lost);
    sum->time += protect_areas(base, AREAS, 1, prot) * (double)AREAS;
    sum->ticks += (double)(atomic_load(&spinners[0].lost) - lost);
}

static double ticks_per_ns(void) {
    const double begun = now();
    const uint64_t first = ticks();
    while (now() - begun < 2e7) continue;
    return (double)(ticks() - first) / (now() - begun);
}

// What grants lose in their time, to timer interrupts and the like, drops lose in theirs too.
static void measure_receive(void) {
    const double rate = ticks_per_ns();
    spinners[0].most_ticks = TASK_NS * rate;
    start(1, spin_counting);
    char* base = map_touched_areas(AREAS, 1);
    protect_areas(base, AREAS, 1, PROT_READ);
    int kept = 0;
    for (int tries = 0; kept < options.repeats && tries < MAX_TRIES * options.repeats; ++tries) {
        struct Taken drop = {0, 0}, grant = {0, 0};
        uint64_t turns = 0;
        int ran = all_ran(1, &turns);
        const uint64_t tasks = atomic_load(&spinners[0].tasks);
        for (int round = 0; round < ROUNDS; ++round) {
            add_taken(&drop, base, PROT_NONE);
            ran &= all_ran(1, &turns);
            add_taken(&grant, base, PROT_READ);
            ran &= all_ran(1, &turns);
        }
        if (tries == 0 || !ran || atomic_load(&spinners[0].tasks) != tasks) continue;
        const double lost = drop.ticks - grant.ticks * drop.time / grant.time;
        put("receive", lost / rate / (double)(ROUNDS * AREAS));
        ++kept;
    }
    end(1);
    if (kept == 0) cannot("receive", "other tasks have the other CPU");
}

void measure_shootdown(void) {
    const unsigned most = cpus() - 1 < MAX_CPUS ? cpus() - 1 : MAX_CPUS;
    for (unsigned others = 0;;) {  // without threads first: no other CPU has seen this process
        measure_against(others);
        if (others == most) break;
        others = others == 0 ? 1 : others * 2 < most ? others * 2 : most;
    }
    if (most > 0) measure_receive();
}

// fork, exit, exec and the context switch.
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

static void fork_once(double* shared, size_t pages, int keep) {
    const double start = now();
    const pid_t child = fork();
    if (child == 0) {
        // Counted before the time: the reading takes page faults of its own.
        const int tables = (int)page_tables();
        shared[0] = now();
        _exit(tables);
    }
    const double forked = now();
    if (child < 0) die("fork");
    int status;
    if (waitpid(child, &status, 0) != child) die("waitpid");
    const double ended = now();
    if (!keep) return;
    put_of("fork", pages, forked - start);
    put_of("exit", pages, ended - shared[0]);
    put_of("fork_tables", pages, WEXITSTATUS(status));  // page tables of the child
}

void measure_fork(void) {
    static const size_t counts[] = {0, 1024, 4096, 8192, 16384};
    double* shared =
        (double*)(void*)map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
        char* at = counts[i] ? map_small(counts[i] * PAGE) : NULL;
        for (size_t page = 0; page < counts[i]; ++page) touch_write(at + page * PAGE);
        for (int repeat = -1; repeat < options.repeats; ++repeat) {
            fork_once(shared, counts[i], repeat >= 0);
        }
        if (at) unmap(at, counts[i] * PAGE);
    }
}

// From before execve of this program, which is small and static, to the first line of its main.
void measure_exec(void) {
    double* shared =
        (double*)(void*)map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        int ends[2];
        if (pipe(ends) != 0) die("pipe");
        const pid_t child = fork_tied();
        if (child == 0) {
            char* arguments[] = {"measure", "stamp", NULL};
            char* environment[] = {NULL};
            if (dup2(ends[1], STDOUT_FILENO) < 0) _exit(1);
            shared[0] = now();
            execve("/proc/self/exe", arguments, environment);
            _exit(1);
        }
        close(ends[1]);
        double started;
        const int whole = read(ends[0], &started, sizeof started) == (ssize_t)sizeof started;
        close(ends[0]);
        (void)reap(child);
        if (!whole) {
            cannot("exec", "the executed program did not answer");
            return;
        }
        if (repeat >= 0) put("exec", started - shared[0]);
    }
}

static void pass(int from, int to) {
    char token = 0;
    if (write(to, &token, 1) != 1 || read(from, &token, 1) != 1) die("pipe");
}

// Two processes on one CPU hand a byte to and fro; the same calls by one process switch nothing.
void measure_switch(void) {
    enum { kRounds = 1000 };
    int there[2], back[2], own[2];
    if (pipe(there) != 0 || pipe(back) != 0 || pipe(own) != 0) die("pipe");
    const pid_t child = fork_tied();
    if (child == 0) {
        char token;
        close(there[1]);
        while (read(there[0], &token, 1) == 1 && write(back[1], &token, 1) == 1) continue;
        _exit(0);
    }
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        const double start = now();
        for (int round = 0; round < kRounds; ++round) pass(back[0], there[1]);
        const double passed = now();
        for (int round = 0; round < kRounds; ++round) pass(own[0], own[1]);
        const double alone = now();
        if (repeat < 0) continue;
        put("pipe_switch", (passed - start) / (2 * kRounds));  // a write, a read and a switch
        put("pipe_alone", (alone - passed) / kRounds);
    }
    close(there[1]);
    (void)reap(child);
}

// measure NAME REPEATS BYTES FOLDER: times one thing on this machine's kernel; see measure.h.
//
// It leaves nothing behind: its files are nameless, its children die with it, and it dies with
// whoever started it.
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define WARM_UP_NS 2e7

struct Options options;

static const struct {
    const char* name;
    void (*run)(void);
} measurements[] = {
    {"clock", measure_clock},   {"syscall", measure_syscall},
    {"map", measure_map},       {"protect", measure_protect},
    {"anon", measure_anon},     {"file", measure_file},
    {"cow", measure_cow},       {"write-protect", measure_write_protect},
    {"table", measure_table},   {"shootdown", measure_shootdown},
    {"fork", measure_fork},     {"exec", measure_exec},
    {"switch", measure_switch}, {"translation", measure_translation},
    {"cache", measure_cache},
};

void put(const char* name, double value) {
    printf("%s %.4f\n", name, value);
}

void put_of(const char* name, size_t number, double value) {
    printf("%s.%zu %.4f\n", name, number, value);
}

void cannot(const char* name, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("- %s ", name);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

void die(const char* what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

// ---- CPUs

static cpu_set_t allowed(void) {
    static cpu_set_t set;  // as it was before the first pin
    static int known;
    if (!known && sched_getaffinity(0, sizeof set, &set) != 0) die("sched_getaffinity");
    known = 1;
    return set;
}

unsigned cpus(void) {
    const cpu_set_t set = allowed();
    return (unsigned)CPU_COUNT(&set);
}

int pin(unsigned index) {
    const cpu_set_t set = allowed();
    for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &set) || index-- != 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        return sched_setaffinity(0, sizeof one, &one) == 0;
    }
    return 0;
}

// ---- Memory

char* map_at(char* at, size_t bytes, int prot, int flags, int file) {
    char* got = mmap(at, bytes, prot, flags, file, 0);
    if (got == MAP_FAILED) die("mmap");
    return got;
}

char* map(size_t bytes, int prot, int flags, int file) {
    return map_at(NULL, bytes, prot, flags, file);
}

void unmap(char* at, size_t bytes) {
    if (munmap(at, bytes) != 0) die("munmap");
}

char* reserve(size_t bytes, size_t alignment) {
    const size_t wide = bytes + alignment;
    char* at = map(wide, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    unmap(at, wide);
    return at + (alignment - (uintptr_t)at % alignment) % alignment;
}

char* map_file(size_t bytes, int prot, int flags, int file) {
    char* at = map_at(reserve(bytes, GIB), bytes, prot, flags | MAP_FIXED_NOREPLACE, file);
    (void)madvise(at, bytes, MADV_NOHUGEPAGE);  // a kernel without huge pages refuses: fine
    return at;
}

char* map_small(size_t bytes) {
    return map_file(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

void protect(char* at, size_t bytes, int prot) {
    if (mprotect(at, bytes, prot) != 0) die("mprotect");
}

void fill_file(int file, size_t bytes) {
    char page[PAGE];
    memset(page, 1, sizeof page);
    for (size_t done = 0; done < bytes; done += PAGE) {
        if (write(file, page, PAGE) != (ssize_t)PAGE) die("write");
    }
}

int memory_file(size_t bytes) {
    const int file = memfd_create("ptshare", MFD_CLOEXEC);
    if (file < 0) die("memfd_create");
    fill_file(file, bytes);
    return file;
}

// ---- What the kernel counts

long minor_faults(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) != 0) die("getrusage");
    return usage.ru_minflt;
}

size_t page_tables(void) {
    char line[256];
    size_t kib = 0;
    FILE* file = fopen("/proc/self/status", "re");
    if (!file) die("/proc/self/status");
    while (fgets(line, sizeof line, file) && sscanf(line, "VmPTE: %zu", &kib) != 1) continue;
    fclose(file);
    return kib * 1024 / PAGE;
}

size_t huge_bytes(char* inside) {
    char line[512];
    size_t from, to, kib;
    int here = 0;
    FILE* file = fopen("/proc/self/smaps", "re");
    if (!file) die("/proc/self/smaps");
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%zx-%zx ", &from, &to) == 2) {
            here = from <= (size_t)inside && (size_t)inside < to;
        } else if (here && sscanf(line, "AnonHugePages: %zu", &kib) == 1) {
            fclose(file);
            return kib * 1024;
        }
    }
    fclose(file);
    return 0;
}

// ---- Processes

static void die_with(pid_t parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) die("prctl");
    if (getppid() != parent) _exit(1);
}

pid_t fork_tied(void) {
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) die_with(parent);
    return child;
}

int reap(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) die("waitpid");
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// In a child: its memory has never been used on another CPU, so the kernel does not think of one
// when it flushes.
static int run_on_one_cpu(void (*run)(void)) {
    if (!pin(0)) die("sched_setaffinity");
    const pid_t child = fork_tied();
    if (child == 0) {
        const double start = now();
        while (now() - start < WARM_UP_NS) continue;  // until the core's clock is up
        run();
        exit(0);
    }
    return reap(child);
}

int main(int count, char** arguments) {
    if (count == 2 && strcmp(arguments[1], "stamp") == 0) {  // what measure_exec executes
        const double time = now();
        return write(STDOUT_FILENO, &time, sizeof time) != (ssize_t)sizeof time;
    }
    if (count != 5) {
        fprintf(stderr, "usage: measure NAME REPEATS BYTES FOLDER\n");
        return 2;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    options.repeats = atoi(arguments[2]);
    options.bytes = strtoull(arguments[3], NULL, 10);
    options.folder = arguments[4];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof measurements / sizeof measurements[0]; ++i) {
        if (strcmp(arguments[1], measurements[i].name) != 0) continue;
        return run_on_one_cpu(measurements[i].run);
    }
    fprintf(stderr, "no measurement %s\n", arguments[1]);
    return 2;
}

// What the measurements have in common. Each prints lines on standard output:
//   NAME VALUE            one repeat: nanoseconds, unless the name says otherwise
//   NAME.NUMBER VALUE     the same of a series: NUMBER is pages, CPUs or KiB
//   - NAME REASON         cannot be measured here
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define PAGE ((size_t)4096)
#define CHUNK ((size_t)2 << 20)  // what one PTE table maps
#define GIB ((size_t)1 << 30)

struct Options {
    int repeats;
    size_t bytes;        // largest region of a pointer chase
    const char* folder;  // where a nameless file may be made
};
extern struct Options options;

static inline double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static inline void touch_read(const char* at) {
    (void)*(const volatile char*)at;
}

static inline void touch_write(char* at) {
    *(volatile char*)at = 1;
}

void put(const char* name, double value);
void put_of(const char* name, size_t number, double value);
void cannot(const char* name, const char* format, ...) __attribute__((format(printf, 2, 3)));
void die(const char* what) __attribute__((noreturn));  // with errno's text

// Pins the caller to the `index`-th CPU that it may run on; false when there are not so many.
int pin(unsigned index);
unsigned cpus(void);  // that this process may run on

// Like mmap; ends the program on failure. `reserve` gives an aligned hole and maps nothing there.
char* map(size_t bytes, int prot, int flags, int file);
char* map_at(char* at, size_t bytes, int prot, int flags, int file);
void unmap(char* at, size_t bytes);
char* reserve(size_t bytes, size_t alignment);
// Private anonymous memory, writable, aligned to 1 GiB, without huge pages.
char* map_small(size_t bytes);
// The same of `file`: MAP_SHARED or MAP_PRIVATE.
char* map_file(size_t bytes, int prot, int flags, int file);
void protect(char* at, size_t bytes, int prot);

// `areas` VMAs of `pages` pages with holes between them. They return the time of one call.
size_t areas_bytes(size_t areas, size_t pages);  // from the start of the first
double map_areas(char* base, size_t areas, size_t pages, int prot);
double protect_areas(char* base, size_t areas, size_t pages, int prot);
double unmap_areas(char* base, size_t areas, size_t pages);
char* map_touched_areas(size_t areas, size_t pages);  // somewhere, written, in small pages

int memory_file(size_t bytes);  // in tmpfs, nameless, all pages in the page cache
void fill_file(int file, size_t bytes);

long minor_faults(void);          // of this thread
size_t page_tables(void);         // of this process: what /proc tells
size_t huge_bytes(char* inside);  // of the mapping: in transparent huge pages

// fork whose child dies with its parent, whatever ends that.
pid_t fork_tied(void);
int reap(pid_t child);  // its status as a shell tells it

void measure_clock(void);
void measure_syscall(void);
void measure_map(void);
void measure_protect(void);
void measure_anon(void);
void measure_file(void);
void measure_cow(void);
void measure_write_protect(void);
void measure_table(void);
void measure_shootdown(void);
void measure_fork(void);
void measure_exec(void);
void measure_switch(void);
void measure_translation(void);
void measure_cache(void);

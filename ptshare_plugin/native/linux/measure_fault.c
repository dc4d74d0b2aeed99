// Page faults: anonymous, of files, copy-on-write, write protection. Every batch is counted: a
// time is a fault's only if each touch took one.
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "measure.h"

#define REGION (2 * CHUNK)
#define PAGES (REGION / PAGE)

struct Batch {
    double time;
    long faults;
};

// Touches each `step`-th page but the first of each chunk, which is for whoever wants tables.
static struct Batch touch_all(char* at, size_t step, int write) {
    const long before = minor_faults();
    const double start = now();
    for (size_t page = step; page < PAGES; page += step) {
        if (page % (CHUNK / PAGE) == 0) continue;
        if (write) {
            touch_write(at + page * PAGE);
        } else {
            touch_read(at + page * PAGE);
        }
    }
    const double taken = now() - start;
    return (struct Batch){taken, minor_faults() - before};
}

static long touches(size_t step) {
    return (long)(PAGES / step - REGION / CHUNK);
}

static void make_tables(char* at, int write) {
    for (size_t chunk = 0; chunk < REGION; chunk += CHUNK) {
        if (write) {
            touch_write(at + chunk);
        } else {
            touch_read(at + chunk);
        }
    }
}

// Puts the time of a fault, or says why it is none.
static int put_batch(const char* name, struct Batch batch, size_t step, int keep) {
    const long expected = touches(step);
    if (batch.faults < expected || batch.faults > expected + expected / 50) {
        if (keep) cannot(name, "%ld touches took %ld faults", expected, batch.faults);
        return 0;
    }
    if (keep) put(name, batch.time / (double)batch.faults);
    return 1;
}

void measure_anon(void) {
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        char* at = map_small(REGION);
        make_tables(at, 1);
        put_batch("anon_touch", touch_all(at, 1, 1), 1, repeat >= 0);
        unmap(at, REGION);
        at = map_small(REGION);
        make_tables(at, 0);
        put_batch("zero_page_touch", touch_all(at, 1, 0), 1, repeat >= 0);
        unmap(at, REGION);
    }
}

// A mapping that is registered for write-protect tracking gets no fault-around
// (uffd_disable_fault_around). Returns the descriptor, or -1 with errno.
static int without_fault_around(char* at, size_t bytes) {
    const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (fd < 0) return -1;
    struct uffdio_api api = {
        .api = UFFD_API,
        .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
    };
    struct uffdio_register range = {
        .range = {.start = (uintptr_t)at, .len = bytes},
        .mode = UFFDIO_REGISTER_MODE_WP,
    };
    if (ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &range) != 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

// Pages that one fault maps: how many pages a walk over all of them finds for each fault.
static size_t fault_window(int file) {
    char* at = map_file(REGION, PROT_READ, MAP_SHARED, file);
    const long before = minor_faults();
    for (size_t page = 0; page < PAGES; ++page) touch_read(at + page * PAGE);
    const long faults = minor_faults() - before;
    unmap(at, REGION);
    return faults > 0 ? PAGES / (size_t)faults : 0;
}

void measure_file(void) {
    const int file = memory_file(REGION);
    const size_t window = fault_window(file);
    put("fault_around_pages", (double)window);  // pages
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        char* at = map_file(REGION, PROT_READ | PROT_WRITE, MAP_SHARED, file);
        const int tracked = without_fault_around(at, REGION);
        if (tracked < 0) {
            if (repeat == 0) cannot("file_touch", "userfaultfd: %s", strerror(errno));
        } else {
            make_tables(at, 0);
            put_batch("file_touch", touch_all(at, 1, 0), 1, repeat >= 0);
            close(tracked);
        }
        unmap(at, REGION);
        at = map_file(REGION, PROT_READ | PROT_WRITE, MAP_SHARED, file);
        make_tables(at, 1);
        put_batch("file_write_touch", touch_all(at, 1, 1), 1, repeat >= 0);
        unmap(at, REGION);
        if (window > 1 && CHUNK / PAGE % window == 0) {
            at = map_file(REGION, PROT_READ, MAP_SHARED, file);
            make_tables(at, 0);
            put_batch("file_window_touch", touch_all(at, window, 0), window, repeat >= 0);
            unmap(at, REGION);
        }
    }
    close(file);
}

void measure_cow(void) {
    const int file = memory_file(REGION);
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        char* at = map_file(REGION, PROT_READ | PROT_WRITE, MAP_PRIVATE, file);
        make_tables(at, 1);
        put_batch("cow_absent_touch", touch_all(at, 1, 1), 1, repeat >= 0);
        unmap(at, REGION);
        at = map_small(REGION);
        make_tables(at, 1);
        touch_all(at, 1, 1);
        const pid_t child = fork_tied();  // holds the pages, stopped
        if (child == 0) {
            for (;;) raise(SIGSTOP);
        }
        if (waitpid(child, NULL, WUNTRACED) != child) die("waitpid");
        put_batch("cow_touch", touch_all(at, 1, 1), 1, repeat >= 0);
        kill(child, SIGKILL);
        (void)reap(child);
        unmap(at, REGION);
    }
    close(file);
}

// ---- Write protection: which situations take a fault on a present page that is then just written

// The frame of a page as pagemap tells root; 0 for others.
static uint64_t frame_of(char* at) {
    uint64_t entry = 0;
    const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (pread(file, &entry, sizeof entry, (off_t)((uintptr_t)at / PAGE * sizeof entry)) !=
        (ssize_t)sizeof entry) {
        entry = 0;
    }
    close(file);
    return entry & (((uint64_t)1 << 55) - 1);
}

// mprotect takes the right to write away and gives it back; then all pages are written.
static void after_mprotect(const char* name, char* at, int keep) {
    make_tables(at, 1);
    touch_all(at, 1, 1);
    protect(at, REGION, PROT_READ);
    protect(at, REGION, PROT_READ | PROT_WRITE);
    put_batch(name, touch_all(at, 1, 1), 1, keep);
    unmap(at, REGION);
}

// The child that shared the pages is gone: they belong to this process alone again.
static void after_fork(int keep) {
    char* at = map_small(REGION);
    make_tables(at, 1);
    touch_all(at, 1, 1);
    const pid_t child = fork_tied();
    if (child == 0) _exit(0);
    (void)reap(child);
    char* probe = at + PAGE;
    const uint64_t frame = frame_of(probe);
    const struct Batch batch = touch_all(at, 1, 1);
    if (frame_of(probe) != frame) {
        if (keep) cannot("reuse_touch", "the kernel copied pages that one process has alone");
    } else {
        put_batch("reuse_touch", batch, 1, keep);
    }
    unmap(at, REGION);
}

void measure_write_protect(void) {
    const int memory = memory_file(REGION);
    const int disk = open(options.folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (disk < 0) {
        cannot("mkwrite_touch", "no nameless file in %s: %s", options.folder, strerror(errno));
    } else {
        fill_file(disk, REGION);
    }
    for (int repeat = -1; repeat < options.repeats; ++repeat) {
        after_fork(repeat >= 0);
        if (disk < 0) continue;
        char* at = map_file(REGION, PROT_READ | PROT_WRITE, MAP_SHARED, disk);
        make_tables(at, 0);
        touch_all(at, 1, 0);
        put_batch("mkwrite_touch", touch_all(at, 1, 1), 1, repeat >= 0);
        unmap(at, REGION);
    }
    // One answer each: these are not priced, they say where no fault is taken.
    after_mprotect("mprotect_shared_touch",
                   map_file(REGION, PROT_READ | PROT_WRITE, MAP_SHARED, memory), 1);
    after_mprotect("mprotect_private_touch", map_small(REGION), 1);
    if (disk >= 0) close(disk);
    close(memory);
}

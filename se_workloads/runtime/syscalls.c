// System calls of x86-64 Linux.
#include "runtime.h"

#define MARK 20564  // no system call of Linux; ptshare's engines know it

static long call(long n, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(n)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return n;
}

long sys_mmap(u64 addr, u64 length, int prot, int flags, int fd, u64 offset) {
    return call(9, addr, length, (u64)prot, (u64)flags, (u64)(long)fd, offset);
}
long sys_munmap(u64 addr, u64 length) {
    return call(11, addr, length, 0, 0, 0, 0);
}
long sys_mprotect(u64 addr, u64 length, int prot) {
    return call(10, addr, length, (u64)prot, 0, 0, 0);
}
long sys_mremap_to(u64 addr, u64 old_length, u64 new_length, int flags, u64 to) {
    return call(25, addr, old_length, new_length, (u64)flags, to, 0);
}
long sys_mremap(u64 addr, u64 old_length, u64 new_length, int flags) {
    return sys_mremap_to(addr, old_length, new_length, flags, 0);
}
long sys_open(const char* path, int flags) {
    return call(2, (u64)path, (u64)flags, 0600, 0, 0, 0);
}
long sys_close(int fd) {
    return call(3, (u64)fd, 0, 0, 0, 0, 0);
}
long sys_ftruncate(int fd, u64 size) {
    return call(77, (u64)fd, size, 0, 0, 0, 0);
}
long sys_read(int fd, u64 buffer, u64 n) {
    return call(0, (u64)fd, buffer, n, 0, 0, 0);
}
long sys_write(int fd, u64 buffer, u64 n) {
    return call(1, (u64)fd, buffer, n, 0, 0, 0);
}
long sys_getpid(void) {
    return call(39, 0, 0, 0, 0, 0, 0);
}
long sys_kill(long pid, int signal) {
    return call(62, (u64)pid, (u64)signal, 0, 0, 0, 0);
}
long sys_madvise(u64 addr, u64 length, int advice) {
    return call(28, addr, length, (u64)advice, 0, 0, 0);
}
long sys_brk(u64 end) {
    return call(12, end, 0, 0, 0, 0, 0);
}
long sys_fork(void) {
    return call(57, 0, 0, 0, 0, 0, 0);
}
long sys_wait(long pid, int* status) {
    return call(61, (u64)pid, (u64)status, 0, 0, 0, 0);
}
void sys_exit(int code) {
    for (;;) call(231, (u64)code, 0, 0, 0, 0, 0);
}

void mark_begin(void) {
    call(MARK, 1, 0, 0, 0, 0, 0);
}
void mark_end(void) {
    call(MARK, 2, 0, 0, 0, 0, 0);
}
void mark_point(void) {
    call(MARK, 3, 0, 0, 0, 0, 0);
}

// linux/userfaultfd.h
#define UFFD_USER_MODE_ONLY 1
#define UFFD_API 0xaaUL
#define UFFDIO_API 0xc018aa3fUL
#define UFFDIO_REGISTER 0xc020aa00UL
#define UFFDIO_REGISTER_MODE_WP 2

void forgo_fault_around(u64 addr, u64 length) {
    static long fd = -1;  // open to the end: closing it would end the registration
    static long owner;    // whose memory it is about
    if (fd < 0 || owner != sys_getpid()) {
        owner = sys_getpid();
        u64 api[3] = {UFFD_API, 0, 0};
        fd = call(323, O_CLOEXEC | UFFD_USER_MODE_ONLY, 0, 0, 0, 0, 0);
        if (fd < 0) fail_call("userfaultfd", fd);
        const long error = call(16, (u64)fd, UFFDIO_API, (u64)api, 0, 0, 0);
        if (error < 0) fail_call("ioctl UFFDIO_API", error);
    }
    u64 range[4] = {addr, length, UFFDIO_REGISTER_MODE_WP, 0};
    const long error = call(16, (u64)fd, UFFDIO_REGISTER, (u64)range, 0, 0, 0);
    if (error < 0) fail_call("ioctl UFFDIO_REGISTER", error);
}

const char* errno_name(long result) {
    static const struct {
        long number;
        const char* name;
    } names[] = {
        {1, "EPERM"},         {2, "ENOENT"},      {3, "ESRCH"},    {4, "EINTR"},
        {5, "EIO"},           {9, "EBADF"},       {11, "EAGAIN"},  {12, "ENOMEM"},
        {13, "EACCES"},       {EFAULT, "EFAULT"}, {16, "EBUSY"},   {17, "EEXIST"},
        {19, "ENODEV"},       {20, "ENOTDIR"},    {21, "EISDIR"},  {EINVAL, "EINVAL"},
        {23, "ENFILE"},       {24, "EMFILE"},     {26, "ETXTBSY"}, {27, "EFBIG"},
        {28, "ENOSPC"},       {29, "ESPIPE"},     {30, "EROFS"},   {32, "EPIPE"},
        {36, "ENAMETOOLONG"}, {38, "ENOSYS"},     {40, "ELOOP"},   {75, "EOVERFLOW"},
        {95, "EOPNOTSUPP"},   {122, "EDQUOT"},
    };
    if (result >= 0) return "ok";
    for (u64 i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
        if (names[i].number == -result) return names[i].name;
    }
    return "another-errno";
}

// ---- Barrier

// In a page of its own, shared by all ranks without MAP_SHARED_PT. All zeros at the start.
static volatile struct {
    u64 arrived;     // ranks that wait in this generation; times 2^32, ranks that are gone
    u64 generation;  // counts completed barriers
    u64 failed;      // 1 + a rank that has failed: waiting for it would be for ever
    u64 joined;      // ranks that mapped this page, ever
    u64 count;       // --count of the first of them
} * barrier_page;

// The first barrier needs all ranks, so none may join after it, and none may be too many.
static void join(const char* path) {
    u64 count = 0;
    __atomic_compare_exchange_n(&barrier_page->count, &count, options.count, 0, __ATOMIC_SEQ_CST,
                                __ATOMIC_SEQ_CST);
    const u64 joined = __atomic_add_fetch(&barrier_page->joined, 1, __ATOMIC_SEQ_CST);
    const u64 generation = __atomic_load_n(&barrier_page->generation, __ATOMIC_SEQ_CST);
    if ((count == 0 || count == options.count) && joined <= options.count && generation == 0)
        return;
    start_failure();
    put_shown(path);
    put_text(": more ranks than --count, or another --count; remove it if an earlier run left it");
    end_failure();
}

void map_barrier(const char* path) {
    const long fd = sys_open(path, O_RDWR | O_CREAT);
    if (fd < 0) fail_call(path, fd);
    long result = sys_ftruncate((int)fd, PAGE_SIZE);
    if (result < 0) fail_call("ftruncate of the barrier's page", result);
    result = sys_mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    if (result < 0) fail_call("mmap of the barrier's page", result);
    barrier_page = (void*)result;
    sys_close((int)fd);
    join(path);
}

// arrived and gone in one word, so that whoever completes the set sees both: gone in the upper
// half.
#define GONE_UNIT (1UL << 32)

static void complete(u64 state) {
    const u64 arrived = state & (GONE_UNIT - 1);
    const u64 gone = state / GONE_UNIT;
    if (arrived == 0 || arrived + gone != options.count) return;
    // Only one rank sees the set complete: nobody else arrives before the generation changes.
    __atomic_fetch_sub(&barrier_page->arrived, arrived, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&barrier_page->generation, 1, __ATOMIC_SEQ_CST);
}

void barrier(void) {
    const u64 generation = __atomic_load_n(&barrier_page->generation, __ATOMIC_SEQ_CST);
    complete(__atomic_add_fetch(&barrier_page->arrived, 1, __ATOMIC_SEQ_CST));
    while (__atomic_load_n(&barrier_page->generation, __ATOMIC_SEQ_CST) == generation) {
        __asm__ volatile("pause");
        call(24, 0, 0, 0, 0, 0, 0);  // sched_yield; without it, this spins
        const u64 failed = barrier_page->failed;
        if (failed) {
            start_failure();
            put_text("gave up, as another rank failed: rank ");
            put_decimal(failed - 1);
            end_failure();
        }
    }
}

void tell_failure(void) {
    if (!barrier_page) return;
    u64 nobody = 0;
    __atomic_compare_exchange_n(&barrier_page->failed, &nobody, options.rank + 1, 0,
                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

void leave_barrier(void) {
    complete(__atomic_add_fetch(&barrier_page->arrived, GONE_UNIT, __ATOMIC_SEQ_CST));
}

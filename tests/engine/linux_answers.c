// Cases where a simulated kernel is easily wrong. Each prints what it saw; Linux is right.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char* path;
static volatile int flag, done;
static char stacks[2][65536] __attribute__((aligned(16)));
static int word[1024] __attribute__((aligned(4096)));
static int other_word[1024] __attribute__((aligned(4096)));
static const int kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

static void say(const char* what, long value) {
    char line[128];
    const int n = snprintf(line, sizeof(line), "%s=%ld\n", what, value);
    (void)!write(1, line, (size_t)n);
}
static void pause_ms(long ms) {
    const struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&span, 0);
}
static long futex(void* at, int operation, int value) {
    const long result = syscall(SYS_futex, at, operation, value, 0, 0, 0);
    return result < 0 ? -errno : result;
}
static long answer(long result) {
    return result < 0 ? -errno : result;
}
static int open_new(void) {
    return open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
}
static int status_of(int pid) {
    int status = 0;
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void cut_bytes_are_gone(void) {
    char bytes[8192];
    memset(bytes, 'x', sizeof(bytes));
    const int fd = open_new();
    (void)!write(fd, bytes, sizeof(bytes));
    (void)!ftruncate(fd, 100);
    (void)!ftruncate(fd, sizeof(bytes));
    (void)!pread(fd, bytes, sizeof(bytes), 0);
    say("kept", bytes[99]);
    say("cut", bytes[100]);
    say("page", bytes[5000]);
}
static void truncation_unmaps(void) {
    const int fd = open_new();
    (void)!ftruncate(fd, 8192);
    volatile char* at = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    at[0] = 'x';
    const int pid = fork();
    if (pid == 0) {
        open(path, O_RDWR | O_TRUNC);
        _exit(at[0]);  // SIGBUS
    }
    say("signal", WTERMSIG(status_of(pid)));
}
static void writes_at_the_edge(void) {
    const int fd = open_new();
    lseek(fd, 10000, SEEK_SET);
    say("empty", answer(write(fd, "", 0)));
    struct stat status;
    fstat(fd, &status);
    say("size", status.st_size);
    say("negative", answer(pwrite(fd, "x", 1, -1)));
    say("huge", answer(ftruncate(fd, 0x7fffffffffffffffL)));
}
static void appending(void) {
    (void)!write(open_new(), "abcdef", 6);
    const int fd = open(path, O_RDWR | O_APPEND), other = open(path, O_RDWR);
    lseek(fd, 1, SEEK_SET);
    say("wrote", write(fd, "gh", 2));
    say("offset", lseek(fd, 0, SEEK_CUR));
    (void)!pwrite(other, "ij", 2, 8);
    lseek(fd, 2, SEEK_SET);
    say("wrote", pwrite(fd, "k", 1, 0));  // appends, too
    say("offset", lseek(fd, 0, SEEK_CUR));
    (void)!write(fd, "l", 1);
    char bytes[16];
    const long n = pread(other, bytes, sizeof(bytes), 0);
    say("size", n);
    for (long i = 0; i < n; ++i) say("byte", bytes[i]);
}
static void descriptors(void) {
    const int fd = open_new();
    say("exclusive", answer(open(path, O_RDWR | O_CREAT | O_EXCL, 0600)));
    say("dup", fcntl(fd, F_DUPFD, 100));
    say("dup3", answer(dup3(fd, fd, 0)));
}
static void system_calls_are_preempted(void) {
    volatile int* shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0) {
        *shared = 1;
        _exit(0);
    }
    while (!*shared) syscall(SYS_getppid);
    say("seen", *shared);
}
static int fork_and_leave(void* unused) {
    (void)unused;
    const int pid = (int)syscall(SYS_fork);
    if (pid == 0) {
        pause_ms(2);
        _exit(getppid() == flag ? 5 : 6);
    }
    done = pid;
    syscall(SYS_exit, 0);
    return 0;
}
static void child_of_a_thread(void) {
    flag = getpid();
    clone(fork_and_leave, stacks[0] + sizeof(stacks[0]), kThread, 0);
    while (!done) sched_yield();
    say("status", WEXITSTATUS(status_of(done)));
}
static int leave_late(void* unused) {
    (void)unused;
    pause_ms(5);
    syscall(SYS_exit_group, 7);
    return 0;
}
static void leader_leaves_first(void) {
    const int pid = fork();
    if (pid == 0) {
        clone(leave_late, stacks[0] + sizeof(stacks[0]), kThread, 0);
        syscall(SYS_exit, 3);
    }
    pause_ms(2);
    say("status", WEXITSTATUS(status_of(pid)));
}
static int wait_for_any(void* unused) {
    (void)unused;
    syscall(SYS_wait4, -1, 0, 0, 0);
    __sync_fetch_and_add(&done, 1);
    syscall(SYS_exit, 0);
    return 0;
}
static void two_wait_for_one(void) {
    if (fork() == 0) {
        pause_ms(5);
        _exit(0);
    }
    for (int i = 0; i < 2; ++i) {
        clone(wait_for_any, stacks[i] + sizeof(stacks[i]), kThread, 0);
    }
    while (done < 2) pause_ms(1);
    say("both", done);
}
static int set_flag_late(void* unused) {
    (void)unused;
    pause_ms(5);
    flag = 1;
    _exit(0);
}
static void vfork_waits_for_its_own(void) {
    if (fork() == 0) {
        pause_ms(1);
        _exit(0);
    }
    clone(set_flag_late, stacks[0] + sizeof(stacks[0]), CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
    say("flag", flag);
    while (wait(0) > 0) continue;
}
static void futex_keys(void) {
    const int fd = open_new();
    (void)!ftruncate(fd, 4096);
    const int pid = fork();
    if (pid == 0) {
        int* at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        _exit(futex(at, FUTEX_WAIT, 0) == 0 ? 9 : 1);
    }
    int* at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    // Until it waits there is nobody to wake, and how long that takes is the host's affair.
    long woken = 0;
    while (woken == 0) {
        pause_ms(2);
        woken = futex(at, FUTEX_WAKE, 1);
    }
    say("woken", woken);
    say("status", WEXITSTATUS(status_of(pid)));
    // Both words lie in the zero page, and are two futexes.
    const int sleeper = fork();
    if (sleeper == 0) futex(word, FUTEX_WAIT_PRIVATE, *(volatile int*)word);
    pause_ms(2);
    say("other", futex(other_word, FUTEX_WAKE_PRIVATE, *(volatile int*)other_word + 1));
    kill(sleeper, SIGKILL);
    say("signal", WTERMSIG(status_of(sleeper)));
    say("unaligned", futex((char*)word + 2, FUTEX_WAIT, 0));
}
static void written_code_is_run(void) {
    const unsigned char one[] = {0xb8, 1, 0, 0, 0, 0xc3};  // mov $1, %eax; ret
    const unsigned char two[] = {0xb8, 2, 0, 0, 0, 0xc3};
    const int fd = open_new();
    (void)!write(fd, two, sizeof(two));
    void* code =
        mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, one, sizeof(one));
    int (*volatile run)(void) = (int (*)(void))code;
    say("before", run());
    (void)!pread(fd, code, sizeof(two), 0);
    say("after", run());
}
static void odd_times(void) {
    const struct timespec negative = {-1, 0};
    say("negative", answer(syscall(SYS_nanosleep, &negative, 0)));
}
static void zombies_can_be_named(void) {
    const int pid = fork();
    if (pid == 0) _exit(0);
    pause_ms(2);
    say("zombie", answer(kill(pid, 0)));
    waitpid(pid, 0, 0);
    say("gone", answer(kill(pid, 0)));
}
static void bad_tid_address(void) {
    const long pid = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, (void*)8, 0, 0);
    if (pid == 0) _exit(4);
    say("status", WEXITSTATUS(status_of((int)pid)));
}
static void halt(void) {
    const int pid = fork();
    if (pid == 0) __asm__ volatile("hlt");
    say("signal", WTERMSIG(status_of(pid)));
}
static void too_many_arguments(void) {
    static char big[100000];
    memset(big, 'a', sizeof(big) - 1);
    char* list[120];
    for (int i = 0; i < 119; ++i) list[i] = big;
    list[119] = 0;
    say("exec", answer(execv("/proc/self/exe", list)));
}
static void random_bytes(void) {
    char bytes[1000];
    say("bytes", syscall(SYS_getrandom, bytes, sizeof(bytes), 0));
}

static const struct {
    const char* name;
    void (*run)(void);
} cases[] = {
#define CASE(name) \
    { #name, name }
    CASE(cut_bytes_are_gone), CASE(truncation_unmaps),
    CASE(writes_at_the_edge), CASE(appending),
    CASE(descriptors),        CASE(system_calls_are_preempted),
    CASE(child_of_a_thread),  CASE(leader_leaves_first),
    CASE(two_wait_for_one),   CASE(vfork_waits_for_its_own),
    CASE(futex_keys),         CASE(written_code_is_run),
    CASE(odd_times),          CASE(zombies_can_be_named),
    CASE(bad_tid_address),    CASE(halt),
    CASE(too_many_arguments), CASE(random_bytes),
};

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    path = argv[2];
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        if (strcmp(cases[i].name, argv[1]) != 0) continue;
        cases[i].run();
        return 0;
    }
    return 2;
}

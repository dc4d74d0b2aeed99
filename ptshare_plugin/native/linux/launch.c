// launch CPU PROGRAM ARGV0 [ARG...]: becomes PROGRAM, as the engine wants to watch it.
//
// Pinned to the CPU, without address randomisation and transparent huge pages, with the stack limit
// that core assumes, and traced by whoever started this; with a seccomp filter that stops it for
// the tracer at a mark (system call 20564) and nowhere else, so that other system calls run at
// their own speed. It dies with its tracer. The tracer sees a SIGSTOP first, where it sets its
// options, and then the exec.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kMark = 20564, kStackLimit = 8 << 20, kFailed = 127 };

static void fail(const char* what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    _exit(kFailed);
}

static void filter_marks(void) {
    const unsigned number = offsetof(struct seccomp_data, nr);
    const unsigned arch = offsetof(struct seccomp_data, arch);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, arch),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kMark, 4, 0),
        // A process that left the group would not be waited for, nor ended with it.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setpgid, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("prctl(PR_SET_NO_NEW_PRIVS)");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) fail("prctl(PR_SET_SECCOMP)");
}

int main(int argc, char** argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: launch CPU PROGRAM ARGV0 [ARG...]\n");
        return 2;
    }
    const pid_t parent = getppid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl(PR_SET_PDEATHSIG)");
    if (parent == 1 || getppid() != parent) return kFailed;  // orphaned already
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)strtoul(argv[1], NULL, 10), &cpus);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0) fail("sched_setaffinity");
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0) fail("getrlimit(RLIMIT_STACK)");
    limit.rlim_cur = kStackLimit;
    if (setrlimit(RLIMIT_STACK, &limit) != 0) fail("setrlimit(RLIMIT_STACK)");
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) fail("setrlimit(RLIMIT_CORE)");
    if (personality(ADDR_NO_RANDOMIZE) == -1) fail("personality(ADDR_NO_RANDOMIZE)");
    if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) fail("prctl(PR_SET_THP_DISABLE)");
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) fail("ptrace(PTRACE_TRACEME)");
    if (raise(SIGSTOP) != 0) fail("raise");
    filter_marks();
    execv(argv[2], argv + 3);
    fail(argv[2]);
}

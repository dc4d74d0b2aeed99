// SPDX-License-Identifier: GPL-2.0-or-later
// System calls: which, with what, what came of them, and what the kernel read and wrote for them.
#include <pub_tool_aspacemgr.h>
#include <pub_tool_libcbase.h>
#include <pub_tool_libcfile.h>
#include <pub_tool_libcprint.h>
#include <pub_tool_vki.h>
#include <pub_tool_vkiscnums.h>

#include "tool.h"

#define PATH_MOST 4096
#define PAGE 4096UL

// shmctl's answer, as the kernel has it; only the size is of interest.
typedef struct {
    UChar permissions[48];
    ULong bytes;
    ULong rest[8];
} Segment;

static Bool exit_called;
static UWord exit_status;

Bool ptshare_exit_called(UWord* status) {
    *status = exit_status;
    return exit_called;
}

void ptshare_runs_on(void) {
    exit_called = False;  // it was one thread's
}

static ULong who(ThreadId thread, UInt number) {
    return number | (ULong)thread << 16;
}

// Calls that may take long: what is in the buffer must not be lost if the process is killed there.
static Bool waits(UInt number) {
    switch (number) {
        case __NR_poll:
        case __NR_ppoll:
        case __NR_select:
        case __NR_pselect6:
        case __NR_epoll_wait:
        case __NR_epoll_pwait:
        case __NR_pause:
        case __NR_rt_sigsuspend:
        case __NR_rt_sigtimedwait:
        case __NR_nanosleep:
        case __NR_clock_nanosleep:
        case __NR_wait4:
        case __NR_waitid:
        case __NR_accept:
        case __NR_accept4:
            return True;
        default:
            return False;
    }
}

// Whether it ends this program's memory: an exec of something that is there.
static Bool replaces(UInt number, const UWord* args) {
    struct vg_stat status;
    if (number != __NR_execve) return False;
    if (!VG_(am_is_valid_for_client)(args[0], 1, VKI_PROT_READ)) return False;
    return !sr_isError(VG_(stat)((const HChar*)args[0], &status));
}

void ptshare_pre_call(ThreadId thread, UInt number, UWord* args, UInt count) {
    (void)count;
    if (number == __NR_exit_group || number == __NR_exit) {
        exit_called = True;
        exit_status = args[0] & 0xff;
    }
    if (number == PTSHARE_MARK_CALL) ptshare_item1(PTSHARE_MARK, args[0], ptshare_now());
    if (replaces(number, args)) ptshare_present();
    UWord* words = ptshare_item(PTSHARE_CALL, who(thread, number), 7);
    VG_(memcpy)(words, args, 6 * sizeof(UWord));
    words[6] = ptshare_now();
    // Nothing is told after an exec that succeeds.
    if (waits(number) || number == __NR_execve || number == __NR_execveat) ptshare_flush();
}

static void tell_file(ThreadId thread, Int descriptor) {
    HChar link[32], path[PATH_MOST];
    struct vg_stat status;
    if (VG_(fstat)(descriptor, &status) != 0) return;
    VG_(sprintf)(link, "/proc/self/fd/%d", descriptor);
    const SSizeT length = VG_(readlink)(link, path, PATH_MOST - 1);
    path[length < 0 ? 0 : length] = '\0';
    UWord* words = ptshare_item(PTSHARE_FILE, thread, 3 + ptshare_text_words(path));
    words[0] = status.dev;
    words[1] = status.ino;
    words[2] = (UWord)status.size;
    ptshare_text(words + 3, path);
}

static void tell_segment(ThreadId thread, UWord id) {
    Segment segment;
    VG_(memset)(&segment, 0, sizeof segment);
    ptshare_call(__NR_shmctl, id, VKI_IPC_STAT, (UWord)&segment, 0, 0, 0);
    UWord* words = ptshare_item(PTSHARE_FILE, thread, 4);
    words[0] = PTSHARE_SYSTEM_V;
    words[1] = id;
    words[2] = segment.bytes;
    words[3] = 0;
}

void ptshare_post_call(ThreadId thread, UInt number, UWord* args, UInt count, SysRes result) {
    (void)count;
    const Bool failed = sr_isError(result);
    if (!failed && number == __NR_mmap && (args[3] & VKI_MAP_ANONYMOUS) == 0) {
        tell_file(thread, (Int)args[4]);
    }
    if (!failed && number == __NR_shmat) tell_segment(thread, args[0]);
    ptshare_item2(PTSHARE_RETURN, who(thread, number),
                  failed ? (UWord) - (Word)sr_Err(result) : sr_Res(result), ptshare_now());
}

static void reads(CorePart part, ThreadId thread, const HChar* what, Addr address, SizeT bytes) {
    (void)what;
    if (part != Vg_CoreSysCall || bytes == 0) return;
    ptshare_item2(PTSHARE_READS, thread, address, bytes);
}

static void reads_text(CorePart part, ThreadId thread, const HChar* what, Addr address) {
    Addr end = address;
    // Not the program's: it will be an EFAULT.
    while (VG_(am_is_valid_for_client)(end, 1, VKI_PROT_READ)) {
        const Addr page_end = (end | (PAGE - 1)) + 1;
        const SizeT length = VG_(strnlen)((const HChar*)end, page_end - end);
        end += length;
        if (end < page_end) break;
    }
    reads(part, thread, what, address, end - address + 1);
}

static void writes(CorePart part, ThreadId thread, Addr address, SizeT bytes) {
    if ((part != Vg_CoreSysCall && part != Vg_CoreSignal) || bytes == 0) return;
    ptshare_item2(PTSHARE_WRITES, thread, address, bytes);
}

static void mapped_at_start(Addr address, SizeT bytes, Bool readable, Bool writable,
                            Bool executable, ULong debug_info) {
    (void)debug_info;
    const NSegment* segment = VG_(am_find_nsegment)(address);
    const NSegment* below = VG_(am_find_nsegment)(address - 1);
    const HChar* path = segment == NULL ? NULL : VG_(am_get_filename)(segment);
    if (ptshare_own(address)) return;
    if (path == NULL) path = "";
    UInt what = (readable ? VKI_PROT_READ : 0) | (writable ? VKI_PROT_WRITE : 0) |
                (executable ? VKI_PROT_EXEC : 0);
    // The stack is what has room reserved below it.
    if (below != NULL && below->kind == SkResvn && below->smode == SmUpper) {
        what |= PTSHARE_MAP_STACK;
    }
    if (segment != NULL && segment->isCH) what |= PTSHARE_MAP_HEAP;
    UWord* words = ptshare_item(PTSHARE_MAP, what, 5 + ptshare_text_words(path));
    words[0] = address;
    words[1] = bytes;
    words[2] = segment == NULL ? 0 : segment->dev;
    words[3] = segment == NULL ? 0 : segment->ino;
    words[4] = segment == NULL ? 0 : (UWord)(segment->offset + (Off64T)(address - segment->start));
    ptshare_text(words + 5, path);
}

void ptshare_track_memory(void) {
    VG_(track_new_mem_startup)(mapped_at_start);
    VG_(track_pre_mem_read)(reads);
    VG_(track_pre_mem_read_asciiz)(reads_text);
    VG_(track_post_mem_write)(writes);
}

// SPDX-License-Identifier: GPL-2.0-or-later
// System calls of the tool's own, which Valgrind's interface for tools does not have.
#include <pub_tool_libcproc.h>
#include <pub_tool_vki.h>

#include "tool.h"

// Of the linker: where the tool is.
extern const HChar __executable_start, _end;

Bool ptshare_own(Addr address) {
    return address >= (Addr)&__executable_start && address < (Addr)&_end;
}

Word ptshare_call(UWord number, UWord a, UWord b, UWord c, UWord d, UWord e, UWord f) {
    register UWord r10 __asm__("r10") = d;
    register UWord r8 __asm__("r8") = e;
    register UWord r9 __asm__("r9") = f;
    Word result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

ULong ptshare_now(void) {
    struct vki_timespec now;
    VG_(clock_gettime)(&now, VKI_CLOCK_MONOTONIC);
    return (ULong)now.tv_sec * 1000000000ULL + (ULong)now.tv_nsec;
}

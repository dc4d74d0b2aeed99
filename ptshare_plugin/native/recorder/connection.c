// SPDX-License-Identifier: GPL-2.0-or-later
// The buffer of words, and the socket that takes them to `ptshare record`.
#include <pub_tool_libcassert.h>
#include <pub_tool_libcbase.h>
#include <pub_tool_libcfile.h>
#include <pub_tool_libcprint.h>
#include <pub_tool_libcproc.h>
#include <pub_tool_vki.h>
#include <pub_tool_vkiscnums.h>

#include "tool.h"

// Moves a descriptor to where the program's are not, and closes it on exec. Of Valgrind's core.
extern Int VG_(safe_fd)(Int descriptor);

#define WORDS 65536
#define UNIX_FAMILY 1
#define STREAM_SOCKET 1
#define NO_SIGNAL 0x4000
#define PATH_BYTES 108

static UWord buffer[WORDS + PTSHARE_ROOM];
UWord* ptshare_cursor = buffer;
UWord* const ptshare_limit = buffer + WORDS;

static const HChar* socket_path;
static Int connection = -1;
static ULong stream_stamp;

static void lost(Word error) {
    VG_(umsg)
    ("ptshare: the recorder has gone (error %ld): the program runs on unrecorded\n", -error);
    VG_(close)(connection);
    connection = -1;
}

static void connect_again(void) {
    struct {
        UShort family;
        HChar path[PATH_BYTES];
    } address;
    VG_(memset)(&address, 0, sizeof address);
    address.family = UNIX_FAMILY;
    VG_(strlcpy)(address.path, socket_path, PATH_BYTES);
    Word made = ptshare_call(__NR_socket, UNIX_FAMILY, STREAM_SOCKET, 0, 0, 0, 0);
    if (made < 0) return;
    connection = VG_(safe_fd)((Int)made);
    if (connection < 0) return;
    const Word joined =
        ptshare_call(__NR_connect, (UWord)connection, (UWord)&address, sizeof address, 0, 0, 0);
    if (joined < 0) lost(joined);
}

void ptshare_connect(const HChar* path) {
    socket_path = path;
    connect_again();
}

void ptshare_begin_anew(void) {
    ptshare_cursor = buffer;
    if (connection < 0) return;
    VG_(close)(connection);
    connection = -1;
    connect_again();
}

void ptshare_born(ULong parent_stamp, UInt definitions) {
    stream_stamp = ptshare_now();
    UWord* words = ptshare_item(PTSHARE_BORN, PTSHARE_WORDS_VERSION, 5);
    words[0] = (UWord)VG_(getpid)();
    words[1] = (UWord)VG_(getppid)();
    words[2] = stream_stamp;
    words[3] = parent_stamp;
    words[4] = definitions;
    ptshare_flush();
}

ULong ptshare_stream(void) {
    return stream_stamp;
}

void ptshare_flush(void) {
    const HChar* at = (const HChar*)buffer;
    UWord left = (UWord)((const HChar*)ptshare_cursor - at);
    ptshare_cursor = buffer;
    while (left > 0 && connection >= 0) {
        // Without a signal: SIGPIPE would reach the program.
        const Word sent =
            ptshare_call(__NR_sendto, (UWord)connection, (UWord)at, left, NO_SIGNAL, 0, 0);
        if (sent == -VKI_EINTR) continue;
        if (sent <= 0) {
            lost(sent);
            return;
        }
        at += sent;
        left -= (UWord)sent;
    }
}

void ptshare_flush_full(void) {
    ptshare_item1(PTSHARE_STAMP, 0, ptshare_now());
    ptshare_flush();
}

UWord* ptshare_item(enum PtshareKind kind, ULong small, UInt count) {
    tl_assert(count < PTSHARE_ROOM);
    if (ptshare_cursor + count + 1 > ptshare_limit + PTSHARE_ROOM) ptshare_flush();
    UWord* words = ptshare_cursor;
    ptshare_cursor += count + 1;
    *words = PTSHARE_ITEM | (ULong)kind << PTSHARE_KIND_SHIFT |
             (ULong)count << PTSHARE_COUNT_SHIFT | (small & ((1ULL << PTSHARE_COUNT_SHIFT) - 1));
    return words + 1;
}

void ptshare_item1(enum PtshareKind kind, ULong small, UWord word) {
    *ptshare_item(kind, small, 1) = word;
}

void ptshare_item2(enum PtshareKind kind, ULong small, UWord first, UWord second) {
    UWord* words = ptshare_item(kind, small, 2);
    words[0] = first;
    words[1] = second;
}

UInt ptshare_text_words(const HChar* text) {
    return (UInt)(VG_(strlen)(text) / sizeof(UWord) + 1);
}

void ptshare_text(UWord* words, const HChar* text) {
    words[VG_(strlen)(text) / sizeof(UWord)] = 0;
    VG_(memcpy)(words, text, VG_(strlen)(text));
}

UWord* ptshare_last_block(void) {
    UWord* last = NULL;
    for (UWord* item = buffer; item < ptshare_cursor;) {
        const UInt kind = (UInt)(*item >> PTSHARE_KIND_SHIFT) & 0x7f;
        if (kind == PTSHARE_BLOCK) {
            last = item;
            item += 1 + ptshare_addresses((UInt)*item);
        } else {
            item += 1 + (*item >> PTSHARE_COUNT_SHIFT & 0xffff);
        }
    }
    return last;
}

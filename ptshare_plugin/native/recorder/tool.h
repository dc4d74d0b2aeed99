// SPDX-License-Identifier: GPL-2.0-or-later
// What the files of the tool share. See README.md for how it is built.
#ifndef PTSHARE_RECORDER_TOOL_H
#define PTSHARE_RECORDER_TOOL_H

#include <pub_tool_basics.h>
#include <pub_tool_tooliface.h>

#include "recordings/words.h"

// ---- connection.c: the words on their way to `ptshare record`

// Where the next word goes. Blocks move it themselves: see instrument.c.
extern UWord* ptshare_cursor;
// Beyond it a block calls ptshare_flush_full first.
extern UWord* const ptshare_limit;

void ptshare_connect(const HChar* path);
// Tell that this process begins: `parent_stamp` as in PTSHARE_BORN.
void ptshare_born(ULong parent_stamp, UInt definitions);
// Stamp that names this process's stream.
ULong ptshare_stream(void);
// Begin an item; its words are to be written to what it returns, at once.
UWord* ptshare_item(enum PtshareKind kind, ULong small, UInt count);
void ptshare_item1(enum PtshareKind kind, ULong small, UWord word);
void ptshare_item2(enum PtshareKind kind, ULong small, UWord first, UWord second);
// Words of a text, its NUL included, and writing them.
UInt ptshare_text_words(const HChar* text);
void ptshare_text(UWord* words, const HChar* text);
void ptshare_flush(void);
void ptshare_flush_full(void);
// In a child after a fork: what is in the buffer is the parent's, and so is the connection.
void ptshare_begin_anew(void);
// The last block in the buffer, or NULL.
UWord* ptshare_last_block(void);

// Words that a block may write beyond the limit.
#define PTSHARE_ROOM 4096

// ---- instrument.c

IRSB* ptshare_instrument(VgCallbackClosure* closure, IRSB* in, const VexGuestLayout* layout,
                         const VexGuestExtents* extents, const VexArchInfo* host, IRType guest_word,
                         IRType host_word);

// ---- blocks.c: the definitions made so far

#define PTSHARE_MOST_INSTRUCTIONS 256
#define PTSHARE_MOST_ACCESSES 1024

// A value that a block knows: a base and a distance from it.
typedef struct {
    enum { kConstant, kEntryStack, kTemporary } base;
    IRTemp temporary;
    Long offset;
} Value;

typedef struct {
    UShort instruction;
    UShort bytes;
    UChar kind;
    UShort base;  // PTSHARE_BASE_NONE or an address of the block
    Long offset;
} Access;

typedef struct {
    UShort instructions, accesses;
    UShort base;
    Long offset;
} Left;

// A block on its way to its definition.
typedef struct {
    Addr address;
    UInt flags;
    UInt instructions, accesses, addresses, exits;
    Addr at[PTSHARE_MOST_INSTRUCTIONS];
    UChar bytes[PTSHARE_MOST_INSTRUCTIONS];
    Access access[PTSHARE_MOST_ACCESSES];
    Value word[PTSHARE_MOST_ACCESSES];  // what each address is
    Bool guarded[PTSHARE_MOST_ACCESSES];
    Left left[PTSHARE_MOST_INSTRUCTIONS + 1];  // its end, then side exits
} Block;

// Send a definition; returns its number.
UInt ptshare_define(const Block* block);
UInt ptshare_definitions(void);
UInt ptshare_addresses(UInt block);
// A fault has stopped the last block before the instruction at `address`.
void ptshare_stop_last_block(Addr address);

// ---- calls.c

void ptshare_pre_call(ThreadId thread, UInt number, UWord* args, UInt count);
void ptshare_post_call(ThreadId thread, UInt number, UWord* args, UInt count, SysRes result);
void ptshare_track_memory(void);
// Whether the program called exit, and has not run since; with what status.
Bool ptshare_exit_called(UWord* status);
void ptshare_runs_on(void);

// ---- present.c: what the kernel's page tables hold

void ptshare_present(void);
// The first instruction is next, or the first in a forked child: faults until now are Valgrind's.
void ptshare_program_starts(Bool forked);

// ---- linux.c: what Valgrind offers to its own files only

Word ptshare_call(UWord number, UWord a, UWord b, UWord c, UWord d, UWord e, UWord f);
ULong ptshare_now(void);
// Whether it is the tool's own: the code that signal handlers return to is, though the program
// executes it.
Bool ptshare_own(Addr address);

#endif  // PTSHARE_RECORDER_TOOL_H

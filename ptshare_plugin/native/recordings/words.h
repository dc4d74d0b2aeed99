// The words that the recorder's tool sends, one stream a process. C and C++: the tool includes it.
//
// A word is 64 bits. An item begins with a word that has bit 63:
//
//     63   62..56   55..40   39..0
//     1    kind     count    small        and `count` words more; all kinds but BLOCK
//
//     63   62..56   47..32   31..0
//     1    BLOCK    left     block        and one address for each word of the block's definition
//
// `left` says how the block was left: 0 at its end; k by its side exit k (1 is the first one);
// PTSHARE_STOPPED | i before its instruction i (0 is the first one), by a fault. Addresses behind
// that point are not valid.
//
// An address with PTSHARE_ABSENT is of a guarded access that did not happen.
#ifndef PTSHARE_RECORDINGS_WORDS_H
#define PTSHARE_RECORDINGS_WORDS_H

#define PTSHARE_WORDS_VERSION 1
#define PTSHARE_ITEM (1ULL << 63)
#define PTSHARE_ABSENT (1ULL << 62)
#define PTSHARE_KIND_SHIFT 56
#define PTSHARE_COUNT_SHIFT 40
#define PTSHARE_LEFT_SHIFT 32
#define PTSHARE_STOPPED 0x8000

// Kinds. `thread` is Valgrind's number of it, 1 for the first; numbers are used again.
enum PtshareKind {
    PTSHARE_BLOCK = 0,
    // A block's definition; they are numbered from 0, in a forked child from where the parent's
    // ended at the fork. Words: see below.
    PTSHARE_DEFINE = 1,
    // Begins a stream. small: PTSHARE_WORDS_VERSION. Words: process, parent process, the stamp that
    // names this stream, the stamp that names the parent's stream (0: started by exec), number of
    // definitions that are the parent's.
    PTSHARE_BORN = 2,
    // Text in words, NUL at the end: NAME: command line; TITLE: what the process calls itself at
    // its end (argv[0]).
    PTSHARE_NAME = 3,
    PTSHARE_TITLE = 4,
    // A mapping that was there when the program began. small: PTSHARE_MAP_*. Words: address, bytes,
    // device, inode, offset, path as text.
    PTSHARE_MAP = 5,
    // What a call that maps names, between CALL and RETURN. small: thread. Words: device, inode,
    // bytes, path as text. Of shmat: device PTSHARE_SYSTEM_V, inode the segment's id.
    PTSHARE_FILE = 6,
    // System call. small: number | thread << 16. Words: six arguments, stamp.
    PTSHARE_CALL = 7,
    // Its return. small: as CALL. Words: result or minus errno, stamp.
    PTSHARE_RETURN = 8,
    // What the kernel reads or writes for a call, or writes of a signal's frame (no CALL then).
    // small: thread. Words: address, bytes.
    PTSHARE_READS = 9,
    PTSHARE_WRITES = 10,
    // small: the thread that runs from here on; one that comes to be; one that ends.
    PTSHARE_THREAD = 11,
    PTSHARE_THREAD_BEGINS = 12,
    PTSHARE_THREAD_ENDS = 13,
    // A signal whose handler is entered next. small: number | thread << 16. Words: stamp.
    PTSHARE_SIGNAL = 14,
    // The program's own mark: call PTSHARE_MARK_CALL. small: its first argument. Words: stamp.
    PTSHARE_MARK = 15,
    // Now and then between blocks. Words: stamp.
    PTSHARE_STAMP = 16,
    // Pages that the kernel's page tables hold, at the end or before an exec. Words: address and
    // bytes of an area of the program's, then address and number of pages of each run in it.
    PTSHARE_PRESENT = 17,
    // Faults that the kernel has counted by then. Words: minor; major; of the minor, those that are
    // surely Valgrind's: before the program's first instruction, and one for each anonymous page of
    // its own that it has got since and that no other process maps.
    PTSHARE_FAULTS = 18,
    // The last item. small: 1 when the program called exit, 0 when a signal ends it. Words: exit
    // status, stamp.
    PTSHARE_END = 19,
    PTSHARE_KINDS = 20
};

// PTSHARE_MAP, small: rights as mmap's PROT_*, and what it is.
#define PTSHARE_MAP_STACK 8
#define PTSHARE_MAP_HEAP 16

#define PTSHARE_SYSTEM_V 0xffffffffULL

// A system call that Linux does not have: what ptshare's own programs mark with.
#define PTSHARE_MARK_CALL 20564

// Words of PTSHARE_DEFINE:
//
//     address of its first instruction
//     instructions | accesses << 16 | addresses << 32 | side exits << 48
//     flags: PTSHARE_BLOCK_*
//     for each instruction: bytes | zigzag(distance from the end of the one before) << 8
//     for each access: instruction | kind << 16 | bytes << 24 | base << 40; offset
//     for each address: 0, or 1 | zigzag(distance from the stack pointer at the block's entry) << 1
//     for its end and each side exit: instructions | accesses << 16 | base << 32; offset
//
// An access lies at `base` + offset; a base is PTSHARE_BASE_NONE (0 + offset), or an address of the
// block by its number. The last lines say what was done when the block was left there, and the
// stack pointer then, whose base may also be PTSHARE_BASE_ENTRY (the one at the block's entry) or
// PTSHARE_BASE_UNKNOWN.
#define PTSHARE_BASE_NONE 0xffff
#define PTSHARE_BASE_ENTRY 0xfffe
#define PTSHARE_BASE_UNKNOWN 0xfffd

#define PTSHARE_BLOCK_CALLS 1    // ends with a call
#define PTSHARE_BLOCK_RETURNS 2  // ends with a return
#define PTSHARE_BLOCK_FOREIGN 4  // code that is Valgrind's, not in the program's mappings

// Kinds of an access; with PTSHARE_GUARDED its address says whether it happened.
#define PTSHARE_LOAD 0
#define PTSHARE_STORE 1
#define PTSHARE_MODIFY 2  // read and written by one instruction
#define PTSHARE_GUARDED 4

#endif  // PTSHARE_RECORDINGS_WORDS_H

// protect: one rank changes the protection of the region between rounds.
//
// In odd rounds rank 0 makes every second 64 KiB piece read-only and all ranks read; before even
// rounds it gives the right to write back, and every rank writes its pages. With private tables the
// call acts on rank 0 alone, with shared tables on all: the data is the same. What the read-only
// pieces refuse is tested by a system call that stores there: EFAULT, where a store would be fatal.
#include "patterns/protect.h"

#include "runtime/runtime.h"

WORKLOAD("protect", "one rank flips the protection of the region between rounds", 4, "rounds");
#define PIECE_MULTIPLE 4096
#define OWN(ARGUMENT)                                                              \
    ARGUMENT(NUMBER, piece, "--piece", 65536, 4096, 1099511627776, PIECE_MULTIPLE, \
             "bytes whose protection a call changes; with 2 MiB pages a multiple of these")
ARGUMENTS(OWN);

static void set_protection(int prot) {
    for (u64 at = 0; at < options.size; at = protect_next(at, piece)) {
        const u64 length = protect_length(at, piece, options.size);
        const long error = sys_mprotect(options.addr + at, length, prot);
        if (error == -EINVAL && piece % PMD_SIZE) {
            fail(
                "mprotect of a piece: EINVAL; with 2 MiB pages, --piece must be a multiple of "
                "2097152");
        }
        if (error < 0) fail_call("mprotect of a piece of the region", error);
    }
}

// A system call that stores in page 0, which is in the first piece. It reads the file's first 8
// bytes: what is there already.
static void expect_store(const char* what, long want) {
    const long stored = sys_read(region_fd, options.addr, 8);
    if (stored == want) return;
    start_failure();
    put_text(what);
    put_text(errno_name(want));
    put_text(", got ");
    put_text(errno_name(stored));
    end_failure();
}

void run(void) {
    if (piece % PIECE_MULTIPLE) {
        bad_argument("--piece", piece, "must be a multiple of " TEXT_OF(PIECE_MULTIPLE));
    }
    setup();
    map_region();
    const u64 pages = pages_of_region();
    barrier();
    mark_begin();
    u64 checksum = 0;
    for (u64 round = 0; round < options.work; ++round) {
        const int writing = protect_writes(round);
        if (writing) {
            for (u64 page = options.rank; page < pages; page += options.count) {
                *word_at(page * PAGE_SIZE) = datum(page, round);
            }
        } else if (options.rank == 0) {
            set_protection(PROT_READ);
            expect_store("a store into a read-only page: expected ", -EFAULT);
        }
        barrier();
        for (u64 page = 0; page < pages; ++page) {
            const u64 got = *word_at(page * PAGE_SIZE);
            expect("page", page, got, datum(page, round - !writing));
            checksum = mix(checksum ^ got);
        }
        barrier();
        if (!writing && options.rank == 0) set_protection(PROT_READ | PROT_WRITE);
        barrier();
    }
    mark_end();
    if (options.rank == 0) expect_store("a store once the right to write is back: expected ", 8);
    put_number("pages", pages);
    put_number("rounds", options.work);
    put_hex("checksum", checksum);
}

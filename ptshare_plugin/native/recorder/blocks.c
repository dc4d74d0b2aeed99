// SPDX-License-Identifier: GPL-2.0-or-later
// Definitions of blocks: sent once each, and what is kept of them.
#include <pub_tool_libcassert.h>
#include <pub_tool_libcbase.h>
#include <pub_tool_mallocfree.h>

#include "tool.h"

typedef struct {
    UShort addresses;
    UShort instructions;
    Addr* at;
} Kept;

static Kept* kept;
static UInt count, room;

static UWord zigzag(Long distance) {
    return (UWord)distance << 1 ^ (UWord)(distance >> 63);
}

static void keep(const Block* block) {
    if (count == room) {
        room = room == 0 ? 4096 : 2 * room;
        kept = VG_(realloc)("ptshare.blocks", kept, room * sizeof *kept);
    }
    Kept* place = &kept[count++];
    place->addresses = (UShort)block->addresses;
    place->instructions = (UShort)block->instructions;
    place->at = VG_(malloc)("ptshare.instructions", block->instructions * sizeof(Addr));
    VG_(memcpy)(place->at, block->at, block->instructions * sizeof(Addr));
}

UInt ptshare_define(const Block* block) {
    const UInt exits = block->exits + 1;
    UWord* word =
        ptshare_item(PTSHARE_DEFINE, 0,
                     3 + block->instructions + 2 * block->accesses + block->addresses + 2 * exits);
    *word++ = block->address;
    *word++ = block->instructions | (UWord)block->accesses << 16 | (UWord)block->addresses << 32 |
              (UWord)block->exits << 48;
    *word++ = block->flags;
    Addr end = block->address;
    for (UInt i = 0; i < block->instructions; ++i) {
        *word++ = block->bytes[i] | zigzag((Long)(block->at[i] - end)) << 8;
        end = block->at[i] + block->bytes[i];
    }
    for (UInt i = 0; i < block->accesses; ++i) {
        const Access* access = &block->access[i];
        *word++ = access->instruction | (UWord)access->kind << 16 | (UWord)access->bytes << 24 |
                  (UWord)access->base << 40;
        *word++ = (UWord)access->offset;
    }
    for (UInt i = 0; i < block->addresses; ++i) {
        const Bool on_stack = !block->guarded[i] && block->word[i].base == kEntryStack;
        *word++ = on_stack ? 1 | zigzag(block->word[i].offset) << 1 : 0;
    }
    for (UInt i = 0; i < exits; ++i) {
        const Left* left = &block->left[i];
        *word++ = left->instructions | (UWord)left->accesses << 16 | (UWord)left->base << 32;
        *word++ = (UWord)left->offset;
    }
    keep(block);
    return count - 1;
}

UInt ptshare_definitions(void) {
    return count;
}

UInt ptshare_addresses(UInt block) {
    return kept[block].addresses;
}

void ptshare_stop_last_block(Addr address) {
    UWord* item = ptshare_last_block();
    if (item == NULL) return;
    const Kept* block = &kept[(UInt)*item];
    for (UInt i = 0; i < block->instructions; ++i) {
        if (block->at[i] == address) {
            *item = (*item & ~(0xffffULL << PTSHARE_LEFT_SHIFT)) | (ULong)(PTSHARE_STOPPED | i)
                                                                       << PTSHARE_LEFT_SHIFT;
            return;
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-or-later
// What is added to each block: its head makes room for all of its words at once; each recorded
// address is one store at a fixed place behind the head; each side exit that is passed is one store
// to the head, which says how far the block went. No call but when the buffer is full.
#include <pub_tool_libcassert.h>
#include <pub_tool_libcbase.h>
#include <pub_tool_machine.h>
#include <pub_tool_mallocfree.h>

#include "analyse.h"

static IRExpr* number(ULong value) {
    return IRExpr_Const(IRConst_U64(value));
}

static IRExpr* assign(IRSB* out, IRType type, IRExpr* data) {
    const IRTemp made = newIRTemp(out->tyenv, type);
    addStmtToIRSB(out, IRStmt_WrTmp(made, data));
    return IRExpr_RdTmp(made);
}

static IRExpr* load_cursor(IRSB* out) {
    return assign(out, Ity_I64, IRExpr_Load(Iend_LE, Ity_I64, number((Addr)&ptshare_cursor)));
}

static void put(IRSB* out, IRExpr* start, UInt word, IRExpr* data) {
    IRExpr* place = start;
    if (word > 0) {
        place = assign(out, Ity_I64, IRExpr_Binop(Iop_Add64, start, number(word * sizeof(UWord))));
    }
    addStmtToIRSB(out, IRStmt_Store(Iend_LE, place, data));
}

static void put_head(IRSB* out, IRExpr* start, UInt block, UInt left) {
    put(out, start, 0,
        number(PTSHARE_ITEM | (ULong)PTSHARE_BLOCK << PTSHARE_KIND_SHIFT |
               (ULong)left << PTSHARE_LEFT_SHIFT | block));
}

// Make room, write the head; returns where it is.
static IRExpr* begin(IRSB* out, UInt number_of_block, const Block* block) {
    IRExpr* before = load_cursor(out);
    IRExpr* full =
        assign(out, Ity_I1, IRExpr_Binop(Iop_CmpLT64U, number((Addr)ptshare_limit), before));
    IRDirty* flush = unsafeIRDirty_0_N(0, "ptshare_flush_full",
                                       VG_(fnptr_to_fnentry)(ptshare_flush_full), mkIRExprVec_0());
    flush->guard = full;
    addStmtToIRSB(out, IRStmt_Dirty(flush));
    IRExpr* start = load_cursor(out);
    IRExpr* behind =
        assign(out, Ity_I64,
               IRExpr_Binop(Iop_Add64, start, number((1 + block->addresses) * sizeof(UWord))));
    addStmtToIRSB(out, IRStmt_Store(Iend_LE, number((Addr)&ptshare_cursor), behind));
    put_head(out, start, number_of_block, block->exits > 0 ? 1 : 0);
    return start;
}

static IRExpr* guard_of(const IRStmt* statement) {
    switch (statement->tag) {
        case Ist_LoadG:
            return statement->Ist.LoadG.details->guard;
        case Ist_StoreG:
            return statement->Ist.StoreG.details->guard;
        case Ist_Dirty:
            return statement->Ist.Dirty.details->guard;
        default:
            return NULL;
    }
}

static IRExpr* address_of(const IRStmt* statement) {
    switch (statement->tag) {
        case Ist_WrTmp:
            return statement->Ist.WrTmp.data->Iex.Load.addr;
        case Ist_Store:
            return statement->Ist.Store.addr;
        case Ist_LoadG:
            return statement->Ist.LoadG.details->addr;
        case Ist_StoreG:
            return statement->Ist.StoreG.details->addr;
        case Ist_CAS:
            return statement->Ist.CAS.details->addr;
        case Ist_LLSC:
            return statement->Ist.LLSC.addr;
        default:
            tl_assert(statement->tag == Ist_Dirty);
            return statement->Ist.Dirty.details->mAddr;
    }
}

static void record(IRSB* out, IRExpr* start, UInt word, const IRStmt* statement, Bool guarded) {
    IRExpr* address = address_of(statement);
    if (guarded) {
        IRExpr* absent =
            assign(out, Ity_I64, IRExpr_Binop(Iop_Or64, address, number(PTSHARE_ABSENT)));
        address = assign(out, Ity_I64, IRExpr_ITE(guard_of(statement), address, absent));
    }
    put(out, start, word, address);
}

IRSB* ptshare_instrument(VgCallbackClosure* closure, IRSB* in, const VexGuestLayout* layout,
                         const VexGuestExtents* extents, const VexArchInfo* host, IRType guest_word,
                         IRType host_word) {
    static Block block;
    (void)closure, (void)extents, (void)host;
    tl_assert(guest_word == Ity_I64 && host_word == Ity_I64);
    IRSB* out = deepCopyIRSBExceptStmts(in);
    Int first = 0;
    while (first < in->stmts_used && in->stmts[first]->tag != Ist_IMark) {
        addStmtToIRSB(out, in->stmts[first++]);
    }
    if (first == in->stmts_used) return out;
    Bool* records = VG_(malloc)("ptshare.records", (SizeT)in->stmts_used * sizeof(Bool));
    ptshare_analyse(in, first, layout, &block, records);
    tl_assert(block.addresses < PTSHARE_ROOM / 2);
    const UInt defined = ptshare_define(&block);
    IRExpr* start = begin(out, defined, &block);
    UInt word = 0, exit = 0;
    for (Int i = first; i < in->stmts_used; ++i) {
        IRStmt* statement = in->stmts[i];
        if (records[i]) {
            record(out, start, word + 1, statement, block.guarded[word]);
            ++word;
        }
        addStmtToIRSB(out, statement);
        if (statement->tag == Ist_Exit) {
            ++exit;
            put_head(out, start, defined, exit < block.exits ? exit + 1 : 0);
        }
    }
    VG_(free)(records);
    return out;
}

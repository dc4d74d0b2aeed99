// SPDX-License-Identifier: GPL-2.0-or-later
// What a block does, from its IR: instructions, accesses, the addresses that must be recorded, and
// where the stack pointer is when it is left.
//
// Addresses that lie at a fixed distance from one that the block has recorded before are not
// recorded: pushes, fields of one object, spilled registers. Nor are constant ones.
#include "analyse.h"

#include <pub_tool_libcassert.h>
#include <pub_tool_libcbase.h>
#include <pub_tool_mallocfree.h>

typedef struct {
    Block* block;
    Value* values;  // of temporaries
    Value stack;    // the stack pointer
    Int stack_offset;
} State;

static Value constant(Long value) {
    const Value made = {kConstant, 0, value};
    return made;
}

static Value value_of(const State* state, const IRExpr* atom) {
    if (atom->tag == Iex_RdTmp) return state->values[atom->Iex.RdTmp.tmp];
    tl_assert(atom->tag == Iex_Const);
    return constant(atom->Iex.Const.con->tag == Ico_U64 ? (Long)atom->Iex.Const.con->Ico.U64 : 0);
}

static Value computed(const State* state, IRTemp temporary, const IRExpr* data) {
    Value value = {kTemporary, temporary, 0};
    if (data->tag == Iex_RdTmp || data->tag == Iex_Const) return value_of(state, data);
    if (data->tag == Iex_Get && data->Iex.Get.ty == Ity_I64 &&
        data->Iex.Get.offset == state->stack_offset) {
        return state->stack;
    }
    if (data->tag != Iex_Binop) return value;
    const IROp op = data->Iex.Binop.op;
    if (op != Iop_Add64 && op != Iop_Sub64) return value;
    const Value left = value_of(state, data->Iex.Binop.arg1);
    const Value right = value_of(state, data->Iex.Binop.arg2);
    if (right.base == kConstant) {
        value = left;
        value.offset += op == Iop_Add64 ? right.offset : -right.offset;
    } else if (op == Iop_Add64 && left.base == kConstant) {
        value = right;
        value.offset += left.offset;
    }
    return value;
}

static Bool same_base(Value a, Value b) {
    return a.base == b.base && (a.base != kTemporary || a.temporary == b.temporary);
}

// Number of the recorded address that `value` is at a fixed distance from, or -1.
static Int recorded(const Block* block, Value value) {
    for (UInt i = 0; i < block->addresses; ++i) {
        if (!block->guarded[i] && same_base(block->word[i], value)) return (Int)i;
    }
    return -1;
}

// Add an access; returns whether its address is to be recorded.
static Bool add(State* state, const IRExpr* address, UInt bytes, UChar kind, Bool guarded) {
    Block* block = state->block;
    tl_assert(block->accesses < PTSHARE_MOST_ACCESSES && block->instructions > 0);
    const Value value = value_of(state, address);
    Access access = {(UShort)(block->instructions - 1), (UShort)bytes, kind, PTSHARE_BASE_NONE,
                     value.offset};
    Bool record = False;
    if (guarded) {
        access.kind |= PTSHARE_GUARDED;
        record = True;
    } else if (value.base != kConstant) {
        const Int known = recorded(block, value);
        record = known < 0;
        if (!record) {
            access.base = (UShort)known;
            access.offset = value.offset - block->word[known].offset;
        }
    }
    if (record) {
        access.base = (UShort)block->addresses;
        access.offset = 0;
        block->guarded[block->addresses] = guarded;
        block->word[block->addresses++] = value;
    }
    block->access[block->accesses++] = access;
    return record;
}

// A store to where the same instruction has read: one modify.
static Bool modifies(State* state, const IRExpr* address, UInt bytes) {
    Block* block = state->block;
    const Value value = value_of(state, address);
    for (UInt i = block->accesses; i > 0; --i) {
        Access* access = &block->access[i - 1];
        if (access->instruction + 1U != block->instructions) return False;
        if (access->kind != PTSHARE_LOAD || access->bytes != bytes) continue;
        const Bool fixed = access->base == PTSHARE_BASE_NONE;
        if (fixed != (value.base == kConstant)) continue;
        if (!fixed && !same_base(block->word[access->base], value)) continue;
        const Long from = fixed ? 0 : block->word[access->base].offset;
        if (from + access->offset != value.offset) continue;
        access->kind = PTSHARE_MODIFY;
        return True;
    }
    return False;
}

static Bool store(State* state, const IRExpr* address, UInt bytes) {
    if (modifies(state, address, bytes)) return False;
    return add(state, address, bytes, PTSHARE_STORE, False);
}

static Left left_now(const State* state) {
    const Block* block = state->block;
    Left left = {(UShort)block->instructions, (UShort)block->accesses, PTSHARE_BASE_UNKNOWN, 0};
    if (state->stack.base == kEntryStack) {
        left.base = PTSHARE_BASE_ENTRY;
        left.offset = state->stack.offset;
        return left;
    }
    const Int known = recorded(block, state->stack);
    if (known >= 0) {
        left.base = (UShort)known;
        left.offset = state->stack.offset - block->word[known].offset;
    }
    return left;
}

static Bool is_true(const IRExpr* guard) {
    return guard->tag == Iex_Const && guard->Iex.Const.con->Ico.U1;
}

static UInt size_of_expression(const IRSB* in, const IRExpr* data) {
    return (UInt)sizeofIRType(typeOfIRExpr(in->tyenv, data));
}

static Bool dirty_call(State* state, const IRDirty* call) {
    const Bool guarded = !is_true(call->guard);
    if (call->mFx == Ifx_None) return False;
    const UChar kind = call->mFx == Ifx_Read    ? PTSHARE_LOAD
                       : call->mFx == Ifx_Write ? PTSHARE_STORE
                                                : PTSHARE_MODIFY;
    return add(state, call->mAddr, (UInt)call->mSize, kind, guarded);
}

static UInt size_of_guarded_load(const IRLoadG* load) {
    IRType result, loaded;
    typeOfIRLoadGOp(load->cvt, &result, &loaded);
    return (UInt)sizeofIRType(loaded);
}

static Bool compare_and_swap(State* state, const IRSB* in, const IRCAS* cas) {
    const UInt bytes = size_of_expression(in, cas->dataLo) * (cas->dataHi == NULL ? 1 : 2);
    if (modifies(state, cas->addr, bytes)) return False;
    return add(state, cas->addr, bytes, PTSHARE_MODIFY, False);
}

// Whether the statement's address is to be recorded.
static Bool accesses_of(State* state, const IRSB* in, const IRStmt* statement) {
    switch (statement->tag) {
        case Ist_WrTmp: {
            const IRExpr* data = statement->Ist.WrTmp.data;
            if (data->tag != Iex_Load) return False;
            const UInt bytes = (UInt)sizeofIRType(data->Iex.Load.ty);
            return add(state, data->Iex.Load.addr, bytes, PTSHARE_LOAD, False);
        }
        case Ist_Store:
            return store(state, statement->Ist.Store.addr,
                         size_of_expression(in, statement->Ist.Store.data));
        case Ist_LoadG: {
            const IRLoadG* load = statement->Ist.LoadG.details;
            return add(state, load->addr, size_of_guarded_load(load), PTSHARE_LOAD, True);
        }
        case Ist_StoreG: {
            const IRStoreG* guarded = statement->Ist.StoreG.details;
            return add(state, guarded->addr, size_of_expression(in, guarded->data), PTSHARE_STORE,
                       True);
        }
        case Ist_CAS:
            return compare_and_swap(state, in, statement->Ist.CAS.details);
        case Ist_LLSC: {
            const IRExpr* data = statement->Ist.LLSC.storedata;
            if (data != NULL) {
                return store(state, statement->Ist.LLSC.addr, size_of_expression(in, data));
            }
            const IRType type = typeOfIRTemp(in->tyenv, statement->Ist.LLSC.result);
            return add(state, statement->Ist.LLSC.addr, (UInt)sizeofIRType(type), PTSHARE_LOAD,
                       False);
        }
        case Ist_Dirty:
            return dirty_call(state, statement->Ist.Dirty.details);
        default:
            return False;
    }
}

static void follow(State* state, const IRStmt* statement) {
    Block* block = state->block;
    switch (statement->tag) {
        case Ist_IMark:
            tl_assert(block->instructions < PTSHARE_MOST_INSTRUCTIONS);
            block->at[block->instructions] = statement->Ist.IMark.addr;
            block->bytes[block->instructions++] = (UChar)statement->Ist.IMark.len;
            return;
        case Ist_WrTmp:
            state->values[statement->Ist.WrTmp.tmp] =
                computed(state, statement->Ist.WrTmp.tmp, statement->Ist.WrTmp.data);
            return;
        case Ist_Put:
            if (statement->Ist.Put.offset == state->stack_offset) {
                state->stack = value_of(state, statement->Ist.Put.data);
            }
            return;
        case Ist_Exit:
            tl_assert(block->exits < PTSHARE_MOST_INSTRUCTIONS);
            block->left[++block->exits] = left_now(state);
            return;
        default:
            return;
    }
}

void ptshare_analyse(const IRSB* in, Int first, const VexGuestLayout* layout, Block* block,
                     Bool* records) {
    State state = {block, NULL, {kEntryStack, 0, 0}, layout->offset_SP};
    state.values = VG_(malloc)("ptshare.values", (SizeT)in->tyenv->types_used * sizeof(Value));
    for (Int i = 0; i < in->tyenv->types_used; ++i) {
        const Value itself = {kTemporary, (IRTemp)i, 0};
        state.values[i] = itself;
    }
    block->address = in->stmts[first]->Ist.IMark.addr;
    block->flags = in->jumpkind == Ijk_Call  ? PTSHARE_BLOCK_CALLS
                   : in->jumpkind == Ijk_Ret ? PTSHARE_BLOCK_RETURNS
                                             : 0;
    if (ptshare_own(block->address)) block->flags |= PTSHARE_BLOCK_FOREIGN;
    block->instructions = block->accesses = block->addresses = block->exits = 0;
    for (Int i = first; i < in->stmts_used; ++i) {
        // First what it does with values as they were, then what it makes of them.
        records[i] = accesses_of(&state, in, in->stmts[i]);
        follow(&state, in->stmts[i]);
    }
    block->left[0] = left_now(&state);
    VG_(free)(state.values);
}

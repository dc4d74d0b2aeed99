#include "imports/drmemtrace.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace ptshare::imports {

namespace {

// Types of records. Instructions: from kInstruction to kReturn, and those behind.
enum Type : unsigned {
    kRead = 0,
    kWrite = 1,
    kInstruction = 10,
    kDirectCall = 14,
    kIndirectCall = 15,
    kReturn = 16,
    kBundle = 17,
    kFirstFlush = 18,
    kLastFlush = 21,
    kThread = 22,
    kThreadExit = 23,
    kPid = 24,
    kHeader = 25,
    kFooter = 26,
    kMarker = 28,
    kNoFetch = 29,
    kMaybeFetch = 30,
    kSysenter = 31,
    kEncoding = 47,
    kTakenJump = 48,
    kUntakenJump = 49
};

enum Marker : unsigned {
    kKernelEvent = 0,
    kTimestamp = 2,
    kFunctionId = 4,
    kFunctionArgument = 6,
    kFunctionResult = 7,
    kFileType = 9,
    kVersion = 12,
    kPageSize = 18,
    kSyscall = 25,
    kSyscallTraceStart = 27,
    kSyscallTraceEnd = 28,
    kSyscallFailed = 30,
    kSwitchStart = 34,
    kSwitchEnd = 35,
    kSignalNumber = 40
};

constexpr Word kOldestVersion = 1, kNewestVersion = 7;
constexpr Word kOtherMachines = 0x08 | 0x10 | 0x20, kFiltered = 0x01 | 0x80 | 0x100;
constexpr Word kInstructionsOnly = 0x04;
constexpr Word kSyscallBase = Word{1} << 32;
constexpr Word kIdle = ~Word{0};

[[noreturn]] void refuse(const std::string& why) {
    throw std::runtime_error(why);
}

void check_file_type(Word type) {
    if ((type & kOtherMachines) != 0) refuse("a trace of another machine than x86-64");
    if ((type & kFiltered) != 0) refuse("a filtered trace: most of its accesses are missing");
    if ((type & kInstructionsOnly) != 0) refuse("a trace of instructions alone: no accesses");
}

bool changes_memory(unsigned number) {
    return number == SYS_mmap || number == SYS_munmap || number == SYS_mprotect ||
           number == SYS_mremap || number == SYS_brk || number == SYS_madvise ||
           number == SYS_shmat || number == SYS_shmdt;
}

// Calls that a trace of one program does not go on from, or whose children are traces of their own.
bool makes_processes(unsigned number) {
    return number == SYS_fork || number == SYS_vfork || number == SYS_clone ||
           number == SYS_clone3 || number == SYS_execve || number == SYS_execveat ||
           number == SYS_exit || number == SYS_exit_group;
}

std::size_t arguments_of(unsigned number) {
    switch (number) {
        case SYS_mmap:
            return 6;
        case SYS_munmap:
            return 2;
        case SYS_mremap:
            return 4;
        default:
            return 3;
    }
}

}  // namespace

void Drmemtrace::begin_again() {
    lanes_.clear();
}

Word Drmemtrace::stamp(Word microseconds) const {
    const Word begun = earliest_.value_or(0);
    // Behind the stamps that name streams, which count from 1.
    return 1'000'000 + (microseconds > begun ? microseconds - begun : 0) * 1000;
}

std::size_t Drmemtrace::feed(std::size_t number, const char* bytes, std::size_t count, Word until) {
    if (number >= lanes_.size()) lanes_.resize(number + 1);
    Lane& lane = lanes_[number];
    // Its process may be in other lanes, too.
    if (lane.process != nullptr) lane.process->thread(lane.thread);
    std::size_t at = 0;
    for (; at + kRecord <= count; at += kRecord) {
        Record record;
        std::uint16_t head[2];
        std::memcpy(head, bytes + at, sizeof head);
        record.type = head[0];
        record.size = head[1];
        std::memcpy(&record.value, bytes + at + 4, sizeof record.value);
        std::memcpy(record.lengths.data(), bytes + at + 4, record.lengths.size());
        if (record.type == kMarker && record.size == kTimestamp && record.value > until) {
            stopped_at_ = record.value;
            // Another lane may go on with the process.
            if (lane.process != nullptr) lane.process->end_block();
            break;
        }
        take(lane, record);
    }
    if (count == 0 && lane.process != nullptr) lane.process->end_block();
    return at;
}

Process& Drmemtrace::of(Lane& lane) {
    if (lane.process == nullptr) refuse("its process is not told before its first instruction");
    return *lane.process;
}

void Drmemtrace::take(Lane& lane, const Record& record) {
    if (!lane.begun) {
        if (record.type != kHeader) refuse("no final trace of drmemtrace (raw ones: raw2trace)");
        if (record.value < kOldestVersion || record.value > kNewestVersion) {
            refuse("version " + std::to_string(record.value) +
                   " of drmemtrace's format; this reads " + std::to_string(kOldestVersion) +
                   " to " + std::to_string(kNewestVersion));
        }
        lane.begun = true;
        return;
    }
    switch (record.type) {
        case kRead:
        case kWrite:
            if (lane.kernel) return;
            of(lane).access(record.type == kRead ? AccessKind::Load : AccessKind::Store,
                            record.value, record.size);
            return;
        case kBundle:
            bundle(lane, record);
            return;
        case kThread:
            if (lane.process != nullptr) lane.process->end_block();
            end_call(lane);
            lane.thread = record.value;
            return;
        case kPid:
            if (record.value == kIdle) return;
            lane.process = &process(static_cast<std::uint32_t>(record.value));
            lane.process->thread(lane.thread);
            return;
        case kThreadExit:
            end_call(lane);
            return;
        case kMarker:
            marker(lane, record.size, record.value);
            return;
        case kHeader:
        case kFooter:
        case kEncoding:
            return;
        default:
            break;
    }
    if (record.type >= kFirstFlush && record.type <= kLastFlush) {
        ++left_out_["flushes of caches"];
    } else if ((record.type >= kInstruction && record.type <= kReturn) ||
               (record.type >= kNoFetch && record.type <= kSysenter) || record.type == kTakenJump ||
               record.type == kUntakenJump) {
        instruction(lane, record);
    } else if (record.type < kEncoding) {
        ++left_out_["prefetches"];
    } else {
        refuse("a record of type " + std::to_string(record.type) + ", which it does not know");
    }
}

void Drmemtrace::instruction(Lane& lane, const Record& record) {
    if (lane.kernel) return;
    end_call(lane);
    const bool calls = record.type == kDirectCall || record.type == kIndirectCall;
    of(lane).instruction(record.value, record.size,
                         calls                    ? Flow::Call
                         : record.type == kReturn ? Flow::Return
                                                  : Flow::On);
    lane.next = record.value + record.size;
}

// Instructions behind the last one, whose lengths are told.
void Drmemtrace::bundle(Lane& lane, const Record& record) {
    if (lane.kernel) return;
    if (record.size > record.lengths.size()) refuse("a bundle of too many instructions");
    for (std::size_t i = 0; i < record.size; ++i) {
        of(lane).instruction(lane.next, record.lengths[i], Flow::On);
        lane.next += record.lengths[i];
    }
}

void Drmemtrace::marker(Lane& lane, unsigned kind, Word value) {
    switch (kind) {
        case kVersion:
            if (value > kNewestVersion) {
                refuse("version " + std::to_string(value) + " of drmemtrace's format");
            }
            return;
        case kFileType:
            check_file_type(value);
            return;
        case kPageSize:
            if (value != kPage) refuse("pages of " + std::to_string(value) + " bytes");
            return;
        case kTimestamp:
            lane.now = value;
            earliest_ = std::min(earliest_.value_or(value), value);
            latest_ = std::max(latest_, value);
            if (lane.process != nullptr) lane.process->stamp(stamp(value));
            return;
        case kSyscall:
            end_call(lane);
            lane.call = {};
            lane.call.number = static_cast<unsigned>(value & 0xffff);
            lane.call.called = lane.now;
            lane.calls = true;
            return;
        case kSyscallTraceStart:
        case kSwitchStart:
            lane.kernel = true;
            return;
        case kSyscallTraceEnd:
        case kSwitchEnd:
            lane.kernel = false;
            return;
        case kKernelEvent:
            if (lane.process != nullptr) lane.process->end_block();
            return;
        case kSignalNumber:
            of(lane).signal(static_cast<unsigned>(value & 0xffff), stamp(lane.now));
            return;
        default:
            function_marker(lane, kind, value);
    }
}

// Arguments and results of system calls, where they were recorded (-record_syscall).
void Drmemtrace::function_marker(Lane& lane, unsigned kind, Word value) {
    if (kind == kFunctionId) lane.function = value;
    if (!lane.calls || lane.function != kSyscallBase + lane.call.number) return;
    Call& call = lane.call;
    if (kind == kFunctionArgument && call.given < call.arguments.size()) {
        call.arguments[call.given++] = value;
    } else if (kind == kFunctionResult) {
        call.result = value;
        lane.returns = true;
    } else if (kind == kSyscallFailed) {
        call.failed = true;
    }
}

void Drmemtrace::end_call(Lane& lane) {
    if (!lane.calls) return;
    Call& call = lane.call;
    const bool whole = lane.returns && call.given >= arguments_of(call.number);
    lane.calls = lane.returns = false;
    if (makes_processes(call.number)) return;
    if (changes_memory(call.number) && (!whole || call.number == SYS_brk ||
                                        call.number == SYS_shmat || call.number == SYS_shmdt)) {
        ++left_out_["system calls about memory, without arguments"];
        return;
    }
    if (call.failed && call.result < ~Word{4095}) call.result = ~Word{0};
    // What it maps of a file is memory of its own: which file is not told.
    if (call.number == SYS_mmap) call.arguments[3] |= MAP_ANONYMOUS;
    of(lane).call(call.number, call.arguments, call.result, stamp(call.called), stamp(lane.now));
}

}  // namespace ptshare::imports

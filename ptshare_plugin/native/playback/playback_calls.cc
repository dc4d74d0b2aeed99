// System calls about memory, as recorded: core answers them under the policy, at the addresses that
// the recorded kernel chose.
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/policies/huge.h"
#include "playback/playback.h"

namespace ptshare::engine {

namespace {

constexpr Word kMapHugetlb = 0x40000, kMapLocked = 0x2000;
constexpr Word kShmReadOnly = 010000;
constexpr Word kMremapMayMove = 1, kMremapFixed = 2;
constexpr int kDontNeed = 4, kPopulateRead = 22, kPopulateWrite = 23;

bool failed(Word result) {
    return result > ~Word{4095};
}

VirtAddr page_up(VirtAddr at) {
    return align_up(at, kPageSize);
}

std::string text_of(const Word* words, std::size_t count) {
    const auto* first = reinterpret_cast<const char*>(words);
    return std::string(first, strnlen(first, count * sizeof(Word)));
}

// Whose pages exist from their first use on only.
bool lives_in_memory(Word device, const std::string& path) {
    if (device == PTSHARE_SYSTEM_V) return true;
    for (const char* begin : {"/dev/shm/", "/memfd:", "memfd:", "/SYSV", "/dev/zero", "/run/"}) {
        if (path.compare(0, std::strlen(begin), begin) == 0) return true;
    }
    return false;
}

// The reason is the model's: why it was not shared.
const char* refusal_text(Refusal refusal) {
    switch (refusal) {
        case Refusal::Anonymous:
            return "anonymous memory is not shared (--set share.anonymous=true)";
        case Refusal::Private:
            return "private memory is not shared";
        case Refusal::Misaligned:
            return "misaligned (--align)";
        case Refusal::Address:
            return "others map it at another address";
        case Refusal::Protection:
            return "others map it with another protection";
        case Refusal::Size:
            return "others map another size of it";
        case Refusal::Room:
            return "other memory lies in what one link translates (--align)";
    }
    return "";
}

}  // namespace

std::shared_ptr<File> Playback::file_of(Word device, Word inode, Word bytes,
                                        const std::string& path) {
    std::shared_ptr<File>& file = files_[{device, inode}];
    if (!file) {
        const bool segment = device == PTSHARE_SYSTEM_V;
        file = machine_.kernel().create_file(segment ? "System V segment " + std::to_string(inode)
                                                     : path);
    }
    if (file->size() < bytes) file->resize(bytes);
    // As after any earlier start of the program: its pages wait in the page cache.
    if (!lives_in_memory(device, path)) file->read_ahead(file->pages());
    return file;
}

// Asks for MAP_SHARED_PT at `place`, if there is one. A range that cannot be shared is mapped where
// it was recorded, without; false: not even that.
bool Playback::map(Core& core, Process& process, MapRequest request,
                   const PlaybackRequest::Place* place) {
    Kernel& kernel = machine_.kernel();
    const VirtAddr recorded = request.address;
    process.moved.remove(recorded, recorded + request.length);
    request.flags |= kMapFixed;
    // The program lived with its mapping, whatever the file's size was.
    if (request.file && request.file->size() < request.offset + request.length) {
        request.file->resize(request.offset + request.length);
    }
    if (place) {
        MapRequest shared = request;
        shared.flags |= kMapSharedPt;
        if (place->at != VirtAddr(0)) shared.address = place->at;
        shared.length = std::max(shared.length, place->bytes);
        // MAP_HUGETLB takes anonymous memory too, from a nameless file of hugetlbfs.
        const bool huge = dynamic_cast<const HugePages*>(&kernel.policy()) != nullptr;
        if (huge && !shared.file && (shared.flags & kMapTypeMask) == kMapShared) {
            shared.file = kernel.create_file("anonymous");
            shared.flags &= ~kMapAnonymous;
        }
        if (shared.file && shared.file->size() < shared.offset + shared.length) {
            shared.file->resize(shared.offset + shared.length);
        }
        const std::string name = request.file ? request.file->name() : "anonymous memory";
        const std::array<std::uint64_t, kRefusals> before = kernel.stats().refusals;
        const std::uint64_t fell_back = kernel.stats().fell_back;
        const MapResult result = kernel.mmap(*process.mm, shared);
        if (result.ok()) {
            if (place->at != VirtAddr(0)) {
                process.moved.add(recorded, recorded + request.length, place->at, shared.length);
            }
            if (kernel.stats().fell_back != fell_back) {
                deviate(process, name + ": chosen, and mapped without sharing", recorded,
                        request.length);
            }
            return true;
        }
        std::string why = "mmap answers error " + std::to_string(static_cast<int>(result.error));
        for (unsigned i = 0; i < kRefusals; ++i) {
            if (kernel.stats().refusals[i] != before[i]) {
                why = refusal_text(static_cast<Refusal>(i));
            }
        }
        deviate(process, name + ": chosen, and not shared: " + why, recorded, request.length);
    }
    const MapResult result = kernel.mmap(*process.mm, request);
    if (!result.ok()) {
        deviate(process, "mmap fails here, error " + std::to_string(static_cast<int>(result.error)),
                recorded, request.length);
    }
    machine_.charge_syscall(core, 0);
    return result.ok();
}

void Playback::map_initial(Core& core, Process& process) {
    const recordings::Item& item = process.item;
    MapRequest request;
    request.address = VirtAddr(item.words[0]);
    request.length = item.words[1];
    request.prot = item.small & kProtMask;
    request.flags = kMapPrivate;
    const Word device = item.words[2], inode = item.words[3];
    const std::string path = text_of(item.words + 5, item.count - 5);
    if (inode != 0) {
        request.file = file_of(device, inode, item.words[4] + request.length, path);
        request.offset = item.words[4];
    } else {
        request.flags |= kMapAnonymous;
    }
    if ((item.small & PTSHARE_MAP_STACK) != 0) request.flags |= kMapGrowsDown;
    if ((item.small & PTSHARE_MAP_HEAP) != 0) process.brk = request.address + request.length;
    map(core, process, std::move(request), nullptr);
}

void Playback::name_file(Process& process) {
    const recordings::Item& item = process.item;
    const auto found = process.pending.find(static_cast<unsigned>(item.small));
    if (found == process.pending.end()) return;
    found->second.file = file_of(item.words[0], item.words[1], item.words[2],
                                 text_of(item.words + 3, item.count - 3));
}

void Playback::returned(Core& core, Process& process, const Pending& call, Word result,
                        Word stamp) {
    const Word* given = call.arguments;
    if (call.number == SYS_brk) {
        move_brk(core, process, VirtAddr(result));
        return;
    }
    if (failed(result)) return;  // nothing had changed
    Kernel& kernel = machine_.kernel();
    const VirtAddr at(given[0]);
    const auto each_part = [&](const char* name, auto&& work) {
        process.moved.for_each_part(at, given[1], [&](VirtAddr now, std::uint64_t bytes) {
            const Errno error = work(now, bytes);
            if (error == Errno::Ok) return;
            deviate(
                process,
                std::string(name) + " fails here, error " + std::to_string(static_cast<int>(error)),
                at, given[1]);
        });
    };
    switch (call.number) {
        case SYS_mmap:
            mapped(core, process, call, VirtAddr(result), stamp);
            break;
        case SYS_shmat:
            attached(core, process, call, VirtAddr(result), stamp);
            break;
        case SYS_shmdt: {
            const auto found = process.segments.find(at.value);
            if (found != process.segments.end()) unmap(core, process, at, found->second);
            break;
        }
        case SYS_munmap:
            unmap(core, process, at, given[1]);
            break;
        case SYS_mprotect:
        case SYS_pkey_mprotect:
            each_part("mprotect", [&](VirtAddr now, std::uint64_t bytes) {
                return kernel.mprotect(*process.mm, now, page_up(VirtAddr(bytes)).value,
                                       given[2] & kProtMask);
            });
            machine_.charge_syscall(core, machine_.costs().memory_call(SYS_mprotect));
            break;
        case SYS_mremap:
            move(core, process, call, VirtAddr(result));
            break;
        case SYS_madvise:
            advise(core, process, call);
            break;
        default:
            break;
    }
}

void Playback::mapped(Core& core, Process& process, const Pending& call, VirtAddr at, Word stamp) {
    const Word flags = call.arguments[3];
    MapRequest request;
    request.address = at;
    request.length = page_up(VirtAddr(call.arguments[1])).value;
    request.prot = call.arguments[2] & kProtMask;
    request.flags = flags & (kMapAnonymous | kMapPopulate);
    // MAP_SHARED_VALIDATE differs in what it refuses only.
    request.flags |= (flags & kMapTypeMask) == kMapPrivate ? kMapPrivate : kMapShared;
    if ((flags & kMapLocked) != 0) request.flags |= kMapPopulate;
    if ((flags & kMapHugetlb) != 0) {
        deviate(process, "MAP_HUGETLB is mapped with pages of 4 KiB", at, request.length);
    }
    if ((flags & kMapAnonymous) == 0) {
        request.file = call.file;
        request.offset = call.arguments[5];
        if (!request.file) {  // of no file that has pages: a device
            deviate(process, "a device is mapped as anonymous memory", at, request.length);
            request.flags |= kMapAnonymous;
            request.offset = 0;
        }
    }
    const auto chosen = request_.shared.find({process.stream(), stamp});
    map(core, process, std::move(request),
        chosen == request_.shared.end() ? nullptr : &chosen->second);
    machine_.charge_syscall(core, machine_.costs().memory_call(SYS_mmap));
}

void Playback::attached(Core& core, Process& process, const Pending& call, VirtAddr at,
                        Word stamp) {
    if (!call.file) return;
    MapRequest request;
    request.address = at;
    request.length = page_up(VirtAddr(call.file->size())).value;
    request.prot = (call.arguments[2] & kShmReadOnly) != 0 ? kProtRead : kProtRead | kProtWrite;
    request.flags = kMapShared;
    request.file = call.file;
    process.segments[at.value] = request.length;
    const auto chosen = request_.shared.find({process.stream(), stamp});
    map(core, process, std::move(request),
        chosen == request_.shared.end() ? nullptr : &chosen->second);
    machine_.charge_syscall(core, machine_.costs().memory_call(SYS_mmap));
}

void Playback::unmap(Core& core, Process& process, VirtAddr at, std::uint64_t bytes) {
    const std::uint64_t length = page_up(VirtAddr(bytes)).value;
    process.moved.for_each_part(at, length, [&](VirtAddr now, std::uint64_t part) {
        const Errno error = machine_.kernel().munmap(*process.mm, now, part);
        if (error == Errno::Ok) return;
        deviate(process, "munmap fails here, error " + std::to_string(static_cast<int>(error)), at,
                length);
    });
    process.moved.remove(at, at + length);
    process.segments.erase(at.value);
    machine_.charge_syscall(core, machine_.costs().memory_call(SYS_munmap));
}

void Playback::move(Core& core, Process& process, const Pending& call, VirtAddr to) {
    const VirtAddr from(call.arguments[0]);
    const Word old_length = page_up(VirtAddr(call.arguments[1])).value;
    const Word new_length = page_up(VirtAddr(call.arguments[2])).value;
    const VirtAddr now = process.moved.now(from);
    const bool moves = to != from;
    if (now != from) deviate(process, "mremap of what --align has moved", from, old_length);
    const MapResult result = machine_.kernel().mremap(*process.mm, now, old_length, new_length,
                                                      moves ? kMremapMayMove | kMremapFixed : 0,
                                                      moves ? to : VirtAddr(0));
    if (!result.ok()) {
        deviate(process,
                "mremap fails here, error " + std::to_string(static_cast<int>(result.error)), from,
                old_length);
    }
    machine_.charge_syscall(core, machine_.costs().memory_call(SYS_mremap));
}

void Playback::advise(Core& core, Process& process, const Pending& call) {
    const VirtAddr at(call.arguments[0]);
    const Word bytes = page_up(VirtAddr(call.arguments[1])).value;
    const auto advice = static_cast<int>(call.arguments[2]);
    if (advice == kPopulateRead || advice == kPopulateWrite) {
        const Access access = advice == kPopulateRead ? Access::Read : Access::Write;
        for (Word done = 0; done < bytes; done += kPageSize) {
            if (!machine_.make_accessible(core, process.moved.now(at + done), access)) break;
        }
        return;
    }
    process.moved.for_each_part(at, bytes, [&](VirtAddr now, std::uint64_t part) {
        const Errno error = machine_.kernel().madvise(*process.mm, now, part, advice);
        if (error == Errno::Ok) return;
        deviate(process, "madvise " + std::to_string(advice) + " is left out", at, bytes);
    });
    if (advice == kDontNeed) {
        machine_.charge_syscall(core, machine_.costs().memory_call(SYS_madvise));
    }
}

// What the kernel wrote for a call, when that returns.
void Playback::write(Core& core, Process& process, const Pending& call, Word result) {
    for (const auto& [at, bytes] : call.writes) {
        // Valgrind gives the whole buffer, whatever came.
        const bool buffer = call.number == SYS_recvfrom && at.value == call.arguments[1];
        use(core, process, at, buffer && !failed(result) ? std::min(bytes, result) : bytes,
            Access::Write);
    }
}

// The end of the heap is there now. The heap's mapping is anonymous memory like other.
void Playback::move_brk(Core& core, Process& process, VirtAddr to) {
    const VirtAddr old = process.brk;
    process.brk = to;
    if (old == VirtAddr(0) || old == to) return;
    VirtAddr before = page_up(old), after = page_up(to);
    if (request_.code_is_translated) {
        // Valgrind unmaps nothing, but clears what it may give again.
        process.heap_end = std::max(process.heap_end, before);
        if (to < old) use(core, process, to, old - to, Access::Write);
        before = process.heap_end;
        after = std::max(after, before);
        process.heap_end = after;
    }
    if (after < before) {
        machine_.kernel().munmap(*process.mm, after, before - after);
    } else if (before < after) {
        MapRequest request;
        request.address = before;
        request.length = after - before;
        request.prot = kProtRead | kProtWrite;
        request.flags = kMapPrivate | kMapAnonymous;
        map(core, process, std::move(request), nullptr);
    }
    machine_.charge_syscall(core, machine_.costs().memory_call(SYS_brk));
}

void Playback::deviate(const Process& process, const std::string& what, VirtAddr address,
                       std::uint64_t bytes) {
    std::vector<Deviation>& all = deviations_[process.stream()];
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Deviation& each) { return each.what == what; });
    if (found != all.end()) {
        ++found->times;
        found->bytes += bytes;
    } else {
        all.push_back({what, address, bytes, 1});
    }
}

}  // namespace ptshare::engine

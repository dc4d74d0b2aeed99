#include "accounting/costs.h"

#include <sys/syscall.h>

#include <stdexcept>
#include <string>

namespace ptshare::engine {

Costs::Costs(const Params& params)
    : syscall(params.count("cost.syscall")),
      fork(params.count("cost.fork")),
      exec(params.count("cost.exec")),
      exit(params.count("cost.exit")),
      switch_to(params.count("cost.switch")),
      pte_update(params.count("cost.pte_update")),
      pte_copy(params.count("cost.fork_pte")),
      table_alloc(params.count("cost.table_alloc")),
      table_free(params.count("cost.table_free")),
      flush_page(params.count("cost.flush_page")),
      fault_entry(params.count("cost.fault.entry")),
      fault_file(params.count("cost.fault.file_page")),
      fault_around(params.count("cost.fault.around_page")),
      fault_anon(params.count("cost.fault.anon_page")),
      fault_cow(params.count("cost.fault.cow_page")),
      fault_write_protect(params.count("cost.fault.write_protect")),
      fault_link(params.count("cost.fault.link")),
      fault_host(params.count("cost.fault.host")),
      shootdown_local(params.count("cost.shootdown.local")),
      shootdown_first(params.count("cost.shootdown.first_cpu")),
      shootdown_next(params.count("cost.shootdown.next_cpu")),
      shootdown_receive(params.count("cost.shootdown.receive")),
      broadcast_issue(params.count("cost.shootdown.broadcast_issue")),
      broadcast_first(params.count("cost.shootdown.broadcast_first_cpu")),
      broadcast_next(params.count("cost.shootdown.broadcast_next_cpu")),
      message(params.count("cost.message")),
      signal(params.count("cost.signal")),
      mmap_(params.count("cost.mmap")),
      munmap_(params.count("cost.munmap")),
      mprotect_(params.count("cost.mprotect")) {
}

std::uint64_t Costs::fault(const FaultResult& result) const {
    std::uint64_t cycles = fault_entry + result.around * fault_around;
    if (result.linked) cycles += fault_link;
    switch (result.kind) {
        case FaultKind::Host:
            return cycles + fault_host + fault_file;
        case FaultKind::File:
            return cycles + fault_file;
        case FaultKind::Anon:
            return cycles + fault_anon;
        case FaultKind::Cow:
            return cycles + fault_cow;
        case FaultKind::WriteProtect:
            return cycles + fault_write_protect;
        case FaultKind::Link:
        case FaultKind::Spurious:
        case FaultKind::Segv:
        case FaultKind::Bus:
            break;
    }
    return cycles;
}

std::uint64_t Costs::memory_call(std::uint64_t number) const {
    switch (number) {
        case SYS_mmap:
        case SYS_mremap:
        case SYS_brk:
            return mmap_;
        case SYS_munmap:
            return munmap_;
        case SYS_mprotect:
        case SYS_madvise:
            return mprotect_;
        default:
            throw std::logic_error("system call " + std::to_string(number) +
                                   " is none about memory");
    }
}

std::uint64_t Costs::effects(const Effects& effects) const {
    std::uint64_t cycles = effects.tables_allocated * table_alloc +
                           effects.tables_freed * table_free + effects.ptes_changed * pte_update +
                           effects.ptes_copied * pte_copy;
    // Population enters the kernel once, for all its faults.
    for (const RepeatedFault& item : effects.populated) {
        cycles += (fault(item.result) - fault_entry) * item.times;
    }
    return cycles;
}

}  // namespace ptshare::engine

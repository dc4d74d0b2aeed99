// System calls of a simulated process: those about memory go to core, all others to gem5.
#pragma once

#include <cstdint>
#include <optional>

#include "arch/x86/linux/se_workload.hh"
#include "core/kernel.h"
#include "params/PtshareWorkload.hh"

namespace ptshare::g5 {

using gem5::PtshareWorkloadParams;

class Kernel;
struct ProcessRecord;

class Workload : public gem5::X86ISA::EmuLinux {
  public:
    PARAMS(PtshareWorkload);
    explicit Workload(const Params& p);

    void setSystem(gem5::System* sys) override;
    void init() override;
    void startup() override;
    void syscall(gem5::ThreadContext* tc) override;

  private:
    using Arguments = const std::uint64_t (&)[6];

    // The answer to a call that is ours, for RAX; none: gem5's emulation answers it.
    std::optional<std::int64_t> answer(gem5::ThreadContext* tc, ProcessRecord& record,
                                       std::uint64_t number, Arguments args);
    std::int64_t mmap(ProcessRecord& record, Arguments args);
    // read, write, pread64, pwrite64 of a file that is in the page cache; none: of another.
    std::optional<std::int64_t> transfer(ProcessRecord& record, std::uint64_t number,
                                         Arguments args);
    std::int64_t copy(ProcessRecord& record, const File& file, int host_fd, bool write,
                      VirtAddr user, std::uint64_t offset, std::uint64_t n);
    void kill(gem5::ThreadContext* tc, ProcessRecord& record, int signal);
    void emulate(gem5::ThreadContext* tc);

    Kernel& kernel_;
};

}  // namespace ptshare::g5

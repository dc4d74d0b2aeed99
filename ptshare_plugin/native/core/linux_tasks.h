// What clone(2) and kill(2) mean to an engine: Linux's numbers (uapi/linux/sched.h, signal(7)).
#pragma once

#include <csignal>
#include <cstdint>

namespace ptshare::engine {

constexpr std::uint64_t kCloneVm = 0x100;
constexpr std::uint64_t kCloneFiles = 0x400;
constexpr std::uint64_t kCloneVfork = 0x4000;
constexpr std::uint64_t kCloneThread = 0x10000;
constexpr std::uint64_t kCloneSetTls = 0x80000;
constexpr std::uint64_t kCloneParentSetTid = 0x100000;
constexpr std::uint64_t kCloneChildClearTid = 0x200000;
constexpr std::uint64_t kCloneChildSetTid = 0x1000000;

constexpr std::uint64_t kWaitNoHang = 1;

constexpr int kMostSignals = 64;

// Signals whose default action is to do nothing; the stop signals are not modelled.
inline bool harmless(int signal) {
    return signal == SIGCHLD || signal == SIGURG || signal == SIGWINCH || signal == SIGCONT ||
           signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

}  // namespace ptshare::engine

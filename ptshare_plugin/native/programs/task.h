// A thread of a simulated process, and the programs that processes run.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/exec.h"
#include "machine/run_queues.h"
#include "programs/executor.h"
#include "programs/vfs.h"

namespace ptshare::engine {

// A static x86-64 program that the loader has checked.
struct Program {
    std::string name;  // its path
    std::shared_ptr<File> file;
    std::vector<Segment> segments;
    VirtAddr entry;
    VirtAddr headers;  // program headers in memory (AT_PHDR), 0: not mapped
    std::uint64_t header_bytes = 0;
    std::uint64_t header_count = 0;
};

struct Task : Thread {
    enum class State { Runnable, Sleeping, Waiting, Futex, Vfork, Zombie };

    std::uint32_t pid = 0;   // thread id
    std::uint32_t tgid = 0;  // process id
    Task* parent = nullptr;  // not owned; null: started from outside, or orphaned
    State state = State::Runnable;

    Executor::Context registers = nullptr;  // owned by Simulation
    VirtAddr pc;
    std::size_t program = 0;
    std::vector<std::string> argv;
    std::vector<std::string> env;
    bool needs_exec = false;  // the program is to be loaded when it is first scheduled
    std::shared_ptr<Descriptors> descriptors;
    std::set<int> ignored;  // signals whose disposition is SIG_IGN

    std::uint64_t wake_clock = 0;   // Sleeping: core clock at which it goes on
    VirtAddr futex;                 // Futex: address waited at
    std::int32_t wait_for = -1;     // Waiting: pid, or -1 for any child
    VirtAddr wait_status;           // Waiting: where the status goes, 0: nowhere
    VirtAddr clear_child_tid;       // set_tid_address
    VirtAddr set_child_tid;         // written by the child before it first runs, 0: nothing
    std::uint32_t vfork_child = 0;  // Vfork: whose exec or exit is waited for
    bool repeat_syscall = false;    // the call that blocked it is made again when it wakes
    int exit_status = 0;            // Zombie: as wait4 reports it

    bool alive() const { return state != State::Zombie; }
};

}  // namespace ptshare::engine

// A thread of a simulated process, and the programs that processes run.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/exec.h"
#include "machine/machine.h"
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

// What one started process leaves behind, with all that it forked.
struct Rank {
    std::string output;
    std::string errors;
    std::uint32_t pid = 0;
    int exit_code = 0;
    int signal = 0;    // that killed it; 0: none
    std::string note;  // why, in words
    Counters counters;
    Counters roi;  // inside the program's marks
    bool marked = false;
    unsigned processes = 1;  // it and its forked descendants, ever
};

struct Task : Charged {
    enum class State { Runnable, Sleeping, Waiting, Futex, Vfork, Zombie };

    std::uint32_t pid = 0;        // thread id
    std::uint32_t tgid = 0;       // process id
    Task* parent = nullptr;       // not owned; null: started from outside, or orphaned
    unsigned rank = 0;            // index of the started process that it descends from
    unsigned process_number = 0;  // Sample::process
    unsigned core = 0;
    State state = State::Runnable;

    Executor::Context registers = nullptr;  // owned by Simulation
    VirtAddr pc;
    std::size_t program = 0;
    std::vector<std::string> argv;
    std::vector<std::string> env;
    bool needs_exec = false;               // the program is to be loaded when it is first scheduled
    std::uint64_t faults_before_exec = 0;  // minor ones, when it was loaded last
    std::shared_ptr<Descriptors> descriptors;
    std::set<int> ignored;  // signals whose disposition is SIG_IGN

    // Region of interest: counters at its begin mark while inside.
    bool in_roi = false;
    Counters roi_begin;

    std::uint64_t wake_clock = 0;     // Sleeping: core clock at which it goes on
    VirtAddr futex;                   // Futex: address waited at
    std::int32_t wait_for = -1;       // Waiting: pid, or -1 for any child
    VirtAddr wait_status;             // Waiting: where the status goes, 0: nowhere
    VirtAddr clear_child_tid;         // set_tid_address
    VirtAddr set_child_tid;           // written by the child before it first runs, 0: nothing
    std::uint32_t vfork_child = 0;    // Vfork: whose exec or exit is waited for
    bool repeat_syscall = false;      // the call that blocked it is made again when it wakes
    int exit_status = 0;              // Zombie: as wait4 reports it
    std::uint64_t quantum_start = 0;  // core clock when it was last loaded
};

}  // namespace ptshare::engine

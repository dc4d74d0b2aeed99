// Life and death of tasks.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sstream>
#include <tuple>

#include "accounting/marks.h"
#include "core/linux_tasks.h"
#include "programs/simulation.h"

namespace ptshare::engine {

// ---- Starting

std::size_t Simulation::add_program(const std::string& name, std::vector<std::uint8_t> image,
                                    const std::vector<Segment>& segments, VirtAddr entry,
                                    VirtAddr headers, std::uint64_t header_bytes,
                                    std::uint64_t header_count) {
    auto file = vfs_.add(name, std::move(image));
    programs_.push_back(
        {name, std::move(file), segments, entry, headers, header_bytes, header_count});
    return programs_.size() - 1;
}

Task& Simulation::new_task(unsigned rank, unsigned core) {
    auto task = std::make_unique<Task>();
    task->pid = next_pid_++;
    task->tgid = task->pid;
    task->rank = rank;
    task->core = core;
    task->registers = executor_.new_context();
    tasks_.push_back(std::move(task));
    return *tasks_.back();
}

std::size_t Simulation::add_process(std::size_t program, std::vector<std::string> argv,
                                    std::vector<std::string> env) {
    if (program >= programs_.size()) throw std::invalid_argument("no such program");
    const auto rank = static_cast<unsigned>(ranks_.size());
    ranks_.emplace_back();
    Task& task = new_task(rank, rank % machine_.cores());
    ranks_[rank].pid = task.pid;
    task.mm = &machine_.kernel().create_mm();
    task.program = program;
    task.argv = std::move(argv);
    task.env = std::move(env);
    task.needs_exec = true;
    const auto terminal = [](OpenFile::Kind kind, bool readable) {
        auto file = std::make_shared<OpenFile>();
        file->kind = kind;
        file->readable = readable;
        file->writable = !readable;
        return file;
    };
    task.descriptors = std::make_shared<Descriptors>(
        Descriptors{terminal(OpenFile::Kind::Input, true), terminal(OpenFile::Kind::Output, false),
                    terminal(OpenFile::Kind::Error, false)});
    make_runnable(task, 0);
    return rank;
}

void Simulation::start_program(Core& core, Task& task) {
    const Program& program = programs_[task.program];
    task.needs_exec = false;
    const VirtAddr stack = loader_.load(core, *task.mm, program, task.argv, task.env);
    machine_.charge_syscall(core, machine_.costs().exec);
    task.faults_before_exec = minor_faults(task.counters);
    executor_.reset(task.registers, stack);
    task.pc = program.entry;
    executor_.forget_translations();
    machine_.take_translations_changed();
}

SyscallResult Simulation::clone(Task& parent, const CloneRequest& request) {
    const bool thread = (request.flags & kCloneThread) != 0;
    const bool same_mm = (request.flags & kCloneVm) != 0;
    if (thread && !same_mm) return -EINVAL;
    Task& child = new_task(parent.rank, least_loaded_core());
    child.tgid = thread ? parent.tgid : child.pid;
    child.process_number = thread ? parent.process_number : ranks_[parent.rank].processes++;
    child.parent = thread ? parent.parent : &parent;
    child.program = parent.program;
    child.pc = parent.pc;
    child.ignored = parent.ignored;
    child.descriptors = (request.flags & kCloneFiles)
                            ? parent.descriptors
                            : std::make_shared<Descriptors>(*parent.descriptors);
    Core& core = core_of(parent);
    if (same_mm) {
        machine_.kernel().share_mm(*parent.mm);
        child.mm = parent.mm;
    } else {
        child.mm = &machine_.kernel().fork(*parent.mm);
    }
    machine_.charge_syscall(core, machine_.costs().fork);

    // The child's registers are the parent's with a result of 0.
    executor_.save(parent.registers);
    executor_.set_result(0, parent.pc);
    if (request.stack != VirtAddr(0)) executor_.write(unicorn::kRsp, request.stack.value);
    if (request.flags & kCloneSetTls) executor_.write(unicorn::kFsBase, request.tls);
    executor_.save(child.registers);
    executor_.load(parent.registers);

    // As Linux: a bad address is not reported.
    if (request.flags & kCloneParentSetTid) user_memory_.put(core, request.parent_tid, child.pid);
    if (request.flags & kCloneChildClearTid) child.clear_child_tid = request.child_tid;
    if (request.flags & kCloneChildSetTid) {
        if (same_mm) {
            user_memory_.put(core, request.child_tid, child.pid);
        } else {
            // Into the child's copy: by the child, before it runs.
            child.set_child_tid = request.child_tid;
        }
    }
    make_runnable(child, core.clock);
    if (request.flags & kCloneVfork) {
        parent.vfork_child = child.pid;
        leave_queue(parent, Task::State::Vfork);
    }
    return child.pid;
}

SyscallResult Simulation::exec(Task& task, const std::string& path, std::vector<std::string> argv,
                               std::vector<std::string> env) {
    // Programs are checked before a run starts: those of this run can be executed, no others.
    const auto program = std::find_if(programs_.begin(), programs_.end(),
                                      [&](const Program& other) { return other.name == path; });
    if (program == programs_.end()) {
        int error = 0;
        return vfs_.find(path, error) ? -ENOEXEC : error;
    }
    const std::uint32_t tgid = task.tgid;
    for (const auto& other : tasks_) {
        // Threads end with exec; one that is left behind is a zombie without a parent to wait.
        if (other.get() != &task && other->tgid == tgid) return -EAGAIN;
    }
    Core& core = core_of(task);
    leave_mm(task);
    task.mm = &machine_.kernel().create_mm();
    // What the old mm's end asks others to flush, before they run on.
    machine_.charge_syscall(core, 0);
    machine_.reload(core);
    task.program = static_cast<std::size_t>(program - programs_.begin());
    task.argv = std::move(argv);
    task.env = std::move(env);
    task.clear_child_tid = VirtAddr(0);
    task.needs_exec = true;
    return std::nullopt;
}

// ---- Ending

void Simulation::leave_mm(Task& task) {
    // A vfork parent goes on when the child gives the mm back.
    for (const auto& other : tasks_) {
        if (other->state == Task::State::Vfork && other->vfork_child == task.pid) {
            make_runnable(*other, core_of(task).clock);
        }
    }
    machine_.kernel().exit(*task.mm);
    task.mm = nullptr;
}

void Simulation::mark(Task& task, std::uint64_t kind) {
    samples_.push_back(take_sample(task.rank, task.process_number, kind, *task.mm, task.counters,
                                   task.faults_before_exec));
    if (kind == kMarkBegin && !task.in_roi) {
        task.in_roi = true;
        task.roi_begin = task.counters;
        ranks_[task.rank].marked = true;
    } else if (kind == kMarkEnd) {
        end_marks(task);
    }
}

void Simulation::end_marks(Task& task) {
    if (!task.in_roi) return;
    task.in_roi = false;
    Counters inside = task.counters;
    subtract(inside, task.roi_begin);
    add(ranks_[task.rank].roi, inside);
}

void Simulation::end_task(Task& task, int status) {
    Core& core = core_of(task);
    end_marks(task);
    leave_queue(task, Task::State::Zombie);
    task.exit_status = status;
    // The core that runs the task pays; a task killed from elsewhere pays on the killer's.
    Core& paying = running_core_ ? *running_core_ : core;
    if (task.clear_child_tid != VirtAddr(0) && task.mm->users > 1 && paying.running == &task) {
        const std::uint32_t zero = 0;
        user_memory_.put(core, task.clear_child_tid, zero);
        futex_wake(task, task.clear_child_tid, 1);
    }
    leave_mm(task);
    machine_.charge_syscall(paying, machine_.costs().exit);
    if (core.running == &task) core.running = nullptr;
    add(ranks_[task.rank].counters, task.counters);
    if (active_ == &task) active_ = nullptr;
    executor_.free_context(task.registers);
    task.registers = nullptr;
}

void Simulation::end_process(Task& task, int code, int signal, const std::string& note) {
    const std::uint32_t tgid = task.tgid;
    const int status = signal != 0 ? signal : code << 8;
    Task* leader = nullptr;
    std::vector<Task*> threads;
    for (const auto& other : tasks_) {
        if (other->tgid != tgid || other->state == Task::State::Zombie) {
            if (other->pid == tgid) leader = other.get();
            continue;
        }
        if (other->pid == tgid) leader = other.get();
        if (other.get() != &task) threads.push_back(other.get());
    }
    for (Task* thread : threads) end_task(*thread, status);
    Rank& rank = ranks_[task.rank];
    if (rank.pid == tgid) {
        rank.exit_code = code;
        rank.signal = signal;
        rank.note = note;
    }
    Task* parent = task.parent;
    const std::uint64_t now = core_of(task).clock;
    end_task(task, status);
    if (leader) leader->exit_status = status;

    for (const auto& other : tasks_) {
        if (other->parent && other->parent->tgid == tgid && other->tgid != tgid) {
            other->parent = nullptr;
        }
    }
    // Only a leader with a parent stays to be waited for.
    std::vector<Task*> gone;
    for (const auto& other : tasks_) {
        const bool mine = other->tgid == tgid && (other.get() != leader || !parent);
        const bool orphan = other->state == Task::State::Zombie && !other->parent;
        if (mine || orphan) gone.push_back(other.get());
    }
    for (Task* other : gone) erase(*other);
    if (!parent) return;
    for (const auto& waiting : tasks_) {
        if (waiting->state != Task::State::Waiting || waiting->tgid != parent->tgid) continue;
        if (waiting->wait_for > 0 && waiting->wait_for != static_cast<int>(tgid)) continue;
        // Asks again when it runs: the call is made anew.
        make_runnable(*waiting, now);
    }
}

void Simulation::erase(Task& task) {
    tasks_.erase(std::find_if(tasks_.begin(), tasks_.end(),
                              [&](const auto& other) { return other.get() == &task; }));
}

void Simulation::exit(Task& task, int code) {
    const auto alive = std::count_if(tasks_.begin(), tasks_.end(), [&](const auto& other) {
        return other->tgid == task.tgid && other->state != Task::State::Zombie;
    });
    if (alive == 1) {
        end_process(task, code, 0, "");
        return;
    }
    end_task(task, code << 8);
    if (task.pid == task.tgid) return;
    // Its children are the process's: the leader stands for it, as long as the process lives.
    Task* leader = nullptr;
    for (const auto& other : tasks_) {
        if (other->pid == task.tgid) leader = other.get();
    }
    for (const auto& other : tasks_) {
        if (other->parent == &task) other->parent = leader;
    }
    erase(task);
}

void Simulation::exit_group(Task& task, int code) {
    end_process(task, code, 0, "");
}

SyscallResult Simulation::wait(Task& task, std::int32_t pid, VirtAddr status,
                               std::uint64_t options) {
    if (pid == 0 || pid < -1) return -EINVAL;  // process groups are not modelled
    bool any = false;
    for (const auto& child : tasks_) {
        if (!child->parent || child->parent->tgid != task.tgid || child->pid != child->tgid) {
            continue;
        }
        if (pid > 0 && child->pid != static_cast<std::uint32_t>(pid)) continue;
        any = true;
        const bool alive = std::any_of(tasks_.begin(), tasks_.end(), [&](const auto& other) {
            return other->tgid == child->tgid && other->state != Task::State::Zombie;
        });
        if (alive) continue;  // also when the leader is gone and threads go on
        const std::uint32_t found = child->pid;
        if (status != VirtAddr(0) && !user_memory_.put(core_of(task), status, child->exit_status)) {
            return -EFAULT;
        }
        erase(*child);
        return found;
    }
    if (!any) return -ECHILD;
    if (options & kWaitNoHang) return 0;
    task.wait_for = pid;
    leave_queue(task, Task::State::Waiting);
    task.repeat_syscall = true;
    return std::nullopt;
}

Task* Simulation::find_task(std::int32_t pid) {
    for (const auto& task : tasks_) {
        if (task->pid == static_cast<std::uint32_t>(pid) && task->state != Task::State::Zombie) {
            return task.get();
        }
    }
    return nullptr;
}

SyscallResult Simulation::kill(Task& task, std::int32_t pid, int signal, bool) {
    if (signal < 0 || signal > kMostSignals || pid <= 0) return -EINVAL;
    Task* target = find_task(pid);
    if (!target) {
        // A process that has ended and was not waited for can still be named.
        const bool ended = std::any_of(tasks_.begin(), tasks_.end(), [&](const auto& other) {
            return other->pid == static_cast<std::uint32_t>(pid);
        });
        return ended ? 0 : -ESRCH;
    }
    if (signal == 0 || harmless(signal)) return 0;
    if (signal != SIGKILL && target->ignored.count(signal)) return 0;
    const bool self = target->tgid == task.tgid;
    if (self && (signal == SIGABRT || signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE ||
                 signal == SIGILL || signal == SIGTRAP)) {
        crash(task, signal, "sent to itself");  // abort() above all
        return std::nullopt;
    }
    end_process(self ? task : *target, 0, signal, self ? "sent to itself" : "sent by another");
    if (self) return std::nullopt;
    return 0;
}

void Simulation::fatal_fault(Task& task) {
    const Machine::Fatal& fault = machine_.last_fault();
    static constexpr const char* kVerbs[] = {"read of page", "write to page", "fetch from page"};
    std::ostringstream note;
    note << kVerbs[static_cast<unsigned>(fault.access)] << " 0x" << std::hex
         << align_down(fault.address, kPageSize).value << " at ip 0x" << task.pc.value;
    crash(task, fault.kind == FaultKind::Bus ? SIGBUS : SIGSEGV, note.str());
}

// A started process that crashes takes the others with it: they may wait for it for ever.
void Simulation::crash(Task& task, int signal, const std::string& note) {
    if (ranks_[task.rank].pid == task.tgid) {
        const std::string why = "ended because process " + std::to_string(task.rank) + " crashed";
        const auto another = [&](const auto& other) {
            return other->tgid != task.tgid && other->state != Task::State::Zombie;
        };
        for (;;) {
            const auto next = std::find_if(tasks_.begin(), tasks_.end(), another);
            if (next == tasks_.end()) break;
            end_process(**next, 0, SIGKILL, why);
        }
    }
    // Last: until then it is the task that runs, and so the one that is charged.
    end_process(task, 0, signal, note);
}

void Simulation::cpu_exception(Task& task) {
    // x86 exception vectors (Intel SDM volume 3A, table 6-1).
    int signal = SIGSEGV;
    const char* what = "CPU exception";
    switch (executor_.exception()) {
        case 0:
            signal = SIGFPE;
            what = "divide error";
            break;
        case 1:
        case 3:
            signal = SIGTRAP;
            what = "breakpoint";
            break;
        case -1:
        case 6:
            signal = SIGILL;
            what = "invalid or unsupported instruction";
            break;
        case 16:
        case 19:
            signal = SIGFPE;
            what = "floating-point exception";
            break;
        default:
            break;
    }
    std::ostringstream note;
    note << what << " at ip 0x" << std::hex << task.pc.value;
    crash(task, signal, note.str());
}

// ---- Waiting

void Simulation::yield(Task& task) {
    auto& queue = queues_[task.core];
    task.quantum_start = core_of(task).clock;
    if (queue.size() < 2) return;
    queue.pop_front();
    queue.push_back(&task);
}

void Simulation::sleep(Task& task, std::uint64_t cycles) {
    task.wake_clock = core_of(task).clock + cycles;
    leave_queue(task, Task::State::Sleeping);
}

void Simulation::futex_wait(Task& task, VirtAddr address) {
    task.futex = address;
    leave_queue(task, Task::State::Futex);
}

std::int64_t Simulation::futex_wake(Task& task, VirtAddr address, std::uint64_t count) {
    // As Linux's futex_key: a word of a shared file wherever it is mapped, else of one mm.
    const auto word = [](const Task& of, VirtAddr at) {
        const Vma* vma = of.mm->find(at);
        const bool file = vma && vma->file && vma->has(kVmShared);
        return file ? std::make_tuple(vma->file->id(), std::uint64_t{0},
                                      (vma->file_page_of(at) << kPageShift) + page_offset(at))
                    : std::make_tuple(std::uint64_t{0}, of.mm->id.value, at.value);
    };
    const auto mine = word(task, address);
    std::int64_t woken = 0;
    for (const auto& other : tasks_) {
        if (static_cast<std::uint64_t>(woken) >= count) break;
        if (other->state != Task::State::Futex || word(*other, other->futex) != mine) continue;
        make_runnable(*other, core_of(task).clock);
        ++woken;
    }
    return woken;
}

}  // namespace ptshare::engine

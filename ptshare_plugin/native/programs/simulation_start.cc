// How tasks come to be: programs and processes of the run, clone, exec.
#include <algorithm>
#include <cerrno>

#include "core/linux_tasks.h"
#include "programs/simulation.h"

namespace ptshare::engine {

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
    task.mm = &machine_.create_mm();
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
    task.faults_before = minor_faults(task.counters);
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

}  // namespace ptshare::engine

// How tasks end, and how their parents learn of it.
#include <algorithm>
#include <cerrno>

#include "core/linux_tasks.h"
#include "programs/simulation.h"

namespace ptshare::engine {

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

void Simulation::end_task(Task& task, int status) {
    Core& core = core_of(task);
    end_roi(task);
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
    for (const auto& other : tasks_) {
        if (other->tgid == tgid && other->alive() && other.get() != &task) {
            end_task(*other, status);
        }
    }
    Rank& rank = ranks_[task.rank];
    if (rank.pid == tgid) {
        rank.exit_code = code;
        rank.signal = signal;
        rank.note = note;
    }
    Task* const parent = task.parent;
    const std::uint64_t now = core_of(task).clock;
    end_task(task, status);
    Task* const leader = leader_of(tgid);
    if (leader) leader->exit_status = status;

    for (const auto& other : tasks_) {
        if (other->parent && other->parent->tgid == tgid && other->tgid != tgid) {
            other->parent = nullptr;
        }
    }
    erase_unwanted(tgid, parent ? leader : nullptr);
    if (parent) wake_waiting(parent->tgid, tgid, now);
}

// A process has ended: its tasks go but for the one that is waited for, and zombies without a
// parent.
void Simulation::erase_unwanted(std::uint32_t tgid, const Task* waited_for) {
    std::vector<Task*> gone;
    for (const auto& other : tasks_) {
        const bool mine = other->tgid == tgid && other.get() != waited_for;
        const bool orphan = !other->alive() && !other->parent;
        if (mine || orphan) gone.push_back(other.get());
    }
    for (Task* other : gone) erase(*other);
}

// Threads of a parent that wait for a child ask again when they run: the call is made anew.
void Simulation::wake_waiting(std::uint32_t parent, std::uint32_t child, std::uint64_t now) {
    for (const auto& waiting : tasks_) {
        if (waiting->state != Task::State::Waiting || waiting->tgid != parent) continue;
        if (waiting->wait_for > 0 && waiting->wait_for != static_cast<int>(child)) continue;
        make_runnable(*waiting, now);
    }
}

Task* Simulation::leader_of(std::uint32_t tgid) {
    const auto found = std::find_if(tasks_.begin(), tasks_.end(),
                                    [&](const auto& task) { return task->pid == tgid; });
    return found == tasks_.end() ? nullptr : found->get();
}

void Simulation::erase(Task& task) {
    tasks_.erase(std::find_if(tasks_.begin(), tasks_.end(),
                              [&](const auto& other) { return other.get() == &task; }));
}

void Simulation::exit(Task& task, int code) {
    const auto alive = std::count_if(tasks_.begin(), tasks_.end(), [&](const auto& other) {
        return other->tgid == task.tgid && other->alive();
    });
    if (alive == 1) {
        end_process(task, code, 0, "");
        return;
    }
    end_task(task, code << 8);
    if (task.pid == task.tgid) return;
    // Its children are the process's: the leader stands for it, as long as the process lives.
    Task* const leader = leader_of(task.tgid);
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
            return other->tgid == child->tgid && other->alive();
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

}  // namespace ptshare::engine

// Checkpoints: core's state goes to a file of its own in gem5's checkpoint folder; what is charged
// to whom stands in the object's section. TLBs start empty, as gem5's caches do.
#include <fstream>
#include <vector>

#include "base/logging.hh"
#include "core/snapshot.h"
#include "gem5/kernel.hh"
#include "gem5/program.hh"
#include "sim/serialize.hh"

namespace ptshare::g5 {

using gem5::arrayParamIn;
using gem5::arrayParamOut;
using gem5::paramIn;
using gem5::paramOut;

namespace {

constexpr const char* kCoreFile = "/ptshare.core";

void counters_out(gem5::CheckpointOut& cp, const std::string& name,
                  const engine::Counters& counters) {
    std::vector<std::uint64_t> values;
    engine::for_each_counter(
        counters, [&](const std::string&, std::uint64_t value) { values.push_back(value); });
    arrayParamOut(cp, name, values);
}

void counters_in(gem5::CheckpointIn& cp, const std::string& name, engine::Counters& counters) {
    std::vector<std::uint64_t> values;
    arrayParamIn(cp, name, values);
    std::size_t next = 0;
    engine::for_each_counter(counters, [&](const std::string&, std::uint64_t& value) {
        fatal_if(next == values.size(), "ptshare: the checkpoint counts less than this version");
        value = values[next++];
    });
    fatal_if(next != values.size(), "ptshare: the checkpoint counts more than this version");
}

}  // namespace

gem5::DrainState Kernel::drain() {
    for (Task* task : tasks()) count_instructions(*task);
    return gem5::DrainState::Drained;
}

void Kernel::serialize(gem5::CheckpointOut& cp) const {
    ClockedObject::serialize(cp);
    for (const Task* task : tasks()) {
        fatal_if(task->process()->pid() != task->rank->pid || task->die,
                 "ptshare: process %d was forked or cloned in the run: gem5 cannot restore it from "
                 "a checkpoint",
                 task->process()->pid());
    }
    fatal_if(scheduler_.shares_cores(),
             "ptshare: checkpoints need a core for each CPU context, and here some share one");
    fatal_if(!core_, "ptshare: a checkpoint before the first process was loaded");
    std::ofstream core_file(gem5::CheckpointIn::dir() + kCoreFile, std::ios::binary);
    save(*core_, core_file);
    core_file.flush();
    fatal_if(!core_file, "ptshare: %s%s cannot be written", gem5::CheckpointIn::dir(), kCoreFile);

    paramOut(cp, "memory_bytes", core_->config().memory_bytes);
    paramOut(cp, "first_frame", core_->config().first_frame);
    paramOut(cp, "inside", inside_);
    paramOut(cp, "invalidated_ranges", shootdowns_.invalidated_ranges());
    std::vector<std::uint64_t> file_ids, ended;
    std::vector<int> how;
    for (const auto& [key, file] : files_) {
        paramOut(cp, "file" + std::to_string(file_ids.size()), file->name());
        file_ids.push_back(file->id());
    }
    for (const auto& [pid, status] : statuses_) {
        ended.push_back(pid);
        how.push_back(status);
    }
    arrayParamOut(cp, "file_ids", file_ids);
    arrayParamOut(cp, "ended", ended);
    arrayParamOut(cp, "how", how);
    for (const Rank& rank : ranks_) {
        const std::string name = "rank" + std::to_string(rank.index);
        counters_out(cp, name + ".counters", rank.counters);
        counters_out(cp, name + ".roi", rank.roi);
    }
    for (const Task& task : contexts_) {
        const std::string name = "context" + std::to_string(task.context->contextId());
        paramOut(cp, name + ".mm", task.mm ? task.mm->id.value : 0);
        paramOut(cp, name + ".in_roi", task.in_roi);
        paramOut(cp, name + ".pending", task.pending);
        paramOut(cp, name + ".faults_before_exec", task.faults_before_exec);
        paramOut(cp, name + ".wake", task.wake.scheduled() ? task.wake.when() : gem5::Tick{0});
        paramOut(cp, name + ".clear_child_tid", task.clear_child_tid.value);
        counters_out(cp, name + ".counters", task.counters);
        counters_out(cp, name + ".roi_begin", task.roi_begin);
    }
}

void Kernel::unserialize(gem5::CheckpointIn& cp) {
    ClockedObject::unserialize(cp);
    std::uint64_t memory_bytes = 0, first_frame = 0;
    paramIn(cp, "memory_bytes", memory_bytes);
    paramIn(cp, "first_frame", first_frame);
    build_core(memory_bytes, first_frame);
    std::ifstream core_file(cp.getCptDir() + kCoreFile, std::ios::binary);
    fatal_if(!core_file, "ptshare: %s%s cannot be read", cp.getCptDir(), kCoreFile);
    const FilesById files = or_fatal([&] { return restore(*core_, core_file); });

    paramIn(cp, "inside", inside_);
    std::uint64_t invalidated_ranges = 0;
    paramIn(cp, "invalidated_ranges", invalidated_ranges);
    shootdowns_.set_invalidated_ranges(invalidated_ranges);
    std::vector<std::uint64_t> file_ids, ended;
    std::vector<int> how;
    arrayParamIn(cp, "file_ids", file_ids);
    arrayParamIn(cp, "ended", ended);
    arrayParamIn(cp, "how", how);
    for (std::size_t i = 0; i < file_ids.size(); ++i) {
        std::string path;
        paramIn(cp, "file" + std::to_string(i), path);
        const HostFile host(path);
        const auto file = files.find(file_ids[i]);
        fatal_if(file == files.end(), "ptshare: the checkpoint has no file %d", file_ids[i]);
        files_[host.identity()] = file->second;
        contents_->back(*file->second, host.fd());
    }
    for (std::size_t i = 0; i < ended.size(); ++i) statuses_[ended[i]] = how.at(i);
    for (Rank& rank : ranks_) {
        const std::string name = "rank" + std::to_string(rank.index);
        counters_in(cp, name + ".counters", rank.counters);
        counters_in(cp, name + ".roi", rank.roi);
    }
    for (Task& task : contexts_) {
        const std::string name = "context" + std::to_string(task.context->contextId());
        std::uint64_t mm = 0;
        gem5::Tick wake = 0;
        paramIn(cp, name + ".mm", mm);
        paramIn(cp, name + ".in_roi", task.in_roi);
        paramIn(cp, name + ".pending", task.pending);
        paramIn(cp, name + ".faults_before_exec", task.faults_before_exec);
        paramIn(cp, name + ".wake", wake);
        paramIn(cp, name + ".clear_child_tid", task.clear_child_tid.value);
        counters_in(cp, name + ".counters", task.counters);
        counters_in(cp, name + ".roi_begin", task.roi_begin);
        task.started = true;
        task.mm = core_->find_mm(MmId(mm));
        if (wake != 0) schedule(task.wake, wake);
    }
    restored_ = true;
}

}  // namespace ptshare::g5

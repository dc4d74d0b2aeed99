#include "bindings/model.h"

#include <algorithm>
#include <csignal>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "accounting/kernel_config.h"

namespace ptshare::bindings {

namespace {

constexpr std::uint64_t kPoison = 0xdeaddeaddeaddeadULL;

std::uint64_t low_bytes(std::uint64_t word, std::uint64_t bytes) {
    return bytes >= sizeof(word) ? word : word & ((1ULL << (8 * bytes)) - 1);
}

KernelConfig checked(KernelConfig config) {
    engine::check_levels("levels", config.levels);
    engine::check_fault_around("fault_around_bytes", config.fault_around_bytes);
    if (config.memory_bytes < 16 * kPageSize) {
        throw std::invalid_argument("memory_bytes is at least 65536");
    }
    return config;
}

std::optional<Pfn> walk(Kernel& kernel, Mm& mm, VirtAddr address, Access access) {
    Pfn table = mm.table.root();
    for (Level level = mm.table.top();; level = below(level)) {
        const PhysAddr slot = address_of(table) + sizeof(Pte) * entry_index(address, level);
        const Pte entry = kernel.tables().read_entry(slot);
        if (!entry.present()) return std::nullopt;
        if (level != Level::Pte && !entry.large()) {
            table = entry.pfn();
            continue;
        }
        if (!entry.permits(access)) return std::nullopt;
        kernel.tables().set_entry_bits(
            slot, Pte::kAccessed | (access == Access::Write ? Pte::kDirty : 0));
        return PageTable::Leaf{entry, level}.frame_of(address);
    }
}

}  // namespace

// ---- Words

std::uint64_t& Words::at(Pfn pfn) {
    if (pfn.value >= words_.size()) words_.resize(pfn.value + 1, kPoison);
    return words_[pfn.value];
}

void Words::zero(Pfn pfn) {
    at(pfn) = 0;
}

void Words::copy(Pfn to, Pfn from) {
    const std::uint64_t word = at(from);
    at(to) = word;
}

void Words::read_file(const File& file, std::uint64_t index, Pfn pfn) {
    const auto it = filled_.find(file.id());
    const std::uint64_t first = index << kPageShift;
    const std::uint64_t kept = it == filled_.end() || it->second <= first ? 0 : it->second - first;
    at(pfn) = low_bytes(file.id() << 32 | (index + 1), kept);
}

void Words::cut_file(const File& file, std::uint64_t bytes, Pfn last) {
    if (const auto it = filled_.find(file.id()); it != filled_.end()) {
        it->second = std::min(it->second, bytes);
    }
    if (last != Pfn(0)) at(last) = low_bytes(at(last), bytes & (kPageSize - 1));
}

void Words::released(Pfn pfn) {
    at(pfn) = kPoison;
}

// ---- Model

Model::Model(const std::string& policy, const KernelConfig& config)
    : kernel_(checked(config), make_policy(policy), words_) {
}

Mm& Model::mm(std::uint64_t id) {
    if (Mm* found = kernel_.find_mm(MmId(id))) return *found;
    throw std::invalid_argument("no mm " + std::to_string(id));
}

const std::shared_ptr<File>& Model::file(std::uint64_t id) {
    const auto it = files_.find(id);
    if (it == files_.end()) throw std::invalid_argument("no file " + std::to_string(id));
    return it->second;
}

std::uint64_t Model::create_file(const std::string& name, std::uint64_t bytes) {
    auto made = kernel_.create_file(name);
    const std::uint64_t id = made->id();
    made->resize(bytes);
    words_.fill(id, bytes);
    files_.emplace(id, std::move(made));
    return id;
}

void Model::close_file(std::uint64_t id) {
    file(id);
    files_.erase(id);
}

std::string Model::save() const {
    std::ostringstream to;
    ptshare::save(kernel_, to);
    return to.str();
}

std::unique_ptr<Model> Model::restored() const {
    auto other = std::make_unique<Model>(kernel_.policy().name(), kernel_.config());
    other->words_ = words_;  // first: restore() must leave them alone
    std::istringstream from(save());
    const FilesById files = restore(other->kernel_, from);
    for (const auto& [id, file] : files_) other->files_[id] = files.at(id);
    return other;
}

std::int64_t Model::touch(Mm& mm, VirtAddr address, Access access) {
    if (address >= kernel_.task_size()) return -SIGSEGV;
    for (int tries = 0; tries < 4; ++tries) {
        if (const auto pfn = walk(kernel_, mm, address, access)) {
            return static_cast<std::int64_t>(pfn->value);
        }
        const FaultKind kind = kernel_.fault(mm, address, access).kind;
        if (kind == FaultKind::Segv) return -SIGSEGV;
        if (kind == FaultKind::Bus) return -SIGBUS;
    }
    throw std::logic_error("a fault was served, yet the access does not go through");
}

}  // namespace ptshare::bindings

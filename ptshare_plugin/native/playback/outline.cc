#include "playback/outline.h"

#include <sys/syscall.h>

#include <algorithm>
#include <stdexcept>

#include "recordings/decoder.h"
#include "recordings/piece.h"

namespace ptshare::engine {

bool is_fork(unsigned number) {
    return number == SYS_fork || number == SYS_vfork || number == SYS_clone || number == SYS_clone3;
}

void Outline::add(const std::string& events) {
    recordings::EventReader reader(events.data(), events.data() + events.size());
    recordings::Item item;
    while (reader.more()) {
        reader.next(item);
        const std::size_t stamped = recordings::form_of(item.kind).stamp;
        if (stamped != recordings::kNone) {
            const Word stamp = item.words[stamped];
            if (!stamps.empty() && stamp < stamps.back()) {
                throw std::runtime_error("damaged: stamps go backwards");
            }
            stamps.push_back(stamp);
        }
        switch (item.kind) {
            case PTSHARE_BORN:
                process = static_cast<std::uint32_t>(item.words[0]);
                born = item.words[2];
                parent_born = item.words[3];
                definitions = item.words[4];
                break;
            case PTSHARE_CALL:
                called(call_number(item.small), call_thread(item.small), stamps.back());
                break;
            case PTSHARE_RETURN:
                returned(call_number(item.small), call_thread(item.small), item.words[0],
                         stamps.back());
                break;
            case PTSHARE_END:
                ended = true;
                break;
            default:
                break;
        }
    }
}

void Outline::called(unsigned number, unsigned thread, Word stamp) {
    executes = number == SYS_execve || number == SYS_execveat;
    if (!is_fork(number)) return;
    forking_[thread] = forks.size();
    forks.push_back({0, stamp, 0});
}

void Outline::returned(unsigned number, unsigned thread, Word result, Word stamp) {
    executes = false;  // an exec that returns has failed
    if (!is_fork(number)) return;
    const auto found = forking_.find(thread);
    if (found == forking_.end()) return;  // the child's own return
    Fork& fork = forks[found->second];
    if (static_cast<std::int64_t>(result) > 0) fork.child = static_cast<std::uint32_t>(result);
    fork.returned = stamp;
    forking_.erase(found);
}

}  // namespace ptshare::engine

// Areas of a process that are replayed at other addresses than those recorded.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/types.h"

namespace ptshare::engine {

class MovedAreas {
  public:
    bool empty() const { return areas_.empty(); }
    // `bytes`: that it takes now, at least as many as it had.
    void add(VirtAddr start, VirtAddr end, VirtAddr place, std::uint64_t bytes) {
        remove(start, end);
        areas_.push_back({start, end, place, bytes - (end - start)});
    }
    // [start, end), as recorded, is there no more.
    void remove(VirtAddr start, VirtAddr end) {
        std::vector<Area> left;
        for (const Area& area : areas_) {
            if (area.end <= start || end <= area.start) {
                left.push_back(area);
                continue;
            }
            if (area.start < start) left.push_back({area.start, start, area.place, 0});
            if (end < area.end) {
                left.push_back({end, area.end, area.place + (end - area.start), area.more});
            }
        }
        areas_ = std::move(left);
    }
    VirtAddr now(VirtAddr address) const {
        for (const Area& area : areas_) {
            if (area.start <= address && address < area.end) {
                return area.place + (address - area.start);
            }
        }
        return address;
    }
    // fn(address now, bytes) for the parts of [start, start + bytes) that stayed together; what an
    // area takes more goes with its end.
    template <class Fn>
    void for_each_part(VirtAddr start, std::uint64_t bytes, Fn&& fn) const {
        const VirtAddr end = start + bytes;
        for (VirtAddr at = start; at < end;) {
            VirtAddr stop = end;
            std::uint64_t more = 0;
            for (const Area& area : areas_) {
                if (at < area.start) stop = std::min(stop, area.start);
                if (area.start <= at && at < area.end) stop = std::min(stop, area.end);
                if (area.start <= at && stop == area.end) more = area.more;
            }
            fn(now(at), stop - at + more);
            at = stop;
        }
    }

  private:
    struct Area {
        VirtAddr start;  // as recorded
        VirtAddr end;
        VirtAddr place;          // of start, now
        std::uint64_t more = 0;  // bytes behind its end, now
    };

    std::vector<Area> areas_;  // that overlap nowhere; few
};

}  // namespace ptshare::engine

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
    void add(VirtAddr start, VirtAddr end, VirtAddr place) {
        remove(start, end);
        areas_.push_back({start, end, place});
    }
    // [start, end), as recorded, is there no more.
    void remove(VirtAddr start, VirtAddr end) {
        std::vector<Area> left;
        for (const Area& area : areas_) {
            if (area.start < start) {
                left.push_back({area.start, std::min(area.end, start), area.place});
            }
            if (end < area.end) {
                const VirtAddr from = std::max(area.start, end);
                left.push_back({from, area.end, area.place + (from - area.start)});
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
    // fn(address now, bytes) for the parts of [start, start + bytes) that stayed together.
    template <class Fn>
    void for_each_part(VirtAddr start, std::uint64_t bytes, Fn&& fn) const {
        const VirtAddr end = start + bytes;
        for (VirtAddr at = start; at < end;) {
            VirtAddr stop = end;
            for (const Area& area : areas_) {
                if (at < area.start) stop = std::min(stop, area.start);
                if (at < area.end) stop = std::min(stop, std::max(area.end, at));
            }
            fn(now(at), stop - at);
            at = stop;
        }
    }

  private:
    struct Area {
        VirtAddr start;  // as recorded
        VirtAddr end;
        VirtAddr place;  // of start, now
    };

    std::vector<Area> areas_;  // that overlap nowhere; few
};

}  // namespace ptshare::engine

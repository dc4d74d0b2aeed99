// Error numbers of the system calls that core implements, with Linux's values on x86-64.
#pragma once

#include "types.h"

namespace ptshare {

enum class Errno : int {
    Ok = 0,
    NotPermitted = 1,  // EPERM
    NoMemory = 12,     // ENOMEM
    Access = 13,       // EACCES
    Fault = 14,        // EFAULT
    Exists = 17,       // EEXIST
    NoDevice = 19,     // ENODEV
    Invalid = 22,      // EINVAL
};

// An address, or why there is none.
struct MapResult {
    Errno error = Errno::Ok;
    VirtAddr address;

    bool ok() const { return error == Errno::Ok; }
};

// What a system call returns in RAX: an address, 0, or a negated error number.
inline std::int64_t return_value(Errno error) {
    return -static_cast<std::int64_t>(error);
}
inline std::int64_t return_value(const MapResult& result) {
    return result.ok() ? static_cast<std::int64_t>(result.address.value)
                       : return_value(result.error);
}

}  // namespace ptshare

// The state of a kernel as bytes: a run stops here and goes on later, in another process.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <memory>

#include "kernel.h"

namespace ptshare {

using FilesById = std::map<std::uint64_t, std::shared_ptr<File>>;  // key: File::id()

// Writes all that the kernel knows, between two of its operations. The bytes behind frames, table
// pages included, are not in it: whoever keeps them saves them too.
void save(const Kernel& kernel, std::ostream& to);

// Brings a kernel that has just been constructed, with the configuration and the policy of the one
// that was saved, to the saved state; `from` stands behind the snapshot afterwards. Never calls
// FrameContents: the bytes behind frames are restored by whoever keeps them.
//
// Returns the files that were alive, for the engine to hold those that it held: a file that no
// mapping holds goes with the last pointer to it, as always.
//
// Throws std::runtime_error with one line when the data is damaged or cut short, or of another
// format, configuration or policy. The kernel can then only be destroyed.
FilesById restore(Kernel& kernel, std::istream& from);

}  // namespace ptshare

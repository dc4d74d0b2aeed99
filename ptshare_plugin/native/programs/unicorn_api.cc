#include "programs/unicorn_api.h"

#include <dlfcn.h>

#include <cstring>
#include <stdexcept>

namespace ptshare::engine::unicorn {

template <class Function>
void Api::bind(Function& function, const char* name) {
    void* symbol = dlsym(handle_, name);
    if (!symbol) throw std::runtime_error(library_ + " has no " + name + ": Unicorn 2.1 is needed");
    static_assert(sizeof(symbol) == sizeof(function), "a function pointer fits a data pointer");
    std::memcpy(&function, &symbol, sizeof(function));
}

Api::Api(const std::string& library)
    : library_(library), handle_(dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (!handle_) throw std::runtime_error(std::string("Unicorn cannot be loaded: ") + dlerror());
    bind(version, "uc_version");
    bind(open, "uc_open");
    bind(close, "uc_close");
    bind(strerror, "uc_strerror");
    bind(ctl, "uc_ctl");
    bind(mem_map_ptr, "uc_mem_map_ptr");
    bind(hook_add, "uc_hook_add");
    bind(emu_start, "uc_emu_start");
    bind(emu_stop, "uc_emu_stop");
    bind(reg_read, "uc_reg_read");
    bind(reg_write, "uc_reg_write");
    bind(context_alloc, "uc_context_alloc");
    bind(context_save, "uc_context_save");
    bind(context_restore, "uc_context_restore");
    bind(context_free, "uc_context_free");
    unsigned major = 0;
    unsigned minor = 0;
    version(&major, &minor);
    if (major != 2 || minor < 1) {
        throw std::runtime_error(library_ + " is Unicorn " + std::to_string(major) + "." +
                                 std::to_string(minor) + ": 2.1 or a later 2.x is needed");
    }
}

Api::~Api() {
    dlclose(handle_);
}

void Api::check(Error error, const char* what) const {
    if (error == 0) return;
    throw std::runtime_error(std::string("Unicorn: ") + what + ": " + strerror(error));
}

}  // namespace ptshare::engine::unicorn

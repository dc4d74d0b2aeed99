// What scan reads of a page.
#pragma once

#include "mix.h"

#define LINES_READ 64  // of a page: one word from each cache line

// Byte in its page of the i-th word read.
static inline u64 scan_offset(u64 i) {
    return i * 64;
}

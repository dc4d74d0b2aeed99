// SPDX-License-Identifier: GPL-2.0-or-later
#ifndef PTSHARE_RECORDER_ANALYSE_H
#define PTSHARE_RECORDER_ANALYSE_H

#include "tool.h"

// Fill `block` from the statements of `in` from `first` on, the first instruction's mark; `records`
// says of each statement whether its address is to be recorded, in the order of the addresses.
void ptshare_analyse(const IRSB* in, Int first, const VexGuestLayout* layout, Block* block,
                     Bool* records);

#endif  // PTSHARE_RECORDER_ANALYSE_H

// Puts the parts together and runs them.
#pragma once

#include <stop_token>

#include "lib/base/result.h"
#include "operator/flags.h"

namespace pgtier {

// Runs the operator until `stop`, then drains passes for up to 30 s and gives the lease back. Errors: no cluster to
// talk to, an address in use, or leadership lost (then whoever leads now may already act: the process must end).
Status RunOperator(const Flags& flags, const std::stop_token& stop);

}  // namespace pgtier

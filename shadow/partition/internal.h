// For the sources of shadow/partition only.
#pragma once

#include <string>

#include "shadow/partition/partition.h"

namespace pgtier::shadow {

// Whole seconds, as make_interval takes them.
std::string SecondsText(Duration duration);

// Errors: kInvalidArgument.
Status CheckSpec(const PartitionSpec& spec);

}  // namespace pgtier::shadow

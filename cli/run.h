// kubectl-pgtier, as a function: tests call it with streams of their own.
#pragma once

#include <iosfwd>
#include <stop_token>

#include "cli/table.h"
#include "lib/base/clock.h"

namespace pgtier::cli {

struct World {
  std::ostream& out;
  std::ostream& err;
  Style style;
  const Clock& clock;
};

// Runs one command. Gives the exit code (options.h); never throws. http::InitialiseThreads() was called.
int Run(int argc, const char* const* argv, const World& world);

}  // namespace pgtier::cli

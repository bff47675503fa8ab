// The end of a program, as Kubernetes asks for it.
#pragma once

#include <stop_token>

namespace pgtier {

// A stop that is requested by SIGTERM or SIGINT; SIGPIPE is ignored. Call it before any thread is started: signals are
// taken by one thread that waits for them, and every thread started later inherits the mask.
std::stop_source StopOnSignals();

}  // namespace pgtier

// Shared by the fixture's two sources.
#pragma once

namespace pgtier::testing {

// A TCP port that was free on 127.0.0.1 a moment ago.
int FreePort();

}  // namespace pgtier::testing

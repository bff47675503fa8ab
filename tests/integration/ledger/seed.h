// One seed of the ledger: an application works while its policy goes triggers → notify → cdc → notify → triggers and
// everything around it breaks; then the histories are what the application did.
#pragma once

#include <map>
#include <string>

#include "tests/integration/postgres/local_server.h"

namespace pgtier::testing {

inline constexpr const char* kServerKilled = "kill of the server";

struct SeedOutcome {
  std::string failure;                // empty: exact
  std::string summary;                // for people
  std::map<std::string, int> counts;  // of all that was done, and of all that went wrong
};

// What a seed's server is started with.
PostgresOptions SeedServer(unsigned seed);

// Runs it in a database of its own. The server is as good as new afterwards unless it failed.
SeedOutcome RunSeed(LocalPostgres& server, unsigned seed);

}  // namespace pgtier::testing

// Fixtures on a server that has TimescaleDB (Debian's build: the Apache one) loaded.
#pragma once

#include "tests/integration/postgres/shared_server.h"

namespace pgtier::testing {

template <typename Fixture>
class WithTimescale : public Fixture {
 protected:
  PostgresOptions ServerOptions() override {
    PostgresOptions options;
    options.conf = {"shared_preload_libraries = 'timescaledb'", "timescaledb.telemetry_level = off"};
    return options;
  }
};

}  // namespace pgtier::testing

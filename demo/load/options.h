// What kyoyu-load is told to do.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/postgres/connection.h"

namespace pgtier::load {

struct LoadOptions {
  std::string write_host = "localhost";
  int write_port = 5432;
  std::string read_host;  // empty: the write endpoint
  int read_port = 0;      // 0: as the write port
  std::string database = "kyoyu";
  std::string user = "kyoyu";
  std::string password;  // PGPASSWORD or --password-file
  std::string ssl_mode;

  int agents = 10;                     // writer buffers, each with a connection of its own
  double events_per_second = 1000;     // of all agents
  std::optional<double> events_start;  // in the warmup; as events_per_second when absent
  double decisions_per_second = 5;     // of all agents
  int readers_start = 2;
  int readers_max = 40;
  double query_rate = 5;  // queries a second of each reader at most; 0: as fast as answers come
  Duration warmup = std::chrono::seconds(30);
  Duration ramp = std::chrono::seconds(60);
  Duration duration = Duration::zero();  // zero: until SIGTERM
  Duration query_timeout = std::chrono::seconds(10);
  Duration connect_timeout = std::chrono::seconds(60);  // for the endpoint to be there at the start
  Duration connection_lifetime = Duration::zero();      // of a connection, as application pools have it; zero: no end
  int seed_events = 50'000;
  int seed_decisions = 2'000;
  int temporal_rows = 5'000;            // how many rows a temporal query aggregates: its cost
  std::vector<int> mix = {60, 25, 15};  // structured, temporal, search

  std::string metrics_address = "0.0.0.0";
  int metrics_port = 9187;  // 0: none
  std::string summary_file;
  Duration hold_after_signal = Duration::zero();  // /metrics is served so much longer after the load has ended

  // For `write` or `read` connections.
  [[nodiscard]] postgres::ConnectOptions Write() const;
  [[nodiscard]] postgres::ConnectOptions Read() const;
};

// Reads the command line and the environment. An exit code when the program must end now: help was printed, or what is
// wrong.
std::optional<int> ParseOptions(int argc, char** argv, LoadOptions& options);

// Which part of the run a moment belongs to: "warmup", "ramp", "peak".
std::string PhaseAt(const LoadOptions& options, Duration since_start);
// How many readers there should be: readers_start in the warmup, then evenly up to readers_max.
int ReadersAt(const LoadOptions& options, Duration since_start);
// How many events all agents together should have made by then: they come at events_start a second in the warmup, then
// at a rate that rises evenly to events_per_second.
double EventsBy(const LoadOptions& options, Duration since_start);

}  // namespace pgtier::load

#include "demo/load/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "demo/load/latency.h"
#include "lib/base/time_format.h"

namespace pgtier::load {
namespace {

// A duration as the API writes it ("90s", "10m"); a bare number is refused, for nobody knows its unit.
void AddDuration(CLI::App& app, const char* name, Duration& target, const char* help) {
  app.add_option_function<std::string>(
         name,
         [&target, name](const std::string& text) {
           auto parsed = ParseDuration(text);
           if (!parsed.has_value()) throw CLI::ValidationError(name, parsed.error().message);
           target = *parsed;
         },
         help)
      ->type_name("DURATION")
      ->default_str(FormatDuration(target));
}

void AddEndpoints(CLI::App& app, LoadOptions& o, std::string& password_file) {
  app.add_option("--write-host", o.write_host, "Write endpoint")->envname("KYOYU_WRITE_HOST")->capture_default_str();
  app.add_option("--write-port", o.write_port)->envname("KYOYU_WRITE_PORT")->capture_default_str();
  app.add_option("--read-host", o.read_host, "Read endpoint; the write endpoint when empty")
      ->envname("KYOYU_READ_HOST");
  app.add_option("--read-port", o.read_port, "0: as the write port")->envname("KYOYU_READ_PORT");
  app.add_option("--database", o.database)->envname("KYOYU_DATABASE")->capture_default_str();
  app.add_option("--user", o.user)->envname("KYOYU_USER")->capture_default_str();
  app.add_option("--password-file", password_file, "File with the password; else PGPASSWORD")
      ->envname("KYOYU_PASSWORD_FILE");
  app.add_option("--ssl-mode", o.ssl_mode, "libpq's sslmode")->envname("KYOYU_SSL_MODE");
}

void AddLoad(CLI::App& app, LoadOptions& o) {
  auto positive = CLI::PositiveNumber;
  auto not_negative = CLI::NonNegativeNumber;
  app.add_option("--agents", o.agents, "Writer buffers, a connection each")->check(positive)->capture_default_str();
  app.add_option("--events-per-second", o.events_per_second, "Of all agents")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--events-start", o.events_start, "Events a second in the warmup; as --events-per-second when absent")
      ->check(not_negative);
  app.add_option("--decisions-per-second", o.decisions_per_second, "Of all agents")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--readers-start", o.readers_start)->check(not_negative)->capture_default_str();
  app.add_option("--readers-max", o.readers_max)->check(not_negative)->capture_default_str();
  app.add_option("--query-rate", o.query_rate, "Queries a second of each reader at most; 0: no limit")
      ->check(not_negative)
      ->capture_default_str();
  AddDuration(app, "--warmup", o.warmup, "How long readers-start stay alone");
  AddDuration(app, "--ramp", o.ramp, "From readers-start to readers-max");
  AddDuration(app, "--duration", o.duration, "0s: until SIGTERM");
  AddDuration(app, "--query-timeout", o.query_timeout, "A query or flush that takes longer has failed");
  AddDuration(app, "--connect-timeout", o.connect_timeout, "For the endpoint to be there at the start");
  AddDuration(app, "--connection-lifetime", o.connection_lifetime,
              "A connection is replaced between two queries when it is as old; 0s: never");
  app.add_option("--seed-events", o.seed_events, "Into an empty table")->check(not_negative)->capture_default_str();
  app.add_option("--seed-decisions", o.seed_decisions, "Into an empty table")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--temporal-rows", o.temporal_rows, "Rows that a temporal query aggregates")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--mix", o.mix, "Shares of structured, temporal and search queries")
      ->expected(3)
      ->delimiter(',')
      ->check(not_negative);
}

void AddOutput(CLI::App& app, LoadOptions& o) {
  app.add_option("--metrics-address", o.metrics_address)->capture_default_str();
  app.add_option("--metrics-port", o.metrics_port, "0: no /metrics")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--summary-file", o.summary_file, "The summary, beside standard output");
  AddDuration(app, "--hold-after-signal", o.hold_after_signal, "Serve /metrics so much longer after the end");
}

bool ReadPassword(const std::string& file, std::string& password) {
  if (file.empty()) {
    const char* given = std::getenv("PGPASSWORD");
    password = given == nullptr ? "" : given;
    return true;
  }
  std::ifstream in(file);
  return static_cast<bool>(std::getline(in, password));
}

}  // namespace

postgres::ConnectOptions LoadOptions::Write() const {
  postgres::ConnectOptions connect;
  connect.host = write_host;
  connect.port = write_port;
  connect.database = database;
  connect.user = user;
  connect.password = password;
  connect.ssl_mode = ssl_mode;
  connect.application_name = "kyoyu-load";
  return connect;
}

postgres::ConnectOptions LoadOptions::Read() const {
  postgres::ConnectOptions connect = Write();
  if (!read_host.empty()) connect.host = read_host;
  if (read_port != 0) connect.port = read_port;
  return connect;
}

std::optional<int> ParseOptions(int argc, char** argv, LoadOptions& options) {
  CLI::App app("Plays an application that ingests events and queries them, and counts what it would see fail.",
               "kyoyu-load");
  std::string password_file;
  AddEndpoints(app, options, password_file);
  AddLoad(app, options);
  AddOutput(app, options);
  try {
    app.parse(argc, argv);
    if (options.mix[0] + options.mix[1] + options.mix[2] == 0) throw CLI::ValidationError("--mix", "is all zero");
    if (options.readers_max < options.readers_start) {
      throw CLI::ValidationError("--readers-max", "is below --readers-start");
    }
    if (!ReadPassword(password_file, options.password)) {
      throw CLI::ValidationError("--password-file", "can't be read");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

std::string PhaseAt(const LoadOptions& options, Duration since_start) {
  if (since_start < options.warmup) return "warmup";
  return since_start < options.warmup + options.ramp ? "ramp" : "peak";
}

int ReadersAt(const LoadOptions& options, Duration since_start) {
  if (since_start < options.warmup) return options.readers_start;
  if (since_start >= options.warmup + options.ramp) return options.readers_max;
  double share = Seconds(since_start - options.warmup) / Seconds(options.ramp);
  return options.readers_start + static_cast<int>(share * (options.readers_max - options.readers_start));
}

double EventsBy(const LoadOptions& options, Duration since_start) {
  const double full = options.events_per_second;
  const double first = options.events_start.value_or(full);
  const double before = std::min(Seconds(since_start), Seconds(options.warmup));
  const double since_warmup = std::max(0.0, Seconds(since_start - options.warmup));
  const double rising = std::min(since_warmup, Seconds(options.ramp));
  double rise = rising > 0 ? (full - first) / Seconds(options.ramp) * rising * rising / 2 : 0;
  return first * (before + rising) + rise + full * (since_warmup - rising);
}

}  // namespace pgtier::load

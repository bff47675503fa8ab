// pgtier-worker: writes histories beside the application. One program, several modes.
#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <stop_token>

#include "lib/base/log.h"
#include "lib/base/signals.h"
#include "lib/http/client.h"
#include "workers/runner.h"

int main(int argc, char** argv) {
  mallopt(M_ARENA_MAX, 2);  // else each thread keeps freed memory in a heap of its own
  std::string config;
  std::string log_level = "info";
  CLI::App app{
      "pgtier-worker writes the audit history of shadow tables: from outboxes (mode notify), or from\n"
      "the log (mode cdc)."};
  app.set_version_flag("--version", PGTIER_VERSION);
  app.add_option("--config", config, "JSON file that says what to do; changes of it take effect within seconds")
      ->required();
  app.add_option("--log-level", log_level, "debug, info, warn or error")
      ->capture_default_str()
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  pgtier::log::SetLevel(log_level);

  std::stop_source stop = pgtier::StopOnSignals();
  pgtier::http::InitialiseThreads();

  pgtier::Status outcome = pgtier::workers::RunWorker(
      config,
      {{"notify", {pgtier::workers::MakeNotify, pgtier::workers::MakePayload}}, {"cdc", {pgtier::workers::MakeCdc}}},
      stop.get_token());
  if (!outcome.has_value()) pgtier::log::Error("pgtier-worker ends", {{"error", outcome.error().message}});
  // Without the destructors of static objects, under which the HTTP library's threads still run.
  _exit(outcome.has_value() ? 0 : 1);
}

// pgtier-migrate: runs the steps of a SqlMigration, in a Job.
#include <CLI/CLI.hpp>

#include "lib/base/log.h"
#include "lib/base/signals.h"
#include "migrations/runner.h"
#include "shadow/partition/step.h"

int main(int argc, char** argv) {
  std::string config;
  std::string log_level = "info";
  CLI::App app{
      "pgtier-migrate runs the steps of a migration, as far as pgtier.migrations does not say that they are done.\n"
      "Exit codes: 0 done; 1 to be tried again; 2 the file can't be used; 3 a person must act; 75 told to stop."};
  app.set_version_flag("--version", PGTIER_VERSION);
  app.add_option("--config", config, "JSON file that says what to do")->required();
  app.add_option("--log-level", log_level, "debug, info, warn or error")
      ->capture_default_str()
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? pgtier::migrations::kExitDone : pgtier::migrations::kExitRefused;
  }
  pgtier::log::SetLevel(log_level);
  std::stop_source stop = pgtier::StopOnSignals();
  auto kinds = pgtier::migrations::BuiltInSteps();
  kinds["partitionHistory"] = [](const pgtier::migrations::StepConfig& step) {
    return pgtier::shadow::MakePartitionHistoryStep(step.definition["partitionHistory"]);
  };
  return pgtier::migrations::RunMigration(config, kinds, stop.get_token());
}

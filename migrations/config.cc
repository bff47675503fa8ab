#include "migrations/config.h"

#include <set>

#include "lib/base/sha256.h"

namespace pgtier::migrations {

Result<Config> ParseConfig(std::string_view text) {
  nlohmann::json parsed = nlohmann::json::parse(text, nullptr, false);
  if (!parsed.is_object()) return MakeError(Code::kInvalidArgument, "the configuration is no JSON object");
  Config config;
  std::optional<Error> error;
  settings::JsonReader root(parsed, "", &error);
  root.Text("migration", config.migration, true);
  config.database = settings::ReadDatabase(root.Object("database", true));
  root.Time("lockTimeout", config.lock_timeout);
  root.Flag("dryRun", config.dry_run);
  root.Text("resultFile", config.result_file);
  settings::JsonReader throttle = root.Object("throttle");
  if (throttle.Has("replicaLag")) throttle.Time("replicaLag", config.throttle.replica_lag.emplace());
  if (throttle.Has("slotRetained")) throttle.Bytes("slotRetained", config.throttle.slot_retained.emplace());
  std::set<std::string> names;
  root.ForEach("steps", [&](const settings::JsonReader& item) {
    StepConfig step;
    item.Text("name", step.name, true);
    if (!names.insert(step.name).second) item.Fail("name", "is taken by another step");
    for (const char* kind : kKinds) {
      if (!item.Has(kind)) continue;
      if (!step.kind.empty()) item.Fail(kind, "stands beside " + step.kind + ": a step is one of them");
      step.kind = kind;
    }
    if (step.kind.empty()) item.Fail("name", "is of a step that says nothing to do");
    step.definition = item.json();
    config.steps.push_back(std::move(step));
  });
  if (config.steps.empty()) root.Fail("steps", "has none");
  if (error.has_value()) return *std::move(error);
  return config;
}

std::string HashOfStep(const nlohmann::json& definition) {
  constexpr size_t kLength = 16;
  nlohmann::json meaning = definition;
  if (auto backfill = meaning.find("backfill"); backfill != meaning.end() && backfill->is_object()) {
    backfill->erase("batchRows");
    backfill->erase("pause");
  }
  return Sha256Hex(meaning.dump()).substr(0, kLength);
}

}  // namespace pgtier::migrations

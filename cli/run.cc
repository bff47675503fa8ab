#include "cli/run.h"

#include <memory>
#include <ostream>

#include "cli/options.h"
#include "cli/plan_report.h"
#include "cli/why.h"
#include "cli/writes.h"
#include "lib/kube/config.h"
#include "lib/kube/json.h"

namespace pgtier::cli {
namespace {

constexpr Duration kPatience = std::chrono::seconds(30);

Result<std::unique_ptr<kube::Client>> Connect(const Options& options, std::string& namespace_) {
  PGTIER_ASSIGN_OR_RETURN(kube::Config config, kube::LoadConfig(options.kubeconfig, options.context));
  namespace_ = options.namespace_.empty() ? config.namespace_ : options.namespace_;
  kube::ClientOptions client_options;
  // Not "kubectl…": Flux strips the fields of managers that begin so.
  client_options.field_manager = "pgtier-cli";
  client_options.user_agent = "kubectl-pgtier";
  return kube::Client::Connect(config, client_options);
}

void Print(const Options& options, const World& world, const nlohmann::json& document, const std::string& text) {
  world.out << (options.json ? document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n" : text);
}

void PrintDone(const Options& options, const World& world, const kube::ObjectKey& key, const std::string& printed,
               const Done& done) {
  nlohmann::json document{{"name", key.name},        {"namespace", key.namespace_}, {"action", done.action},
                          {"changed", done.changed}, {"message", done.message},     {"notes", done.notes}};
  std::string text = printed + ": " + done.message + "\n";
  for (const std::string& note : done.notes) text += world.style.Paint("note: " + note, Tone::kWarning) + "\n";
  Print(options, world, document, text);
}

Result<Done> RunPromote(kube::Client& client, const Options& options, const Policy& policy, WallTime now) {
  std::string request;
  PGTIER_ASSIGN_OR_RETURN(
      Done asked, Promote(client, policy, options.replica, options.force, now, request, Deadline::After(kPatience)));
  if (!options.wait) return asked;
  PGTIER_ASSIGN_OR_RETURN(
      Done done, AwaitPromotion(client, kube::KeyOf(policy.object), request, Deadline::After(options.timeout)));
  done.notes = std::move(asked.notes);
  return done;
}

Result<Done> Write(kube::Client& client, const Options& options, const Policy& policy, WallTime now) {
  Deadline deadline = Deadline::After(kPatience);
  switch (options.command) {
    case Command::kPause:
      return Pause(client, policy, true, deadline);
    case Command::kResume:
      return Pause(client, policy, false, deadline);
    case Command::kDemand:
      return Demand(client, policy, options.trigger, options.off, deadline);
    case Command::kApprove:
      return Approve(client, policy, options.current ? "" : options.hash, deadline);
    case Command::kPromote:
      return RunPromote(client, options, policy, now);
    case Command::kWhy:
    case Command::kPlan:
      break;
  }
  return MakeError(Code::kInternal, "not a command that writes");
}

Status RunCommand(const Options& options, const World& world) {
  kube::ObjectKey key;
  key.name = options.name;
  PGTIER_ASSIGN_OR_RETURN(std::unique_ptr<kube::Client> client, Connect(options, key.namespace_));
  PGTIER_ASSIGN_OR_RETURN(Policy policy, ReadPolicy(*client, options.kind, key, Deadline::After(kPatience)));
  WallTime now = world.clock.Now();
  if (options.command == Command::kWhy) {
    WhyReport report = std::visit([&](const auto& decoded) { return Explain(decoded, now); }, policy.decoded);
    Print(options, world, ToJson(report), Render(report, world.style, now));
    return {};
  }
  if (options.command == Command::kPlan) {
    RecordedPlan plan = ReadPlan(policy.object);
    PlanReport report = std::visit([&](const auto& decoded) { return DescribePlan(decoded, plan); }, policy.decoded);
    Print(options, world, ToJson(report), Render(report, world.style));
    return {};
  }
  PGTIER_ASSIGN_OR_RETURN(Done done, Write(*client, options, policy, now));
  PrintDone(options, world, key, policy.Printed(), done);
  return {};
}

}  // namespace

int Run(int argc, const char* const* argv, const World& world) {
  Options options;
  if (std::optional<int> code = ParseOptions(argc, argv, options, world.out, world.err)) return *code;
  Status outcome = RunCommand(options, world);
  if (outcome.has_value()) return kDone;
  world.err << world.style.Paint("error:", Tone::kBad) << " " << outcome.error().message << "\n";
  return kFailed;
}

}  // namespace pgtier::cli

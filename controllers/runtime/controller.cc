#include "controllers/runtime/controller.h"

#include <random>

#include "lib/base/log.h"
#include "lib/base/random.h"

namespace pgtier::controllers {
namespace {

// Spreads objects of one interval, so that they do not all ask Prometheus in the same second.
Duration Jittered(Duration after) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return std::chrono::duration_cast<Duration>(after * std::uniform_real_distribution<double>(0.95, 1.05)(random));
}

}  // namespace

Controller::Controller(ControllerOptions options, kube::WorkQueue* queue, Reconciler* reconciler, Metrics* metrics)
    : options_(std::move(options)), queue_(queue), reconciler_(reconciler), metrics_(metrics) {}

void Controller::Start() {
  for (int i = 0; i < options_.workers; ++i) {
    workers_.emplace_back([this](const std::stop_token& stop) { Work(stop); });
  }
}

void Controller::Stop(Deadline deadline) {
  queue_->ShutDown();
  if (!queue_->Drain(deadline)) log::Warn("passes under way are cut short", {{"controller", options_.name}});
  workers_.clear();
}

void Controller::Work(const std::stop_token& stop) {
  while (std::optional<kube::ObjectKey> key = queue_->Get(stop)) {
    Pass(*key, stop);
    queue_->Done(*key);
  }
}

void Controller::Pass(const kube::ObjectKey& key, const std::stop_token& stop) {
  log::Scope scope({{"controller", options_.name},
                    {"namespace", key.namespace_},
                    {"name", key.name},
                    {"reconcile", RandomToken(8).value_or("")}});
  auto begin = std::chrono::steady_clock::now();
  Result<Requeue> outcome = reconciler_->Reconcile(key, Deadline::After(options_.pass_timeout), stop);
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  metrics_->Observe("pgtier_reconcile_seconds", "Duration of passes.", {{"controller", options_.name}},
                    seconds.count());
  if (outcome.has_value()) {
    queue_->Forget(key);
    if (outcome->after > Duration::zero()) {
      auto priority = outcome->under_way ? kube::WorkQueue::Priority::kLow : kube::WorkQueue::Priority::kDue;
      queue_->AddAfter(key, Jittered(outcome->after), priority);
    }
    return;
  }
  if (stop.stop_requested()) return;
  // A conflict only means that somebody wrote in between: not worth a warning.
  bool conflict = outcome.error().code == Code::kAborted;
  metrics_->Increment("pgtier_reconcile_errors_total", "Passes that failed.",
                      {{"controller", options_.name}, {"code", std::string(CodeName(outcome.error().code))}});
  queue_->AddRateLimited(key);
  log::Write(conflict ? log::Level::kDebug : log::Level::kWarn, "pass failed, will be tried again",
             {{"error", outcome.error().message}, {"code", CodeName(outcome.error().code)}});
}

}  // namespace pgtier::controllers

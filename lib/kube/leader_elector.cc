#include "lib/kube/leader_elector.h"

#include <algorithm>
#include <random>
#include <utility>

#include "lib/base/log.h"
#include "lib/base/time_format.h"
#include "lib/kube/json.h"

namespace pgtier::kube {
namespace {

constexpr Duration kReleaseDeadline = std::chrono::seconds(5);

Duration Jittered(Duration period, double jitter) {
  thread_local std::minstd_rand random{std::random_device()()};
  return std::chrono::duration_cast<Duration>(period * (1 + std::uniform_real_distribution<>(0, jitter)(random)));
}

}  // namespace

LeaderElector::LeaderElector(Client* client, const Clock* clock, LeaderElectionOptions options)
    : client_(client), clock_(clock), options_(std::move(options)) {}

std::string LeaderElector::Holder() const {
  std::lock_guard lock(mutex_);
  return StringAt(observed_spec_, {"holderIdentity"});
}

void LeaderElector::Observe(const nlohmann::json& lease) {
  std::lock_guard lock(mutex_);
  const nlohmann::json& spec = At(lease, {"spec"});
  if (spec == observed_spec_ && observed_at_ != MonoTime{}) return;
  observed_spec_ = spec;
  observed_at_ = clock_->MonoNow();
}

nlohmann::json LeaderElector::LeaseObject(const nlohmann::json& current, bool taking) const {
  nlohmann::json lease = current;
  if (lease.is_null()) {
    lease = {{"apiVersion", kLeases.ApiVersion()},
             {"kind", kLeases.kind},
             {"metadata", {{"namespace", options_.lease.namespace_}, {"name", options_.lease.name}}},
             {"spec", {{"leaseTransitions", -1}}}};
  }
  const std::string now = FormatMicroTime(clock_->Now());
  nlohmann::json& spec = lease["spec"];
  spec["holderIdentity"] = options_.identity;
  // Whole seconds in the API, and at least one.
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(options_.lease_duration).count();
  spec["leaseDurationSeconds"] = std::max<long long>(seconds, 1);
  spec["renewTime"] = now;
  if (taking) {
    spec["acquireTime"] = now;
    spec["leaseTransitions"] = IntAt(spec, {"leaseTransitions"}) + 1;
  }
  return lease;
}

Result<bool> LeaderElector::TryAcquireOrRenew(Deadline deadline, const std::stop_token& stop) {
  auto current = client_->Get(kLeases, options_.lease, deadline, stop);
  if (!current.has_value()) {
    if (current.error().code != Code::kNotFound) return current.error();
    PGTIER_ASSIGN_OR_RETURN(const nlohmann::json created,
                            client_->Create(kLeases, LeaseObject(nullptr, true), deadline, stop));
    Observe(created);
    return true;
  }
  Observe(*current);
  const std::string holder = StringAt(*current, {"spec", "holderIdentity"});
  const bool ours = holder == options_.identity;
  if (!ours && !holder.empty()) {
    // By the time that its own record claims, on our clock since we last saw it change.
    const Duration life = std::chrono::seconds(IntAt(*current, {"spec", "leaseDurationSeconds"}, 0));
    std::lock_guard lock(mutex_);
    if (clock_->MonoNow() < observed_at_ + std::max(life, options_.lease_duration)) return false;
  }
  // With the version that was read: of two that try, one gets a conflict.
  PGTIER_ASSIGN_OR_RETURN(const nlohmann::json written,
                          client_->Replace(kLeases, LeaseObject(*current, !ours), deadline, stop));
  Observe(written);
  return true;
}

Status LeaderElector::Run(const std::stop_token& stop) {
  while (true) {
    auto acquired = TryAcquireOrRenew(Deadline::After(options_.renew_deadline), stop);
    if (acquired.has_value() && *acquired) break;
    if (!acquired.has_value() && !stop.stop_requested() && acquired.error().code != Code::kAborted) {
      log::Warn("leader election: no look at the lease", {{"error", acquired.error().message}});
    }
    if (!SleepFor(Jittered(options_.retry_period, options_.jitter), stop)) return {};
  }
  leading_ = true;
  log::Info("became leader", {{"lease", options_.lease.ToString()}, {"identity", options_.identity}});
  if (options_.on_started) options_.on_started();
  Status outcome = Renew(stop);
  leading_ = false;
  if (options_.on_stopped) options_.on_stopped();
  if (outcome.has_value()) Release();
  return outcome;
}

Status LeaderElector::Renew(const std::stop_token& stop) {
  MonoTime renewed_at = clock_->MonoNow();
  std::string why;
  while (true) {
    auto left = [&] { return renewed_at + options_.renew_deadline - clock_->MonoNow(); };
    if (!SleepFor(std::clamp<Duration>(left(), Duration::zero(), options_.retry_period), stop)) return {};
    const MonoTime begun = clock_->MonoNow();
    if (left() <= Duration::zero()) return MakeError(Code::kAborted, "leadership lost: not renewed in time: " + why);
    // One request gets half of what is allowed, so that one which hangs does not cost the lease.
    auto renewed = TryAcquireOrRenew(Deadline::After(std::min<Duration>(left(), options_.renew_deadline / 2)), stop);
    if (stop.stop_requested()) return {};
    if (renewed.has_value() && *renewed) {
      renewed_at = begun;
    } else if (renewed.has_value()) {
      return MakeError(Code::kAborted, "leadership lost to " + Holder());
    } else {
      why = renewed.error().message;
      log::Warn("leader election: lease not renewed", {{"error", why}});
    }
  }
}

void LeaderElector::Release() {
  const Deadline deadline = Deadline::After(kReleaseDeadline);
  // The renewal that `stop` interrupted may still be written by the server, before the first look or after it: the
  // version read is then not the last one, and a second look is.
  auto released = TryRelease(deadline);
  for (int again = 0; again < 2 && !released.has_value() && released.error().code == Code::kAborted; ++again) {
    released = TryRelease(deadline);
  }
  if (!released.has_value()) {
    log::Warn("lease not released; it runs out by itself", {{"error", released.error().message}});
  }
}

Status LeaderElector::TryRelease(Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(nlohmann::json lease, client_->Get(kLeases, options_.lease, deadline, {}));
  if (StringAt(lease, {"spec", "holderIdentity"}) != options_.identity) return {};
  lease["spec"]["holderIdentity"] = "";
  lease["spec"]["leaseDurationSeconds"] = 1;
  lease["spec"]["renewTime"] = FormatMicroTime(clock_->Now());
  auto written = client_->Replace(kLeases, lease, deadline, {});
  if (!written.has_value()) return written.error();
  return {};
}

}  // namespace pgtier::kube

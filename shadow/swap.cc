#include "shadow/internal.h"

namespace pgtier::shadow {

Status SwapBodies(postgres::Connection& admin, const Spec& spec, Tier to, Deadline deadline) {
  const std::string what = "changing " + spec.policy + " to " + std::string(TierName(to));
  PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, what, deadline, [&]() -> Status {
    auto done = admin.Query("SELECT pgtier.shadow_swap($1, $2)", {spec.policy, std::string(TierName(to))}, deadline);
    if (!done.has_value()) return std::move(done).error();
    return {};
  }));
  // Who holds a source's lock now may run the old text for a while; taken right away, the list is short.
  if (to == Tier::kTriggers) PGTIER_RETURN_IF_ERROR(Drained(admin, spec, deadline));
  return {};
}

Status Deliver(postgres::Connection& admin, const Spec& spec, bool sends, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, "changing the delivery of " + spec.policy, deadline, [&]() -> Status {
    auto done = admin.Query("SELECT pgtier.shadow_deliver($1, $2)", {spec.policy, sends ? "true" : "false"}, deadline);
    if (!done.has_value()) return std::move(done).error();
    return {};
  }));
  if (!sends) PGTIER_RETURN_IF_ERROR(Drained(admin, spec, deadline));
  return {};
}

Result<bool> Drained(postgres::Connection& admin, const Spec& spec, Deadline deadline) {
  std::optional<std::string> drained;
  PGTIER_RETURN_IF_ERROR(WithLockRetries(admin, "looking after notify", deadline, [&]() -> Status {
    PGTIER_ASSIGN_OR_RETURN(drained, Value(admin, "SELECT pgtier.shadow_drained($1)", {spec.policy}, deadline));
    return {};
  }));
  return drained == "t";
}

}  // namespace pgtier::shadow

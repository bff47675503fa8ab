#include "shadow/internal.h"

namespace pgtier::shadow {

Status SwapBodies(postgres::Connection& admin, const Spec& spec, Tier to, Deadline deadline) {
  PGTIER_RETURN_IF_ERROR(
      admin.Query("SELECT pgtier.shadow_swap($1, $2)", {spec.policy, std::string(TierName(to))}, deadline));
  // Who holds a source's lock now may run the old text for a while; taken right away, the list is short.
  if (to == Tier::kTriggers) PGTIER_RETURN_IF_ERROR(Drained(admin, spec, deadline));
  return {};
}

Result<bool> Drained(postgres::Connection& admin, const Spec& spec, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(auto drained, Value(admin, "SELECT pgtier.shadow_drained($1)", {spec.policy}, deadline));
  return drained == "t";
}

}  // namespace pgtier::shadow

#include "cli/policy.h"

#include <utility>

#include "controllers/ladder/memory.h"
#include "controllers/scale_tier/scale_tier_reconciler.h"
#include "controllers/shadow_table/resources.h"
#include "crds/scale_tier_policy_codec.h"
#include "crds/shadow_table_policy_codec.h"

namespace pgtier::cli {
namespace {

using controllers::scale_tier::kScaleTierPolicies;
using controllers::shadow_table::kShadowTablePolicies;

Error NotThere(const kube::Resource& resource, const kube::ObjectKey& key, const Error& said) {
  std::string kind(resource.kind);
  // A missing CRD is a 404 too; only the server's words tell them apart.
  if (said.message.find("could not find the requested resource") != std::string::npos) {
    std::string plural = kind == "ScaleTierPolicy" ? "ScaleTierPolicies" : "ShadowTablePolicies";
    return {Code::kNotFound, "this cluster does not know " + plural + ": install pgtier's CRDs first"};
  }
  return {Code::kNotFound, "there is no " + kind + " \"" + key.name + "\" in namespace \"" + key.namespace_ + "\""};
}

template <typename Decoded>
Result<Policy> ReadAs(kube::Client& client, const kube::Resource& resource,
                      Result<Decoded> (*decode)(const nlohmann::json&), const kube::ObjectKey& key, Deadline deadline) {
  Result<nlohmann::json> object = client.Get(resource, key, deadline);
  if (!object.has_value()) {
    return object.error().code == Code::kNotFound ? NotThere(resource, key, object.error()) : object.error();
  }
  PGTIER_ASSIGN_OR_RETURN(Decoded decoded, decode(*object));
  return Policy{*std::move(object), std::move(decoded)};
}

}  // namespace

const crds::Meta& Policy::meta() const {
  return std::visit([](const auto& policy) -> const crds::Meta& { return policy.meta; }, decoded);
}

const crds::LadderSpec& Policy::spec() const {
  return std::visit([](const auto& policy) -> const crds::LadderSpec& { return policy.spec; }, decoded);
}

const crds::LadderStatus& Policy::status() const {
  return std::visit([](const auto& policy) -> const crds::LadderStatus& { return policy.status; }, decoded);
}

std::vector<const crds::TierRule*> Policy::tiers() const {
  return std::visit([](const auto& policy) { return controllers::RulesIn(policy.spec.tiers); }, decoded);
}

const kube::Resource& Policy::resource() const {
  return std::holds_alternative<crds::ScaleTierPolicy>(decoded) ? kScaleTierPolicies : kShadowTablePolicies;
}

std::string Policy::Printed() const {
  bool scale = std::holds_alternative<crds::ScaleTierPolicy>(decoded);
  return (scale ? "scaletierpolicy/" : "shadowtablepolicy/") + meta().name;
}

std::string Policy::Named() const {
  bool scale = std::holds_alternative<crds::ScaleTierPolicy>(decoded);
  return NameFor(scale ? Kind::kScaleTier : Kind::kShadowTable, meta().name);
}

std::string NameFor(Kind kind, const std::string& name) {
  return kind == Kind::kShadowTable ? "shadowtables/" + name : name;
}

Result<Policy> ReadPolicy(kube::Client& client, Kind kind, const kube::ObjectKey& key, Deadline deadline) {
  auto scale = [&] { return ReadAs(client, kScaleTierPolicies, crds::DecodeScaleTierPolicy, key, deadline); };
  auto shadow = [&] { return ReadAs(client, kShadowTablePolicies, crds::DecodeShadowTablePolicy, key, deadline); };
  if (kind == Kind::kScaleTier) return scale();
  if (kind == Kind::kShadowTable) return shadow();
  Result<Policy> found = scale();
  if (found.has_value() || found.error().code != Code::kNotFound) return found;
  Result<Policy> other = shadow();
  if (other.has_value()) return other;
  // Who may not look at the one kind still learns of the other.
  if (other.error().code != Code::kNotFound) return found.error();
  bool unknown = found.error().message.starts_with("this cluster");
  if (unknown) return found.error();
  return MakeError(Code::kNotFound, "there is no ScaleTierPolicy and no ShadowTablePolicy \"" + key.name +
                                        "\" in namespace \"" + key.namespace_ + "\"");
}

}  // namespace pgtier::cli

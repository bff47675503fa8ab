// Policies as stored: anything decodes or is refused, and what status was read is written and read again the same.
#include <cstdint>
#include <cstdlib>

#include "controllers/scale_tier/resolve.h"
#include "crds/scale_tier_policy_codec.h"
#include "lib/kube/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto object = pgtier::kube::ParseJson({reinterpret_cast<const char*>(data), size});
  if (!object.has_value()) return 0;
  auto policy = pgtier::crds::DecodeScaleTierPolicy(*object);
  if (!policy.has_value()) return 0;
  nlohmann::json written{{"metadata", {{"name", "x"}}}, {"status", pgtier::crds::EncodeStatus(policy->status)}};
  auto again = pgtier::crds::DecodeScaleTierPolicy(written);
  if (!again.has_value()) abort();
  if (pgtier::kube::DumpJson(pgtier::crds::EncodeStatus(again->status)) != pgtier::kube::DumpJson(written["status"])) {
    abort();
  }
  if (!policy->spec.tiers.empty()) std::ignore = pgtier::controllers::scale_tier::Resolve(*policy);
  return 0;
}

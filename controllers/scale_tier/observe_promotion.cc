// How far a promotion has come, from the Service that it is noted on, and what the servers say that it needs.
#include <algorithm>
#include <charconv>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

constexpr Duration kPromotionPatience = std::chrono::seconds(2);

// One that does not answer is left out.
void AskPositions(Seen& seen, const std::string& database, Deadline deadline, const std::stop_token& stop) {
  if (!seen.credentials.has_value()) return;
  for (const InstanceSeen& instance : seen.instances) {
    if (instance.pod_ip.empty() || instance.stopping) continue;
    Deadline patience = deadline.AtMost(kPromotionPatience);
    Result<postgres::Connection> connection = postgres::Connection::Open(
        ConnectTo(PeerOf(instance, *seen.credentials), seen.credentials->AsMonitor(), database), patience, stop);
    if (!connection.has_value()) continue;
    Result<postgres::WalPosition> position = postgres::ReadWalPosition(*connection, patience);
    if (position.has_value()) seen.positions[instance.name] = *std::move(position);
  }
}

int64_t ReadTerm(const std::string& text) {
  int64_t term = 0;
  std::from_chars(text.c_str(), text.c_str() + text.size(), term);
  return term;
}

// What an instance is told at its start: the oldest word on who the primary is that it may believe.
int64_t TermOfContainer(const Json& holder, const Json::json_pointer& environment) {
  int64_t term = 0;
  if (!holder.contains(environment)) return term;
  for (const Json& each : holder.at(environment)) {
    if (kube::StringAt(each, {"name"}) == "PGTIER_TERM") term = ReadTerm(kube::StringAt(each, {"value"}));
  }
  return term;
}

// As status has it. One that ran then cannot be gone on with: where it fenced the primary is not known any more.
Promotion PromotionInStatus(const crds::ScaleTierPolicy& policy) {
  const crds::PromotionStatus& status = policy.status.promotion;
  Promotion promotion = DecodePromotion(kube::DumpJson({{"request", status.request},
                                                        {"phase", status.phase},
                                                        {"from", status.from},
                                                        {"to", status.to},
                                                        {"message", status.message}}));
  if (promotion.Runs()) {
    promotion.phase = PromotionPhase::kRefused;
    promotion.message =
        "broken off: Service " + PrimaryService(policy.meta.name) + " was lost, and with it how far it had come";
  }
  return promotion;
}

// Of a request that nobody has any notes of, where there never was a status, or it is lost: it may have been carried
// out long ago. Once there is a status, one that it does not know is a new one.
Promotion OfUnknownAge(const crds::ScaleTierPolicy& policy, const Seen& seen) {
  Promotion promotion;
  auto request = policy.meta.annotations.find(kPromoteAnnotation);
  bool asked = request != policy.meta.annotations.end() && !request->second.empty();
  if (!asked || !policy.status.conditions.empty() || seen.instances.empty()) return promotion;
  promotion.request = request->second;
  promotion.phase = PromotionPhase::kRefused;
  Result<PromotionRequest> parsed = ParsePromotionRequest(request->second);
  if (parsed.has_value()) promotion.to = parsed->target;
  promotion.message = "status and Service " + PrimaryService(policy.meta.name) +
                      " know of no promotion, so this one may have been carried out before they were lost; ask again " +
                      "if it is still wanted: kubectl pgtier promote";
  return promotion;
}

}  // namespace

void RecallPromotion(const crds::ScaleTierPolicy& policy, Seen& seen) {
  seen.term = 0;
  seen.promotion = {};
  if (const Json* service = seen.Object(kube::kServices, PrimaryService(policy.meta.name))) {
    seen.promotion = DecodePromotion(kube::StringAt(*service, {"metadata", "annotations", kPromotionAnnotation}));
    seen.term = ReadTerm(kube::StringAt(*service, {"metadata", "annotations", kTermAnnotation}));
  }
  Promotion known = PromotionInStatus(policy);
  seen.promotion_from_status = seen.promotion.phase == PromotionPhase::kNone && known.phase != PromotionPhase::kNone;
  if (seen.promotion_from_status) seen.promotion = std::move(known);
  if (seen.promotion.phase == PromotionPhase::kNone) {
    seen.promotion = OfUnknownAge(policy, seen);
    seen.promotion_from_status = seen.promotion.phase != PromotionPhase::kNone;
  }
  if (const Json* config = seen.Object(kube::kConfigMaps, PostgresConfig(policy.meta.name))) {
    seen.term = std::max(seen.term, DecodePrimary(kube::StringAt(*config, {"data", "primary"})).term);
  }
  const Json::json_pointer of_set("/spec/template/spec/containers/0/env");
  const Json::json_pointer of_pod("/spec/containers/0/env");
  for (const auto& [key, object] : seen.objects) {
    if (key.first == kube::kStatefulSets.plural) seen.term = std::max(seen.term, TermOfContainer(object, of_set));
    if (key.first == kube::kPods.plural) seen.term = std::max(seen.term, TermOfContainer(object, of_pod));
  }
}

void ObservePromotion(const crds::ScaleTierPolicy& policy, Seen& seen, Deadline deadline, const std::stop_token& stop) {
  RecallPromotion(policy, seen);
  auto request = policy.meta.annotations.find(kPromoteAnnotation);
  bool asked = request != policy.meta.annotations.end() && request->second != seen.promotion.request &&
               request->second != policy.status.promotion.request;
  if (asked || seen.promotion.Runs()) AskPositions(seen, policy.spec.managed->database, deadline, stop);
}

}  // namespace pgtier::controllers::scale_tier

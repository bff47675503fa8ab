// How far a promotion has come, from the Service that it is noted on, and what the servers say that it needs.
#include <charconv>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

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

}  // namespace

void ObservePromotion(const crds::ScaleTierPolicy& policy, Seen& seen, Deadline deadline, const std::stop_token& stop) {
  if (const nlohmann::json* service = seen.Object(kube::kServices, PrimaryService(policy.meta.name))) {
    seen.promotion = DecodePromotion(kube::StringAt(*service, {"metadata", "annotations", kPromotionAnnotation}));
    std::string term = kube::StringAt(*service, {"metadata", "annotations", kTermAnnotation});
    std::from_chars(term.c_str(), term.c_str() + term.size(), seen.term);
  }
  auto request = policy.meta.annotations.find(kPromoteAnnotation);
  bool asked = request != policy.meta.annotations.end() && request->second != seen.promotion.request;
  if (asked || seen.promotion.Runs()) AskPositions(seen, policy.spec.managed->database, deadline, stop);
}

}  // namespace pgtier::controllers::scale_tier

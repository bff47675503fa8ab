#include "controllers/scale_tier/promotion.h"

#include <array>
#include <utility>

#include "lib/kube/json.h"

namespace pgtier::controllers::scale_tier {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::pair<PromotionPhase, const char*>, 5> kNames = {{{PromotionPhase::kFencing, "Fencing"},
                                                                           {PromotionPhase::kReturning, "Returning"},
                                                                           {PromotionPhase::kDone, "Done"},
                                                                           {PromotionPhase::kRefused, "Refused"},
                                                                           {PromotionPhase::kReturned, "Returned"}}};
constexpr char kAcceptLoss[] = "accept-data-loss";

}  // namespace

std::string NameOf(PromotionPhase phase) {
  for (const auto& [each, name] : kNames) {
    if (each == phase) return name;
  }
  return "";
}

std::string EncodePromotion(const Promotion& promotion) {
  if (promotion.phase == PromotionPhase::kNone) return "";
  Json object{{"request", promotion.request},
              {"phase", NameOf(promotion.phase)},
              {"from", promotion.from},
              {"to", promotion.to}};
  if (promotion.force) object["force"] = true;
  if (promotion.fence.value != 0) object["fence"] = promotion.fence.ToString();
  if (!promotion.message.empty()) object["message"] = promotion.message;
  return kube::DumpJson(object);
}

Promotion DecodePromotion(const std::string& text) {
  Promotion promotion;
  Result<Json> object = kube::ParseJson(text);
  if (!object.has_value()) return promotion;
  std::string phase = kube::StringAt(*object, {"phase"});
  for (const auto& [each, name] : kNames) {
    if (phase == name) promotion.phase = each;
  }
  promotion.request = kube::StringAt(*object, {"request"});
  promotion.from = kube::StringAt(*object, {"from"});
  promotion.to = kube::StringAt(*object, {"to"});
  promotion.force = kube::At(*object, {"force"}) == true;
  promotion.fence = postgres::Lsn::Parse(kube::StringAt(*object, {"fence"})).value_or(postgres::Lsn{});
  promotion.message = kube::StringAt(*object, {"message"});
  return promotion;
}

Result<PromotionRequest> ParsePromotionRequest(const std::string& text) {
  size_t first = text.find('/');
  size_t second = first == std::string::npos ? first : text.find('/', first + 1);
  PromotionRequest request;
  request.target = text.substr(0, first);
  bool has_id = first != std::string::npos && first + 1 < text.size() && second != first + 1;
  bool loss = second != std::string::npos && text.substr(second + 1) == kAcceptLoss;
  if (request.target.empty() || !has_id || (second != std::string::npos && !loss)) {
    return MakeError(Code::kInvalidArgument, "the annotation pgtier.dev/promote is \"" + text +
                                                 "\" and must be <instance>/<id>, or <instance>/<id>/accept-data-loss; "
                                                 "kubectl pgtier promote writes it");
  }
  request.force = loss;
  return request;
}

std::string NotProven(const std::string& to, const std::string& from) {
  return to + " does not hold the end of what " + from + " wrote";
}

}  // namespace pgtier::controllers::scale_tier

#include "controllers/scale_tier/promotion.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
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

// A setting in milliseconds, as postgresql.conf takes it (PostgreSQL, 19.1.1): "30s", "500", "1min"; -1 is for ever.
std::optional<Duration> ReadMilliseconds(const std::string& text) {
  int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  std::string unit(end, text.data() + text.size());
  std::erase(unit, ' ');
  constexpr std::array<std::pair<const char*, double>, 7> kUnits = {
      {{"", 1}, {"us", 0.001}, {"ms", 1}, {"s", 1e3}, {"min", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}}};
  for (const auto& [name, milliseconds] : kUnits) {
    // Beyond an hour it makes no difference to anybody here.
    double most = std::min(static_cast<double>(number) * milliseconds, 3.6e6);
    if (unit == name) return std::chrono::milliseconds(static_cast<int64_t>(most));
  }
  return std::nullopt;
}

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

std::string EncodePrimary(const PrimaryWord& word) { return std::to_string(word.term) + " " + word.instance; }

PrimaryWord DecodePrimary(const std::string& text) {
  PrimaryWord word;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), word.term);
  std::string rest(end, text.data() + text.size());
  if (error != std::errc() || word.term < 0 || rest.size() < 2 || rest[0] != ' ') return {};
  word.instance = rest.substr(1, rest.find_first_of(" \n", 1) - 1);
  return word;
}

Duration ProofPatience(const std::map<std::string, std::string>& parameters) {
  constexpr Duration kDelay = std::chrono::seconds(30);   // PostgreSQL's own max_standby_streaming_delay
  constexpr Duration kReplay = std::chrono::seconds(15);  // what was held up is then replayed
  constexpr Duration kMost = std::chrono::seconds(100);
  auto set = parameters.find("max_standby_streaming_delay");
  if (set == parameters.end()) return kDelay + kReplay;
  std::optional<Duration> delay = ReadMilliseconds(set->second);
  return delay.has_value() ? std::min(std::max(*delay + kReplay, kDelay), kMost) : kMost;
}

std::optional<Duration> ReplayPatience(const std::map<std::string, std::string>& parameters) {
  constexpr Duration kLeast = std::chrono::minutes(1);
  auto set = parameters.find("max_standby_archive_delay");
  if (set == parameters.end()) return kLeast;
  std::optional<Duration> delay = ReadMilliseconds(set->second);
  if (!delay.has_value() || *delay < Duration::zero()) return std::nullopt;
  return std::max(kLeast, *delay + kLeast);
}

std::string NotProven(const std::string& to, const std::string& from) {
  return to + " does not hold the end of what " + from + " wrote";
}

}  // namespace pgtier::controllers::scale_tier

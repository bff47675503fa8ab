#include "lib/observe/http_json.h"

#include <cmath>
#include <cstdlib>

#include "lib/base/time_format.h"
#include "lib/observe/json_path.h"

namespace pgtier::observe {
namespace {

using core::Reading;

// Clocks of two machines differ; a time further ahead is none of now.
constexpr Duration kAhead = std::chrono::minutes(5);

// A number, or a text that is one.
std::optional<double> NumberIn(const nlohmann::json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_string()) return std::nullopt;
  const auto& text = value.get_ref<const std::string&>();
  char* end = nullptr;
  double number = std::strtod(text.c_str(), &end);
  if (text.empty() || end != text.c_str() + text.size()) return std::nullopt;
  return number;
}

std::optional<WallTime> TimeIn(const nlohmann::json& value) {
  if (std::optional<double> number = NumberIn(value)) {
    // Seconds of the year 5000 are more than milliseconds of 1973: what is above them counts milliseconds.
    constexpr double kLastSeconds = 1e11;
    constexpr double kLastMilliseconds = 1e14;
    constexpr double kMilli = 1e3;
    if (!std::isfinite(*number) || *number < 0 || *number > kLastMilliseconds) return std::nullopt;
    double seconds = *number > kLastSeconds ? *number / kMilli : *number;
    return WallTime(std::chrono::duration_cast<WallTime::duration>(std::chrono::duration<double>(seconds)));
  }
  if (!value.is_string()) return std::nullopt;
  Result<WallTime> time = ParseTime(value.get<std::string>());
  return time.has_value() ? std::optional(*time) : std::nullopt;
}

// Why the number is not of now; empty when it is.
std::string WhyStale(const HttpQuestion& question, const nlohmann::json& answer, WallTime now) {
  if (question.timestamp_path.empty()) {
    return question.max_age.has_value() ? "NoTimestamp: http.maxAge needs http.timestampPath" : "";
  }
  Result<JsonPath> path = JsonPath::Parse(question.timestamp_path);
  if (!path.has_value()) return "BadJsonPath: http.timestampPath: " + path.error().message;
  const nlohmann::json* value = path->Find(answer);
  if (value == nullptr) return "NoTimestamp: the answer has nothing at " + question.timestamp_path;
  std::optional<WallTime> time = TimeIn(*value);
  if (!time.has_value()) {
    return "BadTimestamp: what is at " + question.timestamp_path + " is neither RFC 3339 nor Unix seconds";
  }
  if (*time - now > kAhead) return "BadTimestamp: the number is of " + FormatTime(*time) + ", which is yet to come";
  if (!question.max_age.has_value() || now - *time <= *question.max_age) return "";
  return "Stale: the number is of " + FormatTime(*time) + ", older than http.maxAge " +
         FormatDuration(*question.max_age);
}

}  // namespace

Reading ParseHttpAnswer(const HttpQuestion& question, int http_status, const std::string& body, WallTime now) {
  constexpr int kOk = 200;
  constexpr int kUnauthorized = 401;
  constexpr int kForbidden = 403;
  if (http_status == kUnauthorized || http_status == kForbidden) {
    return Reading::Unknown("Unauthorized: HTTP " + std::to_string(http_status) + "; check http.bearerTokenSecret");
  }
  if (http_status / 100 == 3) {
    return Reading::Unknown("HttpError: HTTP " + std::to_string(http_status) +
                            "; redirects are not followed, write the last URL");
  }
  if (http_status != kOk) return Reading::Unknown("HttpError: HTTP " + std::to_string(http_status));
  Result<JsonPath> path = JsonPath::Parse(question.json_path);
  if (!path.has_value()) return Reading::Unknown("BadJsonPath: http.jsonPath: " + path.error().message);
  nlohmann::json answer = nlohmann::json::parse(body, nullptr, false);
  if (answer.is_discarded()) return Reading::Unknown("BadAnswer: the answer is not JSON");
  const nlohmann::json* value = path->Find(answer);
  if (value == nullptr || value->is_null()) {
    return Reading::Unknown("NoData: the answer has nothing at " + question.json_path);
  }
  std::optional<double> number = NumberIn(*value);
  if (!number.has_value() || !std::isfinite(*number)) {
    return Reading::Unknown("NotANumber: what is at " + question.json_path + " is no number");
  }
  if (std::string stale = WhyStale(question, answer, now); !stale.empty()) return Reading::Unknown(stale);
  return Reading::Of(*number * question.scale);
}

Reading ReadHttpJson(Outbound& outbound, const HttpQuestion& question, WallTime now, Deadline deadline,
                     const std::stop_token& stop) {
  // A path that cannot be read is said before anybody is asked.
  if (Result<JsonPath> path = JsonPath::Parse(question.json_path); !path.has_value()) {
    return Reading::Unknown("BadJsonPath: http.jsonPath: " + path.error().message);
  }
  Result<http::Response> response = outbound.Get(question.peer, "", "HttpUnreachable", deadline, stop);
  if (!response.has_value()) return Reading::Unknown(response.error().message);
  return ParseHttpAnswer(question, response->status, response->body, now);
}

}  // namespace pgtier::observe

#include "lib/observe/prometheus.h"

#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace pgtier::observe {
namespace {

std::string PercentEncode(const std::string& text) {
  std::string encoded;
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
      encoded += c;
      continue;
    }
    std::array<char, 4> escape{};
    std::snprintf(escape.data(), escape.size(), "%%%02X", byte);
    encoded += escape.data();
  }
  return encoded;
}

core::Reading FromSample(const nlohmann::json& sample) {
  if (!sample.is_array() || sample.size() != 2 || !sample[1].is_string()) {
    return core::Reading::Unknown("BadAnswer: a sample that is no number");
  }
  std::string text = sample[1].get<std::string>();
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0') return core::Reading::Unknown("BadAnswer: a sample that is no number");
  if (!std::isfinite(value)) return core::Reading::Unknown("NotANumber: the query returned " + text.substr(0, 8));
  return core::Reading::Of(value);
}

}  // namespace

core::Reading ParsePrometheusAnswer(int http_status, const std::string& body) {
  nlohmann::json answer = nlohmann::json::parse(body, nullptr, false);
  if (http_status != 200) {
    // Prometheus names the kind of error in one word; its message may hold anything and is not repeated.
    std::string type = answer.is_object() && answer.value("errorType", nlohmann::json()).is_string()
                           ? answer["errorType"].get<std::string>()
                           : "";
    if (http_status == 401 || http_status == 403) {
      return core::Reading::Unknown("Unauthorized: HTTP " + std::to_string(http_status) +
                                    "; check spec.metrics.prometheus.bearerTokenSecret");
    }
    if (type == "bad_data") return core::Reading::Unknown("BadQuery: Prometheus cannot parse or run the query");
    return core::Reading::Unknown("PrometheusError: HTTP " + std::to_string(http_status));
  }
  if (!answer.is_object() || !answer.contains("data") || !answer["data"].is_object()) {
    return core::Reading::Unknown("BadAnswer: not an answer of Prometheus' query API");
  }
  const nlohmann::json& data = answer["data"];
  std::string type =
      data.value("resultType", nlohmann::json()).is_string() ? data["resultType"].get<std::string>() : "";
  nlohmann::json result = data.value("result", nlohmann::json());
  if (type == "scalar") return FromSample(result);
  if (type != "vector" || !result.is_array()) {
    return core::Reading::Unknown("BadQuery: the result is not an instant vector or a scalar");
  }
  if (result.empty()) return core::Reading::Unknown("NoData: the query returned no series");
  if (result.size() > 1) {
    return core::Reading::Unknown("ManySeries: the query returned " + std::to_string(result.size()) +
                                  " series; aggregate them to one");
  }
  return result[0].is_object() ? FromSample(result[0].value("value", nlohmann::json()))
                               : core::Reading::Unknown("BadAnswer: a sample that is no number");
}

core::Reading Prometheus::Query(const PrometheusServer& server, const std::string& query, Deadline deadline,
                                const std::stop_token& stop) {
  if (server.url.empty()) return core::Reading::Unknown("NotConfigured: spec.metrics.prometheus.url is not set");
  PrometheusServer base = server;
  while (base.url.ends_with('/')) base.url.pop_back();
  Result<http::Response> response =
      outbound_.Get(base, "/api/v1/query?query=" + PercentEncode(query), "PrometheusUnreachable", deadline, stop);
  if (!response.has_value()) return core::Reading::Unknown(response.error().message);
  return ParsePrometheusAnswer(response->status, response->body);
}

}  // namespace pgtier::observe

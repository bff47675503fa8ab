// Readings from Prometheus' HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>

#include "core/trigger.h"
#include "lib/http/client.h"
#include "lib/observe/allowed_hosts.h"

namespace pgtier::observe {

struct PrometheusServer {
  std::string url;     // Base: http://prometheus.monitoring:9090, or with a path prefix.
  std::string token;   // Bearer token, or empty.
  std::string ca_pem;  // Empty: the system's CAs.
};

// Thread-safe; keeps one client per server.
class Prometheus {
 public:
  explicit Prometheus(AllowedHosts allowed) : allowed_(std::move(allowed)) {}

  // An instant query. The result must be one number: a scalar, or a vector of one sample. All else is Unknown, with
  // the reason; the body of an answer is never part of it.
  core::Reading Query(const PrometheusServer& server, const std::string& query, Deadline deadline,
                      const std::stop_token& stop);

 private:
  Result<std::shared_ptr<http::Client>> ClientFor(const PrometheusServer& server);

  AllowedHosts allowed_;
  std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<http::Client>> clients_;  // by URL and CA
};

// The reading in an answer of /api/v1/query.
core::Reading ParsePrometheusAnswer(int http_status, const std::string& body);

}  // namespace pgtier::observe

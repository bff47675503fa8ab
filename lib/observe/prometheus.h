// Readings from Prometheus' HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/).
#pragma once

#include <stop_token>
#include <string>

#include "core/trigger.h"
#include "lib/observe/outbound.h"

namespace pgtier::observe {

// The server: base URL (http://prometheus.monitoring:9090, or with a path prefix), token and CA.
using PrometheusServer = Peer;

// Thread-safe.
class Prometheus {
 public:
  explicit Prometheus(AllowedHosts allowed) : outbound_(std::move(allowed)) {}

  // An instant query. The result must be one number: a scalar, or a vector of one sample. All else is Unknown, with
  // the reason; the body of an answer is never part of it.
  core::Reading Query(const PrometheusServer& server, const std::string& query, Deadline deadline,
                      const std::stop_token& stop);

  // For other sources over HTTP: the same hosts are allowed.
  [[nodiscard]] Outbound& outbound() { return outbound_; }

 private:
  Outbound outbound_;
};

// The reading in an answer of /api/v1/query.
core::Reading ParsePrometheusAnswer(int http_status, const std::string& body);

}  // namespace pgtier::observe

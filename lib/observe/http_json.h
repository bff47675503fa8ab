// Readings from any JSON that a GET gives.
#pragma once

#include <optional>
#include <stop_token>
#include <string>

#include "core/trigger.h"
#include "lib/observe/outbound.h"

namespace pgtier::observe {

struct HttpQuestion {
  Peer peer;
  std::string json_path;            // Where the number is (json_path.h).
  std::string timestamp_path;       // Where its time is: RFC 3339, or Unix seconds or milliseconds. Empty: it has none.
  double scale = 1;                 // Factor that brings the number to the trigger's unit.
  std::optional<Duration> max_age;  // An older number is none.
};

// Asks. Everything but one fresh number is Unknown, with the reason; the body of an answer is never part of it.
core::Reading ReadHttpJson(Outbound& outbound, const HttpQuestion& question, WallTime now, Deadline deadline,
                           const std::stop_token& stop);

// The reading in an answer.
core::Reading ParseHttpAnswer(const HttpQuestion& question, int http_status, const std::string& body, WallTime now);

}  // namespace pgtier::observe

// The example policy data/kyoyu as an API server might hold it, with readings in its status.
#pragma once

#include <fstream>
#include <sstream>

#include "crds/scale_tier_policy_codec.h"
#include "lib/base/time_format.h"
#include "tests/support/yaml.h"

namespace pgtier::cli {

inline WallTime SampleNow() { return *ParseTime("2026-11-20T17:10:00Z"); }  // A Friday.

inline nlohmann::json SampleObject() {
  nlohmann::json policy = tests::LoadYaml("manifests/examples/kyoyu.yaml");
  policy["metadata"]["generation"] = 4;
  policy["status"] = nlohmann::json::parse(R"({
    "observedGeneration": 4, "tier": "single-node", "tierSince": "2026-11-20T15:00:00Z", "nextTier": "read-replicas",
    "history": [{"from": "read-replicas", "to": "single-node", "at": "2026-11-20T17:00:00Z"}],
    "conditions": [
      {"type": "Ready", "status": "True", "reason": "MetricsUnknown", "message": "cpu is unknown"},
      {"type": "Stalled", "status": "False", "reason": "NothingToDo", "message": ""},
      {"type": "MetricsAvailable", "status": "False", "reason": "ReadingsUnknown", "message": "cpu: NoData"}],
    "tiers": [
      {"name": "single-node", "enteredAt": "2026-11-20T15:00:00Z", "reason": "Started", "message": "where the ladder starts"},
      {"name": "read-replicas", "observations": [
        {"name": "query-p95", "state": "Calm", "observed": "31ms", "threshold": "50ms", "for": "1h", "source": "prometheus",
         "observedAt": "2026-11-20T17:09:50Z", "breachedSince": "2026-11-20T16:30:00Z", "calmSince": "2026-11-20T17:09:40Z"},
        {"name": "pool-utilisation", "state": "Breached", "observed": "87%", "threshold": "80%", "for": "10m",
         "source": "pooler", "observedAt": "2026-11-20T17:09:55Z", "breachedSince": "2026-11-20T17:06:00Z"},
        {"name": "cpu", "state": "Unknown", "threshold": "70%", "for": "10m", "source": "prometheus",
         "reason": "NoData: the query gave no sample"},
        {"name": "isolated-reads", "state": "Calm", "source": "demand"}]},
      {"name": "sharded", "observations": [
        {"name": "copy-throughput", "state": "Calm", "observed": "2%", "threshold": "80%", "for": "1h",
         "source": "prometheus", "observedAt": "2026-11-20T17:09:50Z"},
        {"name": "disk", "state": "Breached", "observed": "85%", "threshold": "80%", "for": "15m", "source": "prometheus",
         "observedAt": "2026-11-20T17:09:50Z", "breachedSince": "2026-11-20T16:00:00Z"},
        {"name": "replicas-needed", "state": "Calm", "observed": "2", "threshold": "3", "source": "status",
         "observedAt": "2026-11-20T17:09:50Z"}]}]})");
  return policy;
}

// What a terminal shows, from tests/cases/cli.
inline std::string Golden(const std::string& name) {
  std::ifstream file(std::string(PGTIER_SOURCE_DIR) + "/tests/cases/cli/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline crds::ScaleTierPolicy Decode(const nlohmann::json& object) { return *crds::DecodeScaleTierPolicy(object); }

}  // namespace pgtier::cli

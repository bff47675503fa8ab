// ScaleTierReconciler on a real API server, without pods: no controller runs there that would make any.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "tests/fake/manual_clock.h"
#include "tests/integration/crds/policy_server.h"

namespace pgtier::test {

// A reconciler with parts of its own, as one process of the operator has them.
struct OneOperator {
  OneOperator(kube::Client* client, controllers::scale_tier::ScaleTierReconciler::Lookup lookup, const Clock* clock,
              kube::ObjectCache* children = nullptr);

  Metrics metrics;
  SystemClock system_clock;
  kube::EventRecorder events;
  observe::Prometheus prometheus;
  controllers::scale_tier::ScaleTierReconciler reconciler;
};

class ReconcilerTest : public PolicyServerTest {
 protected:
  void SetUp() override;

  // Creates the policy, which must be accepted.
  void Make(const nlohmann::json& policy);
  // Changes the policy `dev` by an RFC 7386 patch.
  void Patch(const nlohmann::json& patch);
  // One pass over the policy `dev`, a minute after the one before; where it fails another one, as the queue does.
  Result<controllers::Requeue> Pass();
  // The policy as the server has it now.
  std::shared_ptr<const crds::ScaleTierPolicy> Policy();
  crds::Condition ConditionOf(const std::string& type);
  // "Kind name" → resourceVersion of everything in this namespace that a policy may own, the policy with it.
  std::map<std::string, std::string> Versions();
  // Names of what `Versions` has, without the policy.
  std::vector<std::string> Children();

  fake::ManualClock clock_;
  std::unique_ptr<OneOperator> operator_;
};

}  // namespace pgtier::test

#include "tests/integration/controllers/reconciler_on_server.h"

#include <cstdio>

#include "crds/scale_tier_policy_codec.h"
#include "lib/kube/json.h"

namespace pgtier::test {

using controllers::scale_tier::ScaleTierReconciler;

OneOperator::OneOperator(kube::Client* client, ScaleTierReconciler::Lookup lookup, const Clock* clock,
                         kube::ObjectCache* children)
    : events(client, &system_clock, &metrics, {.instance = "test"}),
      prometheus(observe::AllowedHosts({})),
      reconciler({client,
                  &events,
                  &prometheus,
                  clock,
                  &metrics,
                  {"postgres:test", "pgbouncer:test"},
                  std::move(lookup),
                  children}) {}

void ReconcilerTest::SetUp() {
  PolicyServerTest::SetUp();
  if (IsSkipped()) return;
  operator_ = std::make_unique<OneOperator>(
      client(), [this](const kube::ObjectKey&) { return Policy(); }, &clock_);
}

void ReconcilerTest::Make(const nlohmann::json& policy) { ASSERT_EQ(Refusal(policy), ""); }

void ReconcilerTest::Patch(const nlohmann::json& patch) {
  auto patched = client()->MergePatch(kScaleTierPolicies, {namespace_name(), "dev"}, patch, Soon());
  ASSERT_TRUE(patched.has_value()) << patched.error().message;
}

Result<controllers::Requeue> ReconcilerTest::Pass() {
  clock_.Advance(std::chrono::minutes(1));
  auto passed = operator_->reconciler.Reconcile({namespace_name(), "dev"}, Soon(), {});
  if (passed.has_value()) return passed;
  std::fprintf(stderr, "a pass failed, and is tried again: %s\n", passed.error().message.c_str());
  return operator_->reconciler.Reconcile({namespace_name(), "dev"}, Soon(), {});
}

std::shared_ptr<const crds::ScaleTierPolicy> ReconcilerTest::Policy() {
  auto object = client()->Get(kScaleTierPolicies, {namespace_name(), "dev"}, Soon());
  if (!object.has_value()) return nullptr;
  return std::make_shared<crds::ScaleTierPolicy>(*crds::DecodeScaleTierPolicy(*object));
}

crds::Condition ReconcilerTest::ConditionOf(const std::string& type) {
  auto policy = Policy();
  const crds::Condition* condition = crds::FindCondition(policy->status.conditions, type);
  return condition == nullptr ? crds::Condition{} : *condition;
}

std::map<std::string, std::string> ReconcilerTest::Versions() {
  std::map<std::string, std::string> versions;
  for (const kube::Resource& resource :
       {kube::kPods, kube::kServices, kube::kSecrets, kube::kConfigMaps, kube::kStatefulSets, kube::kDeployments,
        kube::kPodDisruptionBudgets, kube::kPersistentVolumeClaims, kScaleTierPolicies}) {
    auto list = client()->List(resource, namespace_name(), {}, Soon());
    EXPECT_TRUE(list.has_value()) << list.error().message;
    for (const auto& item : (*list)["items"]) {
      versions[std::string(resource.kind) + " " + kube::KeyOf(item).name] =
          kube::StringAt(item, {"metadata", "resourceVersion"});
    }
  }
  return versions;
}

std::vector<std::string> ReconcilerTest::Children() {
  std::vector<std::string> children;
  for (const auto& [name, version] : Versions()) {
    if (!name.starts_with("ScaleTierPolicy")) children.push_back(name);
  }
  return children;
}

}  // namespace pgtier::test

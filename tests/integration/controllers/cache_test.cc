// The reconciler on caches, as the operator runs it: what passes see comes by watches, later than what they write.
#include <gmock/gmock.h>

#include <set>
#include <thread>

#include "controllers/ladder/policy_cache.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/resources.h"
#include "crds/scale_tier_policy_codec.h"
#include "lib/http/client.h"
#include "lib/kube/json.h"
#include "lib/kube/object_cache.h"
#include "tests/integration/controllers/reconciler_on_server.h"

namespace pgtier::test {
namespace {

using controllers::scale_tier::kOwned;
using controllers::scale_tier::kPolicyLabel;
using PolicyCache = controllers::PolicyCache<crds::ScaleTierPolicy>;
using Json = nlohmann::json;
using std::chrono::milliseconds;

// Brings everything that a watch says later than it comes.
class LateTransport final : public http::Transport {
 public:
  explicit LateTransport(std::unique_ptr<http::Transport> inner) : inner_(std::move(inner)) {}

  Result<http::Response> Send(const http::Request& request, Deadline deadline, const std::stop_token& stop) override {
    return inner_->Send(request, deadline, stop);
  }
  Status Stream(const http::Request& request, Deadline headers, Duration idle, const http::OnData& on_data,
                const std::stop_token& stop) override {
    auto late = [&](const http::Response& head, std::string_view chunk) -> Status {
      if (!SleepFor(milliseconds(100), stop)) return MakeError(Code::kCancelled, "stopped");
      return on_data(head, chunk);
    };
    return inner_->Stream(request, headers, idle, late, stop);
  }

 private:
  std::unique_ptr<http::Transport> inner_;
};

std::unique_ptr<kube::Client> LateClient(const std::string& kubeconfig) {
  auto config = kube::LoadConfig(kubeconfig);
  http::ClientOptions options;
  options.base_url = config->server;
  options.tls = config->tls;
  return std::make_unique<kube::Client>(std::make_unique<LateTransport>(*http::Client::Create(options)),
                                        kube::ClientOptions{});
}

class ReconcilerOnCaches : public ReconcilerTest {
 protected:
  void SetUp() override {
    ReconcilerTest::SetUp();
    if (IsSkipped()) return;
    operator_.reset();
    own_client_ = LateClient(server().kubeconfig());
    kube::ObjectCacheOptions options;
    options.resources.assign(std::begin(kOwned), std::end(kOwned));
    options.namespace_ = namespace_name();
    options.label = kPolicyLabel;
    options.patience = milliseconds(500);
    options.tuning.backoff_max = milliseconds(500);
    children_ = std::make_unique<kube::ObjectCache>(
        own_client_.get(), std::move(options), [this](const kube::ObjectKey& policy) { Wake(policy); },
        &cache_metrics_);
    policies_ = std::make_unique<PolicyCache>(
        own_client_.get(), kScaleTierPolicies, crds::DecodeScaleTierPolicy, namespace_name(),
        [this](const kube::ObjectKey& policy, bool) { Wake(policy); }, &cache_metrics_);
    operator_ = std::make_unique<OneOperator>(
        own_client_.get(), [this](const kube::ObjectKey& key) { return policies_->Get(key); }, &clock_,
        children_.get());
    children_->Start();
    thread_ = std::jthread([this](const std::stop_token& stop) { policies_->Run(stop); });
    ASSERT_TRUE(Eventually([this] { return children_->synced() && policies_->synced(); }));
  }

  template <typename Condition>
  static bool Eventually(const Condition& condition) {
    const Deadline deadline = Soon();
    while (!deadline.Expired()) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return false;
  }
  void Wake(const kube::ObjectKey& policy) {
    std::lock_guard lock(mutex_);
    woken_.insert(policy.name);
  }
  bool WasWoken(const std::string& policy) {
    return Eventually([&] {
      std::lock_guard lock(mutex_);
      return woken_.erase(policy) > 0;
    });
  }
  // A pass as the operator makes it: what was refused because the policy had moved on is tried again.
  void PassToItsEnd() {
    EXPECT_TRUE(Eventually([this] { return Pass().has_value(); }));
  }

  Metrics cache_metrics_;
  std::mutex mutex_;
  std::set<std::string> woken_;
  std::unique_ptr<kube::Client> own_client_;
  std::unique_ptr<kube::ObjectCache> children_;
  std::unique_ptr<PolicyCache> policies_;
  std::jthread thread_;

  void TearDown() override { operator_.reset(); }
};

// A pass that did not see what the one before made would draw passwords anew and lock everyone out.
TEST_F(ReconcilerOnCaches, PassesRightAfterAnotherDoNothingTwice) {
  Make(Example("dev"));
  ASSERT_TRUE(WasWoken("dev"));
  PassToItsEnd();
  std::map<std::string, std::string> made = Versions();
  ASSERT_TRUE(made.contains("StatefulSet dev-1"));
  made.erase("ScaleTierPolicy dev");
  for (int i = 0; i < 5; ++i) {
    PassToItsEnd();
    std::map<std::string, std::string> now = Versions();
    now.erase("ScaleTierPolicy dev");
    ASSERT_EQ(now, made) << "pass " << i + 2;
  }
}

TEST_F(ReconcilerOnCaches, AtRestNothingIsAskedOfTheServer) {
  Make(Example("dev"));
  ASSERT_TRUE(WasWoken("dev"));
  PassToItsEnd();
  auto misses = [this] {
    const std::string text = cache_metrics_.Serialize();
    int lines = 0;
    for (size_t at = text.find("pgtier_cache_misses_total{"); at != std::string::npos;
         at = text.find("pgtier_cache_misses_total{", at + 1)) {
      lines += std::stoi(text.substr(text.find("} ", at) + 2));
    }
    return lines;
  };
  EXPECT_TRUE(Eventually([&] {
    const int before = misses();
    PassToItsEnd();
    return misses() == before;
  })) << "own writes are never seen by the watches";
}

TEST_F(ReconcilerOnCaches, WhatAnotherChangesWakesThePolicyAndIsUndone) {
  Make(Example("dev"));
  ASSERT_TRUE(WasWoken("dev"));
  PassToItsEnd();
  std::this_thread::sleep_for(milliseconds(200));
  {
    std::lock_guard lock(mutex_);
    woken_.clear();
  }
  Json drift{{"spec", {{"selector", {{"pgtier.dev/endpoint", "elsewhere"}}}}}};
  ASSERT_TRUE(client()->MergePatch(kube::kServices, {namespace_name(), "dev-rw"}, drift, Soon()).has_value());
  ASSERT_TRUE(WasWoken("dev"));
  PassToItsEnd();
  auto service = client()->Get(kube::kServices, {namespace_name(), "dev-rw"}, Soon());
  EXPECT_EQ(kube::StringAt(*service, {"spec", "selector", "pgtier.dev/endpoint"}), "rw");
}

TEST_F(ReconcilerOnCaches, WhileTheServerIsAwayPassesFailAndLaterNothingWasLost) {
  Make(Example("dev"));
  ASSERT_TRUE(WasWoken("dev"));
  PassToItsEnd();
  const auto before = Children();
  server().Kill();
  EXPECT_TRUE(Eventually([this] {
    auto passed =
        operator_->reconciler.Reconcile({namespace_name(), "dev"}, Deadline::After(std::chrono::seconds(2)), {});
    return !passed.has_value();
  })) << "a cache that nobody feeds is acted on";
  server().Start();
  PassToItsEnd();
  EXPECT_EQ(Children(), before);
}

}  // namespace
}  // namespace pgtier::test

// Passes in a world that resists: other people's objects, Secrets that must not be read, an API server that dies.
#include <gmock/gmock.h>

#include "lib/kube/json.h"
#include "tests/integration/controllers/reconciler_on_server.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;

class ReconcilerFaults : public ReconcilerTest {};

TEST_F(ReconcilerFaults, AForeignObjectOfTheSameNameIsNotTakenOver) {
  Json ports = Json::array({{{"port", 80}}});
  Json foreign{{"metadata", {{"namespace", namespace_name()}, {"name", "dev-rw"}}}, {"spec", {{"ports", ports}}}};
  ASSERT_TRUE(client()->Create(kube::kServices, foreign, Soon()).has_value());
  Make(Example("dev"));
  std::string before = Versions().at("Service dev-rw");
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(Versions().at("Service dev-rw"), before);
  EXPECT_EQ(ConditionOf("Stalled").status, "True");
  EXPECT_EQ(ConditionOf("Stalled").message,
            "Service dev-rw exists already and is not of this policy; rename one of them");
  EXPECT_EQ(ConditionOf("Ready").status, "False");

  ASSERT_TRUE(client()->Delete(kube::kServices, {namespace_name(), "dev-rw"}, {}, Soon()).has_value());
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(ConditionOf("Stalled").status, "False");
  EXPECT_TRUE(Versions().contains("Service dev-rw"));
}

TEST_F(ReconcilerFaults, AForeignSecretIsNeverRead) {
  // The name is taken by a Secret of somebody's, before pgtier has made its own.
  Json foreign{{"metadata", {{"namespace", namespace_name()}, {"name", "dev-internal"}}},
               {"stringData", {{"superuser", "theirs"}}}};
  ASSERT_TRUE(client()->Create(kube::kSecrets, foreign, Soon()).has_value());
  Make(Example("dev"));
  std::string before = Versions().at("Secret dev-internal");
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(Versions().at("Secret dev-internal"), before);
  EXPECT_THAT(ConditionOf("Stalled").message, HasSubstr("Secret dev-internal exists already"));
  EXPECT_FALSE(Versions().contains("StatefulSet dev-1")) << "it would run with a password that nobody knows";
}

TEST_F(ReconcilerFaults, ASecretThatIsNotLabelledForItIsNotSent) {
  Json secret{{"metadata", {{"namespace", namespace_name()}, {"name", "token-of-others"}}},
              {"stringData", {{"token", "hidden"}}}};
  ASSERT_TRUE(client()->Create(kube::kSecrets, secret, Soon()).has_value());
  Json policy = Example("dev");
  policy["spec"]["mode"] = "Observe";
  policy["spec"]["metrics"]["prometheus"] = {{"url", "http://prometheus:9090"},
                                             {"bearerTokenSecret", {{"name", "token-of-others"}}}};
  policy["spec"]["tiers"][1]["enterWhen"]["any"].push_back(
      {{"name", "cpu"}, {"above", "0.7"}, {"prometheus", {{"query", "cpu"}}}});
  Make(policy);
  ASSERT_TRUE(Pass().has_value());
  EXPECT_EQ(ConditionOf("MetricsAvailable").status, "False");
  EXPECT_EQ(ConditionOf("MetricsAvailable").message,
            "cpu: SecretNotLabelled: Secret token-of-others lacks the label pgtier.dev/use=http");
  EXPECT_EQ(ConditionOf("Ready").status, "True");

  Json label{{"metadata", {{"labels", {{"pgtier.dev/use", "http"}}}}}};
  ASSERT_TRUE(client()->MergePatch(kube::kSecrets, {namespace_name(), "token-of-others"}, label, Soon()).has_value());
  ASSERT_TRUE(Pass().has_value());
  EXPECT_THAT(ConditionOf("MetricsAvailable").message, testing::Not(HasSubstr("SecretNotLabelled")));
  Patch(Json::parse(R"({"spec": {"metrics": {"prometheus": {"bearerTokenSecret": {"name": "nowhere"}}}}})"));
  ASSERT_TRUE(Pass().has_value());
  EXPECT_THAT(ConditionOf("MetricsAvailable").message, HasSubstr("there is no Secret nowhere"));
}

TEST_F(ReconcilerFaults, OfTwoThatWriteStatusOneIsToldOfTheOther) {
  Make(Example("dev"));
  std::shared_ptr<const crds::ScaleTierPolicy> old = Policy();
  OneOperator other(
      client(), [old](const kube::ObjectKey&) { return old; }, &clock_);
  ASSERT_TRUE(Pass().has_value());
  std::map<std::string, std::string> before = Versions();
  auto late = other.reconciler.Reconcile({namespace_name(), "dev"}, Soon(), {});
  ASSERT_FALSE(late.has_value());
  EXPECT_EQ(late.error().code, Code::kAborted);
  EXPECT_EQ(Versions(), before);
}

// Does something when it is asked for the time: between what a pass sees and what it does.
class TrapClock final : public Clock {
 public:
  std::function<void()> trap;
  [[nodiscard]] WallTime Now() const override {
    if (trap) trap();
    return clock_.Now();
  }
  [[nodiscard]] MonoTime MonoNow() const override { return clock_.MonoNow(); }

 private:
  SystemClock clock_;
};

TEST_F(ReconcilerFaults, AnApiserverThatDiesInAPassTeachesNothing) {
  Make(Example("dev"));
  std::shared_ptr<const crds::ScaleTierPolicy> cached = Policy();
  TrapClock clock;
  bool killed = false;
  clock.trap = [&] {
    if (!std::exchange(killed, true)) server().Kill();
  };
  OneOperator one(
      client(), [&](const kube::ObjectKey&) { return cached; }, &clock);
  kube::ObjectKey key{namespace_name(), "dev"};
  auto cut = one.reconciler.Reconcile(key, Deadline::After(std::chrono::seconds(3)), {});
  EXPECT_TRUE(killed);
  EXPECT_FALSE(cut.has_value());
  auto dead = one.reconciler.Reconcile(key, Deadline::After(std::chrono::seconds(3)), {});
  ASSERT_FALSE(dead.has_value()) << "could not read is not nothing there";

  server().Start();
  EXPECT_THAT(Children(), IsEmpty());
  EXPECT_EQ(Policy()->meta.resource_version, cached->meta.resource_version) << "nothing was concluded";
  // The client may hold connections to the dead server for one call more.
  const Deadline deadline = Soon();
  auto again = one.reconciler.Reconcile(key, Soon(), {});
  while (!again.has_value() && !deadline.Expired()) again = one.reconciler.Reconcile(key, Soon(), {});
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(Policy()->status.tier, "single-node");
  EXPECT_TRUE(Versions().contains("StatefulSet dev-1"));
}

}  // namespace
}  // namespace pgtier::test

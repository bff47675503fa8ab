// kubectl-pgtier against a real API server: what it reads, what it writes and under which name, and how it fails.
#include <gmock/gmock.h>

#include <filesystem>
#include <sstream>
#include <thread>

#include "cli/run.h"
#include "lib/http/client.h"
#include "lib/kube/json.h"
#include "tests/integration/crds/policy_server.h"

namespace pgtier::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

struct Ran {
  int code = -1;
  std::string out, err;
};

class Commands : public PolicyServerTest {
 protected:
  void SetUp() override {
    http::InitialiseThreads();
    PolicyServerTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(Refusal(Example("dev")), "");
  }

  // The command with this server's kubeconfig and this test's namespace.
  static Ran RunAs(const std::string& kubeconfig, const std::string& namespace_, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "kubectl-pgtier");
    arguments.push_back("--kubeconfig=" + kubeconfig);
    if (!namespace_.empty()) arguments.push_back("--namespace=" + namespace_);
    std::vector<const char*> argv;
    for (const std::string& each : arguments) argv.push_back(each.c_str());
    std::ostringstream out;
    std::ostringstream err;
    SystemClock clock;
    Ran ran;
    ran.code = cli::Run(static_cast<int>(argv.size()), argv.data(), {out, err, {}, clock});
    ran.out = out.str();
    ran.err = err.str();
    return ran;
  }
  Ran Run(const std::vector<std::string>& arguments) {
    return RunAs(server().kubeconfig(), namespace_name(), arguments);
  }

  // Who owns a field of the policy `dev`, as managedFields has it ("f:metadata", "f:annotations", …).
  std::string ManagerOf(const std::vector<std::string>& path) {
    Json policy = Get("dev");
    for (const Json& entry : policy["metadata"]["managedFields"]) {
      const Json* node = &entry["fieldsV1"];
      for (const std::string& step : path) {
        if (node != nullptr) node = node->contains(step) ? &node->at(step) : nullptr;
      }
      if (node != nullptr) return entry["manager"];
    }
    return "";
  }
};

TEST_F(Commands, WhyAndPlanReadThePolicy) {
  Ran why = Run({"why", "dev"});
  EXPECT_EQ(why.code, 0) << why.err;
  EXPECT_THAT(why.out, HasSubstr("dev in " + namespace_name() + ": no tier yet"));
  EXPECT_THAT(why.out, HasSubstr("kubectl pgtier demand dev by-hand"));
  Json report = Json::parse(Run({"why", "dev", "-o", "json"}).out);
  EXPECT_EQ(report["namespace"], namespace_name());
  Ran plan = Run({"plan", "dev"});
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("no tier runs yet; next is single-node"));
}

TEST_F(Commands, TheNamespaceIsTheContextsWhereNoneIsGiven) {
  Ran other = RunAs(server().kubeconfig(), "", {"why", "dev"});
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err,
              HasSubstr("there is no ScaleTierPolicy and no ShadowTablePolicy \"dev\" in namespace \"default\""));
  std::string copy = server().kubeconfig() + "." + namespace_name();
  std::filesystem::copy_file(server().kubeconfig(), copy);
  server().Kubectl({"config", "--kubeconfig=" + copy, "set-context", "mine", "--cluster=test", "--user=admin",
                    "--namespace=" + namespace_name()});
  Ran mine = RunAs(copy, "", {"why", "dev", "--context=mine"});
  EXPECT_EQ(mine.code, 0) << mine.err;
  Ran unknown = Run({"why", "dev", "--context=nowhere"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("no \"nowhere\" among its contexts"));
}

TEST_F(Commands, ApproveTakesThePresentPlanOnly) {
  Ran none = Run({"approve", "dev", "--current"});
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, HasSubstr("no plan waits for approval"));
  Json status{{"metadata", {{"namespace", namespace_name()}, {"name", "dev"}}},
              {"status", {{"observedGeneration", 1}, {"plan", {{"hash", "3f9c2a7711d0e5b8"}}}}}};
  ASSERT_TRUE(client()->ApplyStatus(kScaleTierPolicies, status, Soon()).has_value());
  Ran wrong = Run({"approve", "dev", "0000000000000000"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_THAT(wrong.err, HasSubstr("its hash is 3f9c2a7711d0e5b8, not 0000000000000000"));
  EXPECT_FALSE(Get("dev")["metadata"].contains("annotations"));
  EXPECT_EQ(Run({"approve", "dev", "3f9c2a7711d0e5b8"}).code, 0);
  EXPECT_EQ(Get("dev")["metadata"]["annotations"]["pgtier.dev/approve"], "3f9c2a7711d0e5b8");
  EXPECT_EQ(ManagerOf({"f:metadata", "f:annotations", "f:pgtier.dev/approve"}), "pgtier-cli");
  EXPECT_THAT(Run({"approve", "dev", "--current"}).out, HasSubstr("was approved already"));
}

TEST_F(Commands, PauseSetsTheAnnotationUnderTheNameOfTheProgramAndResumeTakesItBack) {
  Ran paused = Run({"pause", "dev"});
  EXPECT_EQ(paused.code, 0) << paused.err;
  EXPECT_EQ(Get("dev")["metadata"]["annotations"]["pgtier.dev/paused"], "true");
  EXPECT_EQ(ManagerOf({"f:metadata", "f:annotations", "f:pgtier.dev/paused"}), "pgtier-cli");
  std::string version = Get("dev")["metadata"]["resourceVersion"];
  EXPECT_THAT(Run({"pause", "dev"}).out, HasSubstr("was paused already"));
  EXPECT_EQ(Get("dev")["metadata"]["resourceVersion"], version) << "nothing was to be written";
  Json resumed = Json::parse(Run({"resume", "dev", "-o", "json"}).out);
  EXPECT_EQ(resumed["action"], "resume");
  EXPECT_EQ(resumed["changed"], true);
  EXPECT_FALSE(Get("dev")["metadata"].contains("annotations"));
}

TEST_F(Commands, PromoteAsksOnceAndWaitsForTheAnswer) {
  Ran asked = Run({"promote", "dev", "dev-2"});
  EXPECT_EQ(asked.code, 0) << asked.err;
  std::string first = Get("dev")["metadata"]["annotations"]["pgtier.dev/promote"];
  EXPECT_THAT(first, testing::MatchesRegex("dev-2/[-0-9T:.]+Z"));
  EXPECT_EQ(ManagerOf({"f:metadata", "f:annotations", "f:pgtier.dev/promote"}), "pgtier-cli");
  EXPECT_EQ(Run({"promote", "dev", "dev-2", "--force"}).code, 0);
  std::string forced = Get("dev")["metadata"]["annotations"]["pgtier.dev/promote"];
  EXPECT_THAT(forced, testing::EndsWith("/accept-data-loss"));
  EXPECT_NE(forced.substr(0, first.size()), first) << "each request is another one";
  Ran silent = Run({"promote", "dev", "dev-2", "--wait", "--timeout=1s"});
  EXPECT_EQ(silent.code, 1);
  EXPECT_THAT(silent.err, HasSubstr("the operator has not taken it up"));

  // What the operator would answer.
  std::jthread operator_([this](const std::stop_token& stop) {
    auto own = server().Connect();
    while (!stop.stop_requested()) {
      auto policy = own->Get(kScaleTierPolicies, {namespace_name(), "dev"}, Soon());
      Json status{{"metadata", {{"namespace", namespace_name()}, {"name", "dev"}}},
                  {"status",
                   {{"promotion",
                     {{"request", (*policy)["metadata"]["annotations"]["pgtier.dev/promote"]},
                      {"phase", "Refused"},
                      {"message", "dev-2 does not answer"}}}}}};
      std::ignore = own->ApplyStatus(kScaleTierPolicies, status, Soon());
      SleepFor(std::chrono::milliseconds(100), stop);
    }
  });
  Ran refused = Run({"promote", "dev", "dev-2", "--wait", "--timeout=20s"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_EQ(refused.err, "error: refused: dev-2 does not answer\n");
}

TEST_F(Commands, PromoteOfTheOldPrimaryTurnsAPromotionThatRuns) {
  auto answer = [&](const std::string& request, const std::string& phase) {
    Json promotion{{"request", request}, {"phase", phase}, {"from", "dev-1"}, {"to", "dev-2"}, {"message", phase}};
    Json status{{"metadata", {{"namespace", namespace_name()}, {"name", "dev"}}},
                {"status", {{"promotion", promotion}}}};
    Result<Json> applied = server().Connect()->ApplyStatus(kScaleTierPolicies, status, Soon());
    ASSERT_TRUE(applied.has_value()) << applied.error().message;
  };
  answer("dev-2/1", "Fencing");
  EXPECT_THAT(Run({"promote", "dev", "dev-3"}).err, HasSubstr("a promotion runs already: dev-2 in place of dev-1"));
  EXPECT_EQ(Run({"promote", "dev", "dev-1"}).code, 0);
  // What came of it, as the operator would answer; Returned is what was asked for here, and Done is not.
  for (const char* phase : {"Returned", "Done"}) {
    std::jthread operator_([&](const std::stop_token& stop) {
      auto own = server().Connect();
      while (!stop.stop_requested()) {
        auto policy = own->Get(kScaleTierPolicies, {namespace_name(), "dev"}, Soon());
        answer((*policy)["metadata"]["annotations"]["pgtier.dev/promote"], phase);
        SleepFor(std::chrono::milliseconds(100), stop);
      }
    });
    Ran ended = Run({"promote", "dev", "dev-1", "--force", "--wait", "--timeout=20s"});
    EXPECT_EQ(ended.code, phase == std::string("Returned") ? 0 : 1) << ended.err;
  }
}

TEST_F(Commands, DemandAddsOneNameAndKeepsTheOthers) {
  Ran demanded = Run({"demand", "dev", "by-hand"});
  EXPECT_EQ(demanded.code, 0) << demanded.err;
  EXPECT_EQ(Get("dev")["spec"]["demands"], Json::array({"by-hand"}));
  EXPECT_THAT(demanded.out, HasSubstr("where Git owns this policy"));
  EXPECT_THAT(Run({"demand", "dev", "by-hand"}).out, HasSubstr("was demanded already"));
  EXPECT_EQ(Run({"demand", "dev", "by-hand", "--off"}).code, 0);
  EXPECT_EQ(Get("dev")["spec"]["demands"], Json::array());
  Ran unknown = Run({"demand", "dev", "cpu"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("these take one: by-hand"));
}

TEST_F(Commands, DemandKeepsWhatOthersDemand) {
  Json policy = Example("dev");
  policy["metadata"]["name"] = "both";
  policy["spec"]["tiers"][1]["enterWhen"]["any"].push_back(Json::parse(R"({"name": "other", "demand": {}})"));
  policy["spec"]["demands"] = Json::array({"other"});
  ASSERT_EQ(Refusal(policy), "");
  EXPECT_EQ(Run({"demand", "both", "by-hand"}).code, 0);
  EXPECT_EQ(Get("both")["spec"]["demands"], Json::array({"other", "by-hand"}));
}

TEST_F(Commands, WhatGitOwnsIsSaid) {
  Json label{{"metadata", {{"annotations", {{"argocd.argoproj.io/tracking-id", "apps:dev"}}}}}};
  ASSERT_TRUE(client()->MergePatch(kScaleTierPolicies, {namespace_name(), "dev"}, label, Soon()).has_value());
  EXPECT_THAT(Run({"demand", "dev", "by-hand"}).out,
              HasSubstr("note: Argo CD owns this policy: write spec.demands in Git"));
}

TEST_F(Commands, AShadowTablePolicyIsServedByTheSameCommands) {
  ASSERT_EQ(Refusal(Example("audit-dev")), "");
  const kube::ObjectKey key{namespace_name(), "audit-dev"};
  auto live = [&] { return *client()->Get(kShadowTablePolicies, key, Soon()); };
  EXPECT_THAT(Run({"why", "audit-dev"}).out, HasSubstr("kubectl pgtier demand shadowtables/audit-dev by-hand"));
  EXPECT_EQ(Json::parse(Run({"why", "shadowtables/audit-dev", "-o", "json"}).out)["kind"], "ShadowTablePolicy");
  EXPECT_THAT(Run({"plan", "audit-dev"}).out, HasSubstr("no tier runs yet; next is triggers"));
  EXPECT_EQ(Run({"pause", "audit-dev"}).out,
            "shadowtablepolicy/audit-dev: paused: changes are kept as before; pgtier looks and reports, and acts only "
            "where a slot would fill the disk\n");
  EXPECT_EQ(live()["metadata"]["annotations"]["pgtier.dev/paused"], "true");
  EXPECT_EQ(Run({"resume", "audit-dev"}).code, 0);
  EXPECT_EQ(Run({"demand", "shtp/audit-dev", "by-hand"}).code, 0);
  EXPECT_EQ(live()["spec"]["demands"], Json::array({"by-hand"}));
  EXPECT_THAT(Run({"approve", "audit-dev", "--current"}).err, HasSubstr("kubectl pgtier why shadowtables/audit-dev"));
  Json status{
      {"metadata", {{"namespace", key.namespace_}, {"name", key.name}}},
      {"status", {{"observedGeneration", live()["metadata"]["generation"]}, {"plan", {{"hash", "3f9c2a7711d0e5b8"}}}}}};
  ASSERT_TRUE(client()->ApplyStatus(kShadowTablePolicies, status, Soon()).has_value());
  EXPECT_EQ(Run({"approve", "audit-dev", "3f9c2a7711d0e5b8"}).code, 0);
  EXPECT_EQ(live()["metadata"]["annotations"]["pgtier.dev/approve"], "3f9c2a7711d0e5b8");
  EXPECT_THAT(Run({"promote", "audit-dev", "audit-dev-2"}).err, HasSubstr("has no instances"));
  EXPECT_THAT(Run({"why", "scaletiers/audit-dev"}).err, HasSubstr("there is no ScaleTierPolicy \"audit-dev\""));
}

TEST_F(Commands, WhatIsNotThereIsOneAndWords) {
  Ran missing = Run({"why", "nobody"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_EQ(missing.out, "");
  EXPECT_EQ(missing.err, "error: there is no ScaleTierPolicy and no ShadowTablePolicy \"nobody\" in namespace \"" +
                             namespace_name() + "\"\n");
  EXPECT_EQ(RunAs("/nowhere", "x", {"why", "dev"}).code, 1);
  EXPECT_EQ(Run({"why"}).code, 2);
}

}  // namespace
}  // namespace pgtier::test

// Who may approve a plan: the chart's ValidatingAdmissionPolicy on a real API server.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "tests/integration/crds/policy_server.h"

namespace pgtier::test {
namespace {

using testing::HasSubstr;

constexpr char kHash[] = "0123456789abcdef";

class Approval : public PolicyServerTest {
 protected:
  void SetUp() override {
    PolicyServerTest::SetUp();
    if (IsSkipped()) return;
    server().Kubectl({"apply", "-f", std::string(PGTIER_SOURCE_DIR) + "/helm/pgtier/files/approval.yaml"});
    ASSERT_EQ(Refusal(Example("dev")), "");
    // Both may edit policies; one may approve too.
    Kubectl({"create", "clusterrole", "editor", "--verb=get,list,create,update,patch",
             "--resource=scaletierpolicies.pgtier.dev"});
    for (const char* user : {"editor", "approver"}) {
      Kubectl({"create", "rolebinding", std::string("edits-") + user, "--clusterrole=editor",
               std::string("--user=") + user, "-n", namespace_name()});
    }
    Kubectl({"create", "rolebinding", "approves", "--clusterrole=pgtier-approver", "--user=approver", "-n",
             namespace_name()});
    // A policy of admission takes effect a moment after it was made.
    const Deadline deadline = Soon();
    while (As("editor", {"annotate", "scaletier/dev", "pgtier.dev/approve=00000000", "--dry-run=server"}).empty()) {
      ASSERT_FALSE(deadline.Expired()) << "the admission policy has no effect";
      SleepFor(std::chrono::milliseconds(200), {});
    }
  }

  // Empty when kubectl succeeded as that user, else its words.
  std::string As(const std::string& user, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--as=" + user, "-n", namespace_name()});
    bool failed = false;
    std::string words = Kubectl(arguments, &failed);
    return failed ? words : "";
  }
  std::string Annotate(const std::string& user, const std::string& change) {
    return As(user, {"annotate", "scaletier/dev", "--overwrite", change});
  }
  std::string Plan(const std::string& user, const std::string& hash) {
    return As(user, {"patch", "scaletier/dev", "--type=merge", "-p", R"({"spec":{"approvedPlan":")" + hash + "\"}}"});
  }
};

TEST_F(Approval, TheAnnotationTakesTheVerb) {
  EXPECT_THAT(Annotate("editor", std::string("pgtier.dev/approve=") + kHash),
              HasSubstr("the annotation pgtier.dev/approve approves a plan: editor may not approve "
                        "scaletierpolicies.pgtier.dev in namespace " +
                        namespace_name() + "; bind the ClusterRole pgtier-approver"));
  EXPECT_EQ(Get("dev")["metadata"].value("annotations", nlohmann::json::object()).count("pgtier.dev/approve"), 0U);

  EXPECT_EQ(Annotate("approver", std::string("pgtier.dev/approve=") + kHash), "");
  // Who may not approve may still do all else, also to a policy that has been approved; but not approve another plan.
  EXPECT_EQ(Annotate("editor", "pgtier.dev/paused=true"), "");
  EXPECT_THAT(Annotate("editor", "pgtier.dev/approve=fedcba9876543210"), HasSubstr("may not approve"));
  EXPECT_EQ(Annotate("editor", "pgtier.dev/approve-"), "");
}

TEST_F(Approval, TheFieldOfTheSpecTakesItToo) {
  EXPECT_THAT(Plan("editor", kHash), HasSubstr("spec.approvedPlan approves a plan: editor may not approve"));
  EXPECT_EQ(Plan("approver", kHash), "");
  EXPECT_EQ(As("editor", {"patch", "scaletier/dev", "--type=merge", "-p", R"({"spec":{"pooler":{"instances":1}}})"}),
            "");
  EXPECT_THAT(Plan("editor", "fedcba9876543210"), HasSubstr("may not approve"));
  EXPECT_EQ(Plan("editor", ""), "");
}

TEST_F(Approval, ANewPolicyIsAskedAsWell) {
  nlohmann::json policy = Example("dev");
  policy["metadata"]["name"] = "other";
  policy["metadata"]["annotations"] = {{"pgtier.dev/approve", kHash}};
  std::string file = std::filesystem::path(server().kubeconfig()).parent_path() / "approved.json";
  std::ofstream(file) << policy.dump();
  EXPECT_THAT(As("editor", {"create", "-f", file}), HasSubstr("may not approve"));
}

}  // namespace
}  // namespace pgtier::test

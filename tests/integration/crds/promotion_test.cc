// Who may promote: the chart's ValidatingAdmissionPolicy on a real API server.
#include <gmock/gmock.h>

#include "tests/integration/crds/policy_server.h"

namespace pgtier::test {
namespace {

using testing::HasSubstr;

class PromotionGuard : public PolicyServerTest {
 protected:
  // Empty when kubectl succeeded as that user, else its words.
  std::string Annotate(const std::string& user, const std::string& change, const std::string& more = "--overwrite") {
    bool failed = false;
    std::string words =
        Kubectl({"annotate", "scaletier/dev", change, more, "--as=" + user, "-n", namespace_name()}, &failed);
    return failed ? words : "";
  }
};

TEST_F(PromotionGuard, TheAnnotationTakesTheVerb) {
  server().Kubectl({"apply", "-f", std::string(PGTIER_SOURCE_DIR) + "/helm/pgtier/files/promotion.yaml"});
  ASSERT_EQ(Refusal(Example("dev")), "");
  Kubectl({"create", "clusterrole", "policy-editor", "--verb=get,list,update,patch",
           "--resource=scaletierpolicies.pgtier.dev"});
  for (const char* user : {"edith", "peter"}) {
    Kubectl({"create", "rolebinding", std::string("edits-") + user, "--clusterrole=policy-editor",
             std::string("--user=") + user, "-n", namespace_name()});
  }
  Kubectl(
      {"create", "rolebinding", "promotes", "--clusterrole=pgtier-promoter", "--user=peter", "-n", namespace_name()});
  // A policy of admission takes effect a moment after it was made.
  const Deadline deadline = Soon();
  while (Annotate("edith", "pgtier.dev/promote=x/1", "--dry-run=server").empty()) {
    ASSERT_FALSE(deadline.Expired()) << "the admission policy has no effect";
    SleepFor(std::chrono::milliseconds(200), {});
  }
  EXPECT_THAT(Annotate("edith", "pgtier.dev/promote=dev-2/1"),
              HasSubstr("edith may not promote scaletierpolicies.pgtier.dev in namespace " + namespace_name() +
                        "; bind the ClusterRole pgtier-promoter"));
  EXPECT_EQ(Annotate("peter", "pgtier.dev/promote=dev-2/1"), "");
  EXPECT_EQ(Annotate("edith", "pgtier.dev/paused=true"), "") << "a request that stands there hinders nobody";
  EXPECT_THAT(Annotate("edith", "pgtier.dev/promote=dev-3/2"), HasSubstr("may not promote"));
  EXPECT_EQ(Annotate("edith", "pgtier.dev/promote-"), "");
}

}  // namespace
}  // namespace pgtier::test

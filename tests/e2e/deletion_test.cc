// What is left of a policy that was deleted: all of it with Retain, nothing with Remove.
#include <gmock/gmock.h>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;

class DeletionTest : public ClusterTest {
 protected:
  Json Pinned(const std::string& deletion_policy) {
    Json policy = SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}});
    policy["spec"]["pin"] = "high";
    policy["spec"]["deletionPolicy"] = deletion_policy;
    return policy;
  }
};

TEST_F(DeletionTest, RetainLeavesEverythingServingAndIsTakenUpAgain) {
  Apply(Pinned("Retain"));
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  Query("app", "app-rw", "create table kept as select generate_series(1, 1000) as n");
  // Foreground: the harshest way, for it deletes what is owned first.
  Kubectl({"delete", "-n", ns(), "scaletier/app", "--cascade=foreground", "--timeout=30s"});
  EXPECT_EQ(Query("app", "app-rw", "select count(*) from kept"), "1000");
  EXPECT_EQ(Query("app", "app-ro", "select count(*), pg_is_in_recovery() from kept"), "1000|t");

  // The same policy again: it learns its tier from the database, and starts nothing over.
  std::string before = Kubectl({"get", "pods", "-n", ns(), "-o", "jsonpath={.items[*].metadata.uid}"});
  Apply(Pinned("Retain"));
  ASSERT_TRUE(WaitForTier("app", "high", seconds(60)));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(60)));
  EXPECT_EQ(Kubectl({"get", "pods", "-n", ns(), "-o", "jsonpath={.items[*].metadata.uid}"}), before);
  EXPECT_EQ(Query("app", "app-ro", "select count(*), pg_is_in_recovery() from kept"), "1000|t");
}

TEST_F(DeletionTest, RemoveLeavesNothing) {
  Apply(Pinned("Remove"));
  ASSERT_TRUE(WaitForTier("app", "high", seconds(180)));
  Kubectl({"delete", "-n", ns(), "scaletier/app", "--timeout=30s"});
  EXPECT_TRUE(Eventually("nothing of the policy is left", seconds(180), [&] {
    return Kubectl({"get", "statefulsets,deployments,pods,services,secrets,configmaps,pvc,pdb", "-n", ns(), "-l",
                    "pgtier.dev/policy=app", "-o", "name"})
        .empty();
  }));
}

}  // namespace
}  // namespace pgtier::e2e

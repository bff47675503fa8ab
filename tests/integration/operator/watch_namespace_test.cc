// --watch-namespace with a Role and nothing of the cluster.
#include <gmock/gmock.h>

#include <thread>

#include "tests/integration/operator/operator_program.h"

namespace pgtier::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class WatchNamespace : public OperatorProgramTest {};

TEST_F(WatchNamespace, ARoleIsEnoughAndAnotherNamespaceIsLeftAlone) {
  const std::string other = server().NewNamespace();
  MakePolicy(namespace_name(), "mine");
  MakePolicy(other, "yours");
  auto untouched = client()->Get(kScaleTierPolicies, {other, "yours"}, Soon());
  ASSERT_TRUE(untouched.has_value());
  GrantRole();
  auto program = Start("operator", KubeconfigOfNobody(server().url()), {"--watch-namespace=" + namespace_name()});
  EXPECT_TRUE(Eventually([&] { return HasStatus(namespace_name(), "mine"); }));
  EXPECT_EQ(Owned(namespace_name()).size(), kOwnedByOne);
  // A change that comes later is seen by the watches, not only by the first lists.
  MakePolicy(other, "yours-too");
  MakePolicy(namespace_name(), "mine-too");
  EXPECT_TRUE(Eventually([&] { return HasStatus(namespace_name(), "mine-too"); }));
  EXPECT_EQ(Owned(namespace_name()).size(), 2 * kOwnedByOne);
  EXPECT_THAT(Owned(other), IsEmpty());
  auto after = client()->Get(kScaleTierPolicies, {other, "yours"}, Soon());
  ASSERT_TRUE(after.has_value());
  EXPECT_EQ((*after)["metadata"]["resourceVersion"], (*untouched)["metadata"]["resourceVersion"]);
  EXPECT_TRUE(program->Running());
  program->Stop(SIGTERM);
  // Whatever the Role lacks would stand here: the server names the verb and the resource.
  EXPECT_THAT(Log("operator"), Not(HasSubstr("forbidden")));
  EXPECT_THAT(Log("operator"), Not(HasSubstr("PERMISSION_DENIED")));
}

TEST_F(WatchNamespace, WithoutTheFlagTheSameRoleDoesNotDo) {
  MakePolicy(namespace_name(), "mine");
  GrantRole();
  auto program = Start("operator", KubeconfigOfNobody(server().url()));
  EXPECT_TRUE(Eventually([&] { return Log("operator").find("forbidden") != std::string::npos; }));
  EXPECT_THAT(Owned(namespace_name()), IsEmpty());
}

}  // namespace
}  // namespace pgtier::test

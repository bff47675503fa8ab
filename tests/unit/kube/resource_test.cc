#include "lib/kube/resource.h"

#include <gtest/gtest.h>

#include "lib/kube/json.h"

namespace pgtier::kube {
namespace {

TEST(ResourceTest, Paths) {
  EXPECT_EQ(kPods.Path("a", "b"), "/api/v1/namespaces/a/pods/b");
  EXPECT_EQ(kPods.Path(""), "/api/v1/pods");
  EXPECT_EQ(kDeployments.Path("a", "b", "status"), "/apis/apps/v1/namespaces/a/deployments/b/status");
  EXPECT_EQ(kNodes.Path("ignored", "n"), "/api/v1/nodes/n");
  EXPECT_EQ(kPods.Path("a", "../../secrets"), "/api/v1/namespaces/a/pods/..%2F..%2Fsecrets");
  EXPECT_EQ(kDeployments.ApiVersion(), "apps/v1");
}

TEST(ResourceTest, KeysCompareAndPrint) {
  EXPECT_EQ((ObjectKey{"a", "b"}).ToString(), "a/b");
  EXPECT_EQ((ObjectKey{"", "b"}).ToString(), "b");
  EXPECT_LT((ObjectKey{"a", "b"}), (ObjectKey{"a", "c"}));
  EXPECT_NE(ObjectKeyHash()({"ab", "c"}), ObjectKeyHash()({"a", "bc"}));
}

TEST(JsonTest, WhateverIsAbsentOrOtherwiseIsEmpty) {
  const auto document = *ParseJson(R"({"a":{"b":"x","n":3,"list":[1]},"s":"t"})");
  EXPECT_EQ(StringAt(document, {"a", "b"}), "x");
  EXPECT_EQ(StringAt(document, {"a", "n"}), "");
  EXPECT_EQ(StringAt(document, {"s", "deeper"}), "");
  EXPECT_EQ(StringAt(document, {"a", "list", "0"}), "");
  EXPECT_EQ(IntAt(document, {"a", "n"}), 3);
  EXPECT_EQ(IntAt(document, {"a", "b"}, 7), 7);
  EXPECT_TRUE(At(document, {"none"}).is_null());
  EXPECT_FALSE(ParseJson("{").has_value());
  EXPECT_EQ(DumpJson("a\xff"), "\"a\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace pgtier::kube

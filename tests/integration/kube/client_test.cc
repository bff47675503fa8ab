// The client against a real API server.
#include "lib/kube/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "lib/kube/json.h"
#include "tests/integration/kube/api_server.h"

namespace pgtier::kube {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

class KubeClientTest : public test::ApiServerTest {
 protected:
  static Deadline Soon() { return Deadline::After(seconds(20)); }
  [[nodiscard]] ObjectKey Key(const std::string& name) const { return {namespace_name(), name}; }
  [[nodiscard]] nlohmann::json ConfigMap(const std::string& name, const std::string& value) const {
    return {{"metadata", {{"namespace", namespace_name()}, {"name", name}}}, {"data", {{"k", value}}}};
  }
};

TEST_F(KubeClientTest, CreateReadChangeDelete) {
  EXPECT_EQ(client()->Get(kConfigMaps, Key("a"), Soon()).error().code, Code::kNotFound);
  auto made = client()->Create(kConfigMaps, ConfigMap("a", "1"), Soon());
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ(client()->Create(kConfigMaps, ConfigMap("a", "1"), Soon()).error().code, Code::kAlreadyExists);

  nlohmann::json changed = *made;
  changed["data"]["k"] = "2";
  auto replaced = client()->Replace(kConfigMaps, changed, Soon());
  ASSERT_TRUE(replaced.has_value()) << replaced.error().message;
  EXPECT_EQ(client()->Replace(kConfigMaps, changed, Soon()).error().code, Code::kAborted) << "a version of the past";

  auto merged = client()->MergePatch(kConfigMaps, Key("a"), {{"data", {{"k", nullptr}, {"n", "3"}}}}, Soon());
  ASSERT_TRUE(merged.has_value());
  EXPECT_EQ((*merged)["data"].dump(), R"({"n":"3"})");

  EXPECT_EQ(client()->Delete(kConfigMaps, Key("a"), {.uid = "another"}, Soon()).error().code, Code::kAborted);
  ASSERT_TRUE(client()->Delete(kConfigMaps, Key("a"), {.uid = UidOf(*made)}, Soon()).has_value());
  EXPECT_EQ(client()->Delete(kConfigMaps, Key("a"), {}, Soon()).error().code, Code::kNotFound);
}

TEST_F(KubeClientTest, AFinalizerIsRemovedByTestAndRemove) {
  auto object = ConfigMap("a", "1");
  object["metadata"]["finalizers"] = {"pgtier.dev/x"};
  ASSERT_TRUE(client()->Create(kConfigMaps, object, Soon()).has_value());
  ASSERT_TRUE(client()->Delete(kConfigMaps, Key("a"), {}, Soon()).has_value());
  auto operations = [](const char* expected) {
    return nlohmann::json{{{"op", "test"}, {"path", "/metadata/finalizers/0"}, {"value", expected}},
                          {{"op", "remove"}, {"path", "/metadata/finalizers/0"}}};
  };
  EXPECT_EQ(client()->JsonPatch(kConfigMaps, Key("a"), operations("other/y"), Soon()).error().code,
            Code::kInvalidArgument);
  EXPECT_TRUE(client()->Get(kConfigMaps, Key("a"), Soon()).has_value());
  EXPECT_TRUE(client()->JsonPatch(kConfigMaps, Key("a"), operations("pgtier.dev/x"), Soon()).has_value());
  EXPECT_EQ(client()->Get(kConfigMaps, Key("a"), Soon()).error().code, Code::kNotFound);
}

TEST_F(KubeClientTest, ApplyOwnsItsFieldsOnly) {
  auto first = client()->Apply(kConfigMaps, ConfigMap("a", "1"), false, Soon());
  ASSERT_TRUE(first.has_value()) << first.error().message;
  auto again = client()->Apply(kConfigMaps, ConfigMap("a", "1"), false, Soon());
  EXPECT_EQ(StringAt(*first, {"metadata", "resourceVersion"}), StringAt(*again, {"metadata", "resourceVersion"}))
      << "an equal apply wrote";

  auto other = server().Connect({.field_manager = "someone-else"});
  auto conflict = other->Apply(kConfigMaps, ConfigMap("a", "2"), false, Soon());
  ASSERT_FALSE(conflict.has_value());
  EXPECT_EQ(conflict.error().code, Code::kAborted);
  EXPECT_THAT(conflict.error().message, HasSubstr(".data.k"));
  EXPECT_TRUE(other->Apply(kConfigMaps, ConfigMap("a", "2"), true, Soon()).has_value());
  auto now = client()->Get(kConfigMaps, Key("a"), Soon());
  EXPECT_EQ(StringAt(*now, {"data", "k"}), "2");
}

TEST_F(KubeClientTest, StatusIsApart) {
  const nlohmann::json metadata = {{"namespace", namespace_name()}, {"name", "d"}};
  const nlohmann::json labels = {{"app", "d"}};
  const nlohmann::json container = {{"name", "c"}, {"image", "x"}};
  const nlohmann::json spec = {
      {"replicas", 1},
      {"selector", {{"matchLabels", labels}}},
      {"template",
       {{"metadata", {{"labels", labels}}}, {"spec", {{"containers", nlohmann::json::array({container})}}}}}};
  ASSERT_TRUE(client()->Apply(kDeployments, {{"metadata", metadata}, {"spec", spec}}, true, Soon()).has_value());
  auto applied =
      client()->ApplyStatus(kDeployments, {{"metadata", metadata}, {"status", {{"observedGeneration", 1}}}}, Soon());
  ASSERT_TRUE(applied.has_value()) << applied.error().message;
  EXPECT_EQ(IntAt(*applied, {"status", "observedGeneration"}), 1);
  EXPECT_EQ(client()
                ->ApplyStatus(kDeployments, {{"metadata", {{"namespace", namespace_name()}, {"name", "none"}}}}, Soon())
                .error()
                .code,
            Code::kNotFound);
}

TEST_F(KubeClientTest, TheServersWordsAboutABadObject) {
  auto bad = client()->Apply(
      kServices, {{"metadata", {{"namespace", namespace_name()}, {"name", "s"}}}, {"spec", {{"type", "Nonsense"}}}},
      true, Soon());
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().code, Code::kInvalidArgument);
  EXPECT_THAT(bad.error().message, HasSubstr("spec.ports"));
}

TEST_F(KubeClientTest, PagesAndSelectors) {
  for (int i = 0; i < 5; ++i) {
    auto object = ConfigMap("m" + std::to_string(i), "1");
    object["metadata"]["labels"] = {{"odd", i % 2 == 0 ? "no" : "yes"}};
    ASSERT_TRUE(client()->Create(kConfigMaps, object, Soon()).has_value());
  }
  ListOptions options;
  options.limit = 2;
  int pages = 0;
  std::vector<std::string> names;
  do {
    auto page = client()->List(kConfigMaps, namespace_name(), options, Soon());
    ASSERT_TRUE(page.has_value()) << page.error().message;
    for (const auto& item : (*page)["items"]) names.push_back(KeyOf(item).name);
    options.continue_token = StringAt(*page, {"metadata", "continue"});
    ++pages;
  } while (!options.continue_token.empty());
  EXPECT_EQ(pages, 3);
  EXPECT_THAT(names, testing::ElementsAre("m0", "m1", "m2", "m3", "m4"));

  options = {};
  options.label_selector = "odd=yes";
  options.metadata_only = true;
  auto odd = client()->List(kConfigMaps, namespace_name(), options, Soon());
  ASSERT_TRUE(odd.has_value());
  EXPECT_EQ((*odd)["kind"], "PartialObjectMetadataList");
  EXPECT_EQ((*odd)["items"].size(), 2U);
  EXPECT_TRUE(At((*odd)["items"][0], {"data"}).is_null());
}

TEST_F(KubeClientTest, OthersAreKeptOut) {
  Config config;
  config.server = server().url();
  config.ca_file = server().ca().string();
  config.tls.ca_pem = *ReadFile(server().ca());
  config.token = "nobody-token";
  auto nobody = Client::Connect(config);
  EXPECT_EQ((*nobody)->Get(kSecrets, Key("s"), Soon()).error().code, Code::kPermissionDenied);
  config.token = "wrong";
  auto wrong = Client::Connect(config);
  EXPECT_EQ((*wrong)->Get(kSecrets, Key("s"), Soon()).error().code, Code::kUnauthenticated);
}

TEST_F(KubeClientTest, OnlyTheGivenCaIsTrusted) {
  Config config;
  config.server = server().url();
  config.token = "nobody-token";
  auto system_cas = Client::Connect(config);
  ASSERT_TRUE(system_cas.has_value());
  auto refused = (*system_cas)->Get(kPods, Key("p"), Soon());
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("certificate verify failed"));
  // The right CA, but a name that the certificate does not have.
  config.tls.ca_pem = *ReadFile(server().ca());
  config.server.replace(config.server.find("127.0.0.1"), 9, "127.0.0.2");
  auto other_name = Client::Connect(config);
  EXPECT_EQ((*other_name)->Get(kPods, Key("p"), Soon()).error().code, Code::kUnavailable);
}

}  // namespace
}  // namespace pgtier::kube

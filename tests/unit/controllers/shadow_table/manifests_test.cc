#include "controllers/shadow_table/manifests.h"

#include <gmock/gmock.h>

#include "controllers/shadow_table/names.h"
#include "crds/shadow_table_policy_codec.h"
#include "lib/base/base64.h"
#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class ShadowManifests : public testing::Test {
 protected:
  Scene scene_;
  Resolved resolved_ = Resolve(scene_.policy);
  const std::string image_ = "pgtier:release";
  ManifestContext context_{scene_.policy, resolved_, scene_.seen.database, image_, 2};
};

TEST_F(ShadowManifests, ThePodIsRestrictedAndHasNoToken) {
  Json worker = RenderWorker(context_);
  Json pod = worker["spec"]["template"]["spec"];
  EXPECT_EQ(worker["spec"]["replicas"], 2);
  EXPECT_EQ(pod["automountServiceAccountToken"], false);
  EXPECT_EQ(pod["securityContext"]["runAsNonRoot"], true);
  Json container = pod["containers"][0];
  EXPECT_EQ(container["securityContext"]["readOnlyRootFilesystem"], true);
  EXPECT_EQ(container["securityContext"]["capabilities"]["drop"][0], "ALL");
  EXPECT_EQ(container["livenessProbe"]["httpGet"]["path"], "/healthz");
  EXPECT_EQ(container["readinessProbe"]["httpGet"]["path"], "/readyz");
  EXPECT_TRUE(container["resources"].contains("limits"));
  EXPECT_EQ(container["image"], image_);
  // By this the primary's NetworkPolicy lets it in, and no ScaleTierPolicy takes it for its own.
  Json labels = worker["spec"]["template"]["metadata"]["labels"];
  EXPECT_EQ(labels["pgtier.dev/database"], "kyoyu");
  EXPECT_FALSE(labels.contains("pgtier.dev/policy"));
  EXPECT_EQ(labels[kShadowPolicyLabel], "audit");
}

TEST_F(ShadowManifests, ThePasswordStandsInTheSecretAlone) {
  Json config = RenderWorkerConfig(context_);
  Json secret = RenderWorkerSecret(context_);
  EXPECT_THAT(config.dump(), Not(HasSubstr("pw-worker")));
  EXPECT_THAT(RenderWorker(context_).dump(), Not(HasSubstr("pw-worker")));
  EXPECT_EQ(DecodeBase64(secret["data"]["password"].get<std::string>()).value_or(""), "pw-worker");
  EXPECT_EQ(DecodeBase64(secret["data"]["ca.crt"].get<std::string>()).value_or(""), "CA");
  Json file = Json::parse(config["data"]["worker.json"].get<std::string>());
  EXPECT_EQ(file["mode"], "notify");
  EXPECT_EQ(file["policy"], "data/audit");
  EXPECT_EQ(file["channel"], "pgtier_shadow");
  EXPECT_EQ(file["database"]["host"], "kyoyu-primary.data.svc");
  EXPECT_EQ(file["database"]["sslMode"], "verify-full");
  EXPECT_EQ(file["database"]["user"], "pgtier_shadow_notify");
}

TEST_F(ShadowManifests, AForegroundDeletionDoesNotEndTheWorker) {
  EXPECT_FALSE(RenderWorker(context_)["metadata"].contains("ownerReferences"));
  EXPECT_EQ(RenderWorkerSecret(context_)["metadata"]["ownerReferences"][0]["uid"], "u1");
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table

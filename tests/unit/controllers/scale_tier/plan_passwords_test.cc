// Passwords are exchanged so that at every moment, wherever the operator is ended, whoever was told one can log in by
// it.
#include <gmock/gmock.h>

#include "controllers/scale_tier/credentials.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/passwords.h"
#include "lib/base/base64.h"
#include "lib/kube/json.h"
#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A settled policy of which each pass knows no more than what stands in its Secrets, as after a restart of the
// operator.
class PlanPasswords : public testing::Test {
 protected:
  explicit PlanPasswords(nlohmann::json object = Pinned()) : scene(object) { scene.Settle(); }

  static nlohmann::json Pinned() {
    nlohmann::json object = TwoTiers();
    object["spec"]["pin"] = "two";
    return object;
  }

  void Ask(const std::string& request) { scene.policy.meta.annotations[kRotatePasswordsAnnotation] = request; }
  // Standbys replay what the primary has.
  void Replay() {
    for (InstanceSeen& instance : scene.seen.instances) instance.installed = scene.seen.primary.installed;
  }
  void Recall() {
    scene.seen.credentials = ReadCredentials(scene.seen, "kyoyu");
    scene.seen.credentials->tls = scene.credentials.tls;
    scene.credentials = *scene.seen.credentials;
  }
  Scene::Pass Step() {
    Recall();
    scene.credentials = *RotatePasswords(scene.credentials, scene.policy, scene.resolved, scene.seen, scene.now);
    scene.now += seconds(1);
    return scene.MakePass();
  }
  // A text of a Secret as it stands.
  std::string Text(const std::string& secret, const std::string& key) {
    const nlohmann::json* object = scene.seen.Object(kube::kSecrets, secret);
    return object == nullptr ? "" : DecodeBase64(kube::StringAt(*object, {"data", key})).value_or("");
  }
  std::string User() { return Text("kyoyu-app", "username"); }
  std::string Password() { return Text("kyoyu-app", "password"); }

  Scene scene;
};

TEST_F(PlanPasswords, NobodyIsToldBeforeEveryServerThatAnswersKnows) {
  std::string before = Text("kyoyu-internal", "superuser");
  Replay();
  Ask("one");
  Scene::Pass drawn = Step();
  EXPECT_THAT(InWords(drawn.plan), Contains("bootstrap"));
  EXPECT_THAT(drawn.plan.waiting_for, HasSubstr("every server to know the new passwords"));
  EXPECT_NE(Text("kyoyu-internal", "superuser"), before);
  EXPECT_EQ(Text("kyoyu-internal", "former-superuser"), before) << "the server may not know the new one yet";
  for (int i = 0; i < 3; ++i) {
    Step();
    EXPECT_EQ(User(), "app");
    EXPECT_EQ(Password(), "pw-app");
    EXPECT_THAT(Text("kyoyu-pooler-rw", "pooler.ini"), HasSubstr("auth_user = pgtier_pooler\n"));
  }
  scene.Instance("kyoyu-2").installed = scene.seen.primary.installed;
  Step();
  EXPECT_EQ(User(), "app") << "kyoyu-3 has not replayed it";
  Replay();
  Step();
  EXPECT_EQ(User(), "pgtier_app");
  EXPECT_NE(Password(), "pw-app");
  EXPECT_EQ(Password().size(), 32U);
  EXPECT_THAT(Text("kyoyu-pooler-rw", "pooler.ini"), HasSubstr("auth_user = pgtier_pooler_2\n"));
  EXPECT_THAT(Text("kyoyu-pooler-rw", "userlist.txt"), HasSubstr(Text("kyoyu-internal", "pooler")));
}

TEST_F(PlanPasswords, TheFormerOnesEndAfterTheirGraceAndThatIsSaid) {
  Replay();
  Ask("one");
  for (int i = 0; i < 4; ++i) {
    Step();
    Replay();
  }
  std::string told = Password();
  ASSERT_EQ(User(), "pgtier_app");
  const crds::Rotation& status = scene.policy.status.rotations.passwords;
  EXPECT_EQ(status.request, "one");
  ASSERT_TRUE(status.former_until.has_value());
  EXPECT_THAT(Step().plan.actions, IsEmpty()) << "at rest until then";
  scene.now = *status.former_until - seconds(2);
  Step();
  EXPECT_EQ(Text("kyoyu-internal", "former-superuser"), "pw-superuser");
  scene.now += seconds(3);
  Scene::Pass ends = Step();
  EXPECT_THAT(InWords(ends.plan), Contains("bootstrap"));
  EXPECT_EQ(Text("kyoyu-internal", "former-superuser"), "");
  EXPECT_EQ(Text("kyoyu-internal", "app"), "") << "one copy is enough";
  Step();
  EXPECT_FALSE(scene.policy.status.rotations.passwords.former_until.has_value());
  EXPECT_EQ(Password(), told);
  EXPECT_THAT(Step().plan.actions, IsEmpty());
}

TEST_F(PlanPasswords, TheNextRequestGoesBackToTheOwnerAndWaitsForTheFirst) {
  Replay();
  Ask("one");
  for (int i = 0; i < 4; ++i) {
    Step();
    Replay();
  }
  std::string first = Password();
  Ask("two");
  Step();
  EXPECT_EQ(Password(), first) << "those of before are still valid: a third set would end them early";
  scene.now += minutes(61);
  for (int i = 0; i < 5; ++i) {
    Step();
    Replay();
  }
  EXPECT_EQ(User(), "app");
  EXPECT_NE(Password(), first);
  EXPECT_NE(Password(), "pw-app");
  EXPECT_EQ(scene.policy.status.rotations.passwords.request, "two");
}

TEST_F(PlanPasswords, EndedBetweenTheTwoSecretsItGoesOn) {
  Replay();
  Ask("one");
  Step();
  Replay();
  Recall();
  scene.credentials = *RotatePasswords(scene.credentials, scene.policy, scene.resolved, scene.seen, scene.now);
  ASSERT_TRUE(scene.credentials.rotation.told.has_value());
  Plan plan = scene.PlanFor("two", "two");
  for (const Action& action : plan.actions) {
    if (InWords(action) == "apply Secret kyoyu-app") break;
    Plan one;
    one.actions.push_back(action);
    scene.Carry(one);
  }
  ASSERT_EQ(Password(), "pw-app");
  std::string next = Text("kyoyu-internal", "app");
  Step();
  EXPECT_EQ(Password(), next);
  EXPECT_EQ(User(), "pgtier_app");
}

TEST_F(PlanPasswords, ALostSecretOfTheApplicationIsMadeAgain) {
  Replay();
  Ask("one");
  for (int i = 0; i < 4; ++i) {
    Step();
    Replay();
  }
  std::string told = Password();
  scene.seen.objects.erase({std::string(kube::kSecrets.plural), "kyoyu-app"});
  Step();
  EXPECT_EQ(Password(), told);
  EXPECT_EQ(User(), "pgtier_app");
}

TEST_F(PlanPasswords, PgCatKnowsOneRoleSoItIsRefusedWithThatReason) {
  nlohmann::json object = Pinned();
  object["spec"]["tiers"][1]["pooler"]["engine"] = "PgCat";
  scene.Edit(object);
  Ask("one");
  Scene::Pass pass = Step();
  EXPECT_THAT(pass.plan.unavailable,
              Contains(testing::AllOf(HasSubstr(kRotatePasswordsAnnotation), HasSubstr("PgCat"))));
  EXPECT_EQ(Password(), "pw-app");
  EXPECT_THAT(InWords(pass.plan), Not(Contains("bootstrap")));
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier

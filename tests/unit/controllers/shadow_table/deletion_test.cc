// A policy that is deleted leaves its tables with triggers, or with nothing where it says so, and no worker.
#include <gmock/gmock.h>

#include "tests/unit/controllers/shadow_table/scene.h"

namespace pgtier::controllers::shadow_table {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Scene Deleted(const char* deletion_policy) {
  Scene scene = InNotify({{"spec", {{"deletionPolicy", deletion_policy}}}});
  scene.seen.state->queue_depth = 5;
  scene.policy.meta.deleting = true;
  return scene;
}

TEST(ShadowDeletion, GoesBackToTriggersBeforeTheWorkerEnds) {
  Scene scene = Deleted("Retain");
  EXPECT_THAT(scene.Pass(), ElementsAre("swap to triggers"));
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  scene.MoveRows();
  EXPECT_THAT(scene.Pass(), ElementsAre("ask whether drained"));
  EXPECT_THAT(scene.Pass(), ElementsAre("delete Deployment audit-notify"));
  EXPECT_THAT(scene.Pass(), ElementsAre("retain", "remove finalizer"));
  EXPECT_TRUE(scene.seen.state->installed) << "triggers go on writing the histories";
  EXPECT_EQ(scene.seen.state->tier, shadow::Tier::kTriggers);
}

TEST(ShadowDeletion, RemoveTakesTheTriggersAwayAfterThat) {
  Scene scene = Deleted("Remove");
  scene.MoveRows();
  for (int i = 0; i < 6 && !scene.finalized; ++i) scene.Pass();
  EXPECT_TRUE(scene.finalized);
  EXPECT_FALSE(scene.seen.state->installed);
}

TEST(ShadowDeletion, ADatabaseThatDoesNotAnswerHoldsIt) {
  Scene scene = Deleted("Retain");
  scene.seen.state.reset();
  scene.seen.error = "connection refused";
  EXPECT_THAT(scene.Pass(), IsEmpty());
  EXPECT_FALSE(scene.finalized);
}

TEST(ShadowDeletion, ADatabaseThatIsGoneDoesNot) {
  Scene scene = Deleted("Retain");
  scene.seen.state.reset();
  scene.seen.database.gone = true;
  EXPECT_THAT(scene.Pass(), ElementsAre("delete Deployment audit-notify", "remove finalizer"));
}

TEST(ShadowDeletion, GoesOnWhereThePolicyIsPausedOrWrong) {
  Scene scene = Deleted("Retain");
  scene.policy.meta.annotations["pgtier.dev/paused"] = "true";
  scene.policy.problems = {"spec.tables: wrong"};
  EXPECT_THAT(scene.Pass(), ElementsAre("swap to triggers"));
}

}  // namespace
}  // namespace pgtier::controllers::shadow_table

// When a status is written: at once for what decides something, seldom for numbers, never at rest.
#include <gmock/gmock.h>

#include "tests/unit/controllers/scale_tier/scene.h"

namespace pgtier::controllers::scale_tier {
namespace {

using std::chrono::seconds;

constexpr Duration kInterval = seconds(15);

// In tier two, at rest, its last write longer ago than numbers wait.
Scene Settled(bool with_replicas) {
  Scene scene;
  if (with_replicas) Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  for (int i = 0; i < 6; ++i) {
    scene.now += kInterval;
    scene.MakePass();
  }
  return scene;
}

TEST(StatusWrites, NoneWhileNothingChanges) {
  for (bool with_replicas : {false, true}) {
    Scene scene = Settled(with_replicas);
    for (int i = 0; i < 200; ++i) {
      scene.now += kInterval;
      EXPECT_FALSE(scene.MakePass().written) << i;
    }
  }
}

TEST(StatusWrites, NumbersThatMoveAreWrittenAtMostEveryFourIntervals) {
  Scene scene = Settled(false);
  int writes = 0;
  int since_write = 100;
  for (int i = 0; i < 400; ++i) {
    scene.now += kInterval;
    Read(scene, "pool-utilisation", core::Reading::Of(0.3 + 0.001 * (i % 17)));
    bool written = scene.MakePass().written;
    if (written) {
      EXPECT_GE(since_write, 4) << "pass " << i;
      since_write = 0;
      ++writes;
    }
    ++since_write;
  }
  EXPECT_GE(writes, 50) << "and yet they are written";
  EXPECT_LE(writes, 101);
}

TEST(StatusWrites, LagsThatJitterAreNumbersToo) {
  Scene scene = Settled(true);
  for (int i = 0; i < 3; ++i) {
    scene.now += kInterval;
    scene.Instance("kyoyu-2").lag = std::chrono::milliseconds(40 + 30 * i);
    bool first = i == 0;
    EXPECT_EQ(scene.MakePass().written, first) << i;
  }
}

TEST(StatusWrites, LagsBelowTenMillisecondsAreNoNumbers) {
  Scene scene = Settled(true);
  scene.Instance("kyoyu-2").lag = std::chrono::microseconds(1);
  scene.Instance("kyoyu-3").lag = std::chrono::microseconds(1);
  scene.MakePass();
  for (int i = 0; i < 50; ++i) {
    scene.now += kInterval;
    scene.Instance("kyoyu-2").lag = std::chrono::microseconds(100 + 197 * (i % 50));
    EXPECT_FALSE(scene.MakePass().written) << i;
  }
}

TEST(StatusWrites, WhatDecidesIsWrittenAtOnce) {
  struct Change {
    const char* what;
    std::function<void(Scene&)> make;
  };
  std::vector<Change> changes = {
      {"a window opens", [](Scene& s) { Read(s, "pool-utilisation", core::Reading::Of(0.9)); }},
      {"a reading is missing", [](Scene& s) { Read(s, "pool-utilisation", core::Reading::Unknown("X: y")); }},
      {"a demand", [](Scene& s) { Read(s, "by-hand", core::Reading::Of(1)); }},
      {"a generation", [](Scene& s) { s.Edit(TwoTiers()); }},
      {"a pause", [](Scene& s) { s.paused = true; }},
      {"a pooler pod that is not ready", [](Scene& s) { s.PoolerPod("ro").ready = false; }},
      {"a failure", [](Scene& s) { s.needs_person = true, s.failure = "refused"; }},
      {"the primary's silence", [](Scene& s) { s.seen.primary.answered = false; }}};
  for (const Change& change : changes) {
    Scene scene = Settled(false);
    scene.now += seconds(1);
    Read(scene, "pool-utilisation", core::Reading::Of(0.11));
    scene.MakePass();  // So that numbers alone would wait now.
    scene.now += seconds(1);
    ASSERT_FALSE(scene.MakePass().written);
    change.make(scene);
    EXPECT_TRUE(scene.MakePass().written) << change.what;
  }
  Scene scene = Settled(true);
  scene.Instance("kyoyu-2").lag = seconds(5);
  EXPECT_TRUE(scene.MakePass().written) << "a replica that lags";
}

TEST(StatusWrites, AnOpenWindowsReadingIsWrittenEveryHalfGap) {
  // Gap: the greater of 3 × 15 s and 10 m / 20.
  Scene scene = Settled(false);
  Read(scene, "pool-utilisation", core::Reading::Of(0.9));
  std::vector<int> writes;
  for (int second = 0; second < 300; ++second) {
    scene.now += seconds(1);
    if (scene.MakePass().written) writes.push_back(second);
  }
  ASSERT_GT(writes.size(), 10U);
  for (size_t i = 1; i < writes.size(); ++i) {
    EXPECT_GE(writes[i] - writes[i - 1], 22) << "oftener than needed";
    EXPECT_LE(writes[i] - writes[i - 1], 24) << "a restart would lose the window";
  }
}

TEST(StatusWrites, ABreachThatNeedsNoWindowIsNotWrittenAgain) {
  // Due, and waiting for a person for as long as it takes.
  nlohmann::json object = TwoTiers();
  object["spec"]["tiers"][1]["approval"] = "Required";
  object["spec"]["tiers"][1]["enterWhen"]["any"][0].erase("for");
  Scene scene(object);
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(1));
  Read(scene, "pool-utilisation", core::Reading::Of(0.9));
  scene.MakePass();
  for (int i = 0; i < 6; ++i, scene.now += kInterval) scene.MakePass();
  for (int i = 0; i < 200; ++i) {
    scene.now += kInterval;
    EXPECT_FALSE(scene.MakePass().written) << i;
  }
}

TEST(StatusWrites, AnOpenWindowOfLeaveIsWrittenEveryHalfGap) {
  // Gap: a twentieth of an hour.
  nlohmann::json object = TwoTiers({{"transitions", {{"down", "Automatic"}}}});
  object["spec"]["tiers"][1]["enterWhen"]["any"][0]["leave"] = {{"below", "0.3"}, {"for", "1h"}};
  Scene scene(object);
  Read(scene, "by-hand", core::Reading::Of(1));
  scene.Settle();
  Read(scene, "by-hand", core::Reading::Of(0));
  Read(scene, "pool-utilisation", core::Reading::Of(0.5));
  for (int i = 0; i < 6; ++i, scene.now += kInterval) scene.MakePass();
  ASSERT_FALSE(scene.MakePass().written);
  Read(scene, "pool-utilisation", core::Reading::Of(0.1));
  EXPECT_TRUE(scene.MakePass().written) << "a window opens";
  for (int i = 0; i < 6; ++i, scene.now += kInterval) scene.MakePass();
  int writes = 0;
  for (int second = 0; second < 900; second += 5, scene.now += seconds(5)) {
    if (scene.MakePass().written) ++writes;
  }
  EXPECT_GE(writes, 9) << "a restart would lose the window";
  EXPECT_LE(writes, 11) << "oftener than needed";
}

TEST(StatusWrites, AWindowOfATierThatRunsIsNobodysBusiness) {
  Scene scene = Settled(true);
  Read(scene, "pool-utilisation", core::Reading::Of(0.9));
  scene.MakePass();
  for (int i = 0; i < 50; ++i) {
    scene.now += kInterval;
    EXPECT_FALSE(scene.MakePass().written) << i;
  }
}

TEST(StatusWrites, TheFirstPassWrites) {
  Scene scene;
  EXPECT_TRUE(scene.MakePass().written);
  EXPECT_EQ(scene.policy.status.observed_generation, 1);
}

}  // namespace
}  // namespace pgtier::controllers::scale_tier

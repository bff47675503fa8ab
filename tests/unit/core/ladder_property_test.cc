// Properties of the ladder under any sequence of readings, pauses, restarts, lost statuses, approvals and clock jumps
// (seeded).
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "core/decide.h"

namespace pgtier::core {
namespace {

using std::chrono::seconds;

constexpr Duration kWindow = seconds(60);
constexpr Duration kLeaveWindow = seconds(90);
constexpr Duration kCooldown = seconds(120);

Ladder ThreeTiers() {
  auto trigger = [](const std::string& name, double threshold) {
    Trigger made;
    made.name = name;
    made.threshold = threshold;
    made.window = kWindow;
    made.gap = seconds(45);
    made.dip = seconds(10);
    return made;
  };
  auto leaving = [&](const std::string& name, double threshold) {
    Trigger made = trigger(name, threshold);
    made.leave = Leave{Comparison::kBelow, threshold - 0.2, kLeaveWindow, seconds(45)};
    return made;
  };
  Ladder ladder;
  ladder.tiers = {{"one", Match::kAny, {}, false, {}, {}},
                  {"two", Match::kAny, {leaving("a", 0.5), trigger("b", 0.7)}, false, {}, {}},
                  {"three", Match::kAll, {leaving("c", 0.6), leaving("d", 0.6)}, true, {}, {}}};
  ladder.cooldown = kCooldown;
  return ladder;
}

struct Counts {
  int up = 0;
  int down = 0;
  int approved = 0;  // Changes that began because a person had approved them.
  int lost = 0;      // Statuses.
};

// Follows the ladder as a controller does and checks every move that begins.
class Walk {
 public:
  Walk(unsigned seed, Down down) : random_(seed) {
    ladder_.down = down;
    memory_.tier = "one";
  }

  void Step() {
    Advance();
    Adversity();
    OfferPlans();
    std::map<TriggerKey, Reading> readings = Draw();
    Decision decision = Decide(ladder_, memory_, readings, now_);
    bool begins = decision.verdict == Verdict::kMove && memory_.target.empty();
    if (begins && Index(decision.to) > Index(memory_.tier)) CheckUp(decision, readings);
    if (begins && Index(decision.to) < Index(memory_.tier)) CheckDown(decision, readings);
    if (begins) ++begun_[stay_];
    EXPECT_LE(begun_[stay_], 1) << "acted twice on one stay in a tier";
    EXPECT_LE(std::abs(Index(decision.to) - Index(memory_.tier)), 1) << "skipped a rung";
    EXPECT_TRUE(memory_.target.empty() || decision.to == memory_.target) << "a change that had begun was turned";
    memory_.triggers = decision.triggers;
    if (decision.verdict != Verdict::kMove) return;
    // Some changes take several passes.
    memory_.target = decision.to;
    if (Chance(2)) return;
    Enter(decision.to);
  }

  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  bool Chance(int one_in) { return std::uniform_int_distribution<int>(1, one_in)(random_) == 1; }
  int Index(const std::string& tier) const { return static_cast<int>(*FindTier(ladder_, tier)); }

  void Advance() {
    now_ += seconds(std::uniform_int_distribution<int>(1, 20)(random_));
    if (Chance(60)) now_ += std::chrono::minutes(std::uniform_int_distribution<int>(-5, 60)(random_));
  }

  void Enter(const std::string& tier) {
    (Index(tier) > Index(memory_.tier) ? counts_.up : counts_.down) += 1;
    memory_.tier = tier;
    memory_.target.clear();
    memory_.last_change = now_;
    ++stay_;
  }

  void Adversity() {
    // A restart keeps what status has: whole seconds, and no numbers.
    if (Chance(40)) {
      for (auto& [key, memory] : memory_.triggers) memory.observed.reset();
    }
    // A status that is lost takes the windows, the target and who approved along; the tier, and when it was entered,
    // stand in the database.
    if (Chance(150)) {
      memory_.triggers.clear();
      memory_.target.clear();
      ladder_.approved.clear();
      ++counts_.lost;
      ++stay_;
    }
  }

  // Plans are of one stay in a tier. A person approves one now and then, and often a wrong one.
  void OfferPlans() {
    ladder_.plan_up = "up of " + std::to_string(stay_);
    ladder_.plan_down = "down of " + std::to_string(stay_);
    if (Chance(30)) ladder_.approved.insert(ladder_.plan_up);
    if (Chance(30)) ladder_.approved.insert(ladder_.plan_down);
    if (Chance(10)) ladder_.approved.insert("up of " + std::to_string(stay_ + 1000));
  }

  std::map<TriggerKey, Reading> Draw() {
    if (Chance(20)) level_ = std::uniform_real_distribution<double>(0, 1)(random_);
    std::map<TriggerKey, Reading> readings;
    for (const Tier& tier : ladder_.tiers) {
      for (const Trigger& trigger : tier.triggers) {
        double value = level_ + std::uniform_real_distribution<double>(-0.1, 0.1)(random_);
        readings[{tier.name, trigger.name}] = Chance(25) ? Reading::Unknown("lost") : Reading::Of(value);
      }
    }
    return readings;
  }

  void CheckGates(const std::string& plan, bool asks) {
    if (asks) {
      EXPECT_TRUE(ladder_.approved.contains(plan)) << "went past a gate without approval";
      ++counts_.approved;
    }
    EXPECT_TRUE(!memory_.last_change.has_value() || now_ - *memory_.last_change >= kCooldown);
  }

  void CheckUp(const Decision& decision, const std::map<TriggerKey, Reading>& readings) {
    ASSERT_TRUE(decision.trigger.has_value());
    const Reading& reading = readings.at(*decision.trigger);
    ASSERT_TRUE(reading.value.has_value()) << "acted on Unknown";
    const TriggerMemory& memory = decision.triggers.at(*decision.trigger);
    ASSERT_TRUE(memory.breached_since.has_value());
    EXPECT_GE(now_ - *memory.breached_since, kWindow) << "fired before its window was full";
    CheckGates(ladder_.plan_up, decision.to == "three");
  }

  void CheckDown(const Decision& decision, const std::map<TriggerKey, Reading>& readings) {
    EXPECT_NE(ladder_.down, Down::kNever);
    for (const Tier& tier : ladder_.tiers) {
      for (const Trigger& trigger : tier.triggers) {
        TriggerKey key{tier.name, trigger.name};
        const TriggerMemory& memory = decision.triggers.at(key);
        if (tier.name != memory_.tier) continue;
        const Reading& reading = readings.at(key);
        ASSERT_TRUE(reading.value.has_value()) << "left on Unknown";
        EXPECT_FALSE(Breaches(trigger, *reading.value)) << "left although " << trigger.name << " is breached";
        if (!trigger.leave.has_value()) continue;
        EXPECT_LT(*reading.value, trigger.leave->threshold);
        ASSERT_TRUE(memory.leave_since.has_value());
        EXPECT_GE(now_ - *memory.leave_since, kLeaveWindow) << "left before its window was full";
      }
    }
    CheckGates(ladder_.plan_down, ladder_.down == Down::kManual);
  }

  Ladder ladder_ = ThreeTiers();
  Memory memory_;
  std::mt19937 random_;
  WallTime now_ = std::chrono::system_clock::from_time_t(1'700'000'000);
  double level_ = 0.3;
  int stay_ = 0;              // In a tier, counted; a lost status begins another.
  std::map<int, int> begun_;  // Changes that began in each stay.
  Counts counts_;
};

Counts WalkMany(Down down) {
  Counts all;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Walk walk(seed, down);
    for (int i = 0; i < 600; ++i) walk.Step();
    all.up += walk.counts().up;
    all.down += walk.counts().down;
    all.approved += walk.counts().approved;
    all.lost += walk.counts().lost;
  }
  // A property that nothing ever exercised would hold as well.
  EXPECT_GT(all.lost, 50);
  EXPECT_GT(all.up, 50);
  EXPECT_GT(all.approved, 5);
  return all;
}

TEST(LadderProperties, NeverSkipsAGateNorActsOnUnknown) { EXPECT_EQ(WalkMany(Down::kNever).down, 0); }

TEST(LadderProperties, TheWayDownKeepsItsOwnGates) { EXPECT_GT(WalkMany(Down::kAutomatic).down, 50); }

TEST(LadderProperties, TheWayDownByHandWaitsForAPerson) { EXPECT_GT(WalkMany(Down::kManual).down, 20); }

}  // namespace
}  // namespace pgtier::core

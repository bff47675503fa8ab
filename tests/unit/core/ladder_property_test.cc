// Properties of the ladder under any sequence of readings, pauses, restarts and clock jumps (seeded).
#include <gtest/gtest.h>

#include <random>

#include "core/decide.h"

namespace pgtier::core {
namespace {

using std::chrono::seconds;

Ladder ThreeTiers() {
  auto trigger = [](const std::string& name, double threshold) {
    Trigger made;
    made.name = name;
    made.threshold = threshold;
    made.window = seconds(60);
    made.gap = seconds(45);
    made.dip = seconds(10);
    return made;
  };
  Ladder ladder;
  ladder.tiers = {{"one", Match::kAny, {}, false, ""},
                  {"two", Match::kAny, {trigger("a", 0.5), trigger("b", 0.7)}, false, ""},
                  {"three", Match::kAll, {trigger("c", 0.6), trigger("d", 0.6)}, true, ""}};
  return ladder;
}

// Follows the ladder as a controller does and checks every move that begins.
class Walk {
 public:
  explicit Walk(unsigned seed) : random_(seed) { memory_.tier = "one"; }

  void Step() {
    Advance();
    std::map<TriggerKey, Reading> readings = Draw();
    Decision decision = Decide(ladder_, memory_, readings, now_);
    if (decision.verdict == Verdict::kMove && memory_.target.empty()) CheckMove(decision, readings);
    EXPECT_LE(std::abs(Index(decision.to) - Index(memory_.tier)), 1) << "skipped a rung";
    memory_.triggers = decision.triggers;
    if (decision.verdict != Verdict::kMove) return;
    // Some changes take several passes.
    memory_.target = decision.to;
    if (Chance(2)) return;
    memory_.tier = decision.to;
    memory_.target.clear();
    ++moves_;
  }

  [[nodiscard]] int moves() const { return moves_; }

 private:
  bool Chance(int one_in) { return std::uniform_int_distribution<int>(1, one_in)(random_) == 1; }
  int Index(const std::string& tier) const { return static_cast<int>(*FindTier(ladder_, tier)); }

  void Advance() {
    now_ += seconds(std::uniform_int_distribution<int>(1, 20)(random_));
    if (Chance(60)) now_ += std::chrono::minutes(std::uniform_int_distribution<int>(-5, 60)(random_));
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

  void CheckMove(const Decision& decision, const std::map<TriggerKey, Reading>& readings) {
    ASSERT_TRUE(decision.trigger.has_value());
    const Reading& reading = readings.at(*decision.trigger);
    ASSERT_TRUE(reading.value.has_value()) << "acted on Unknown";
    const TriggerMemory& memory = decision.triggers.at(*decision.trigger);
    ASSERT_TRUE(memory.breached_since.has_value());
    EXPECT_GE(now_ - *memory.breached_since, seconds(60)) << "fired before its window was full";
    EXPECT_NE(decision.to, "three") << "went past a gate without approval";
  }

  Ladder ladder_ = ThreeTiers();
  Memory memory_;
  std::mt19937 random_;
  WallTime now_ = std::chrono::system_clock::from_time_t(1'700'000'000);
  double level_ = 0.3;
  int moves_ = 0;
};

TEST(LadderProperties, NeverSkipsAGateNorActsOnUnknown) {
  int moves = 0;
  for (unsigned seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Walk walk(seed);
    for (int i = 0; i < 400; ++i) walk.Step();
    moves += walk.moves();
  }
  // A property that nothing ever exercised would hold as well.
  EXPECT_GT(moves, 50);
}

}  // namespace
}  // namespace pgtier::core

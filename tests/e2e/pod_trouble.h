// What befalls a ShadowTablePolicy on pods: its workers, their sessions, Postgres and the operator are killed, stopped
// and deleted.
#pragma once

#include <array>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "lib/base/clock.h"

namespace pgtier::e2e {

class PodTrouble {
 public:
  // Of a policy in that namespace; `instance`: the managed Postgres' that takes writes.
  PodTrouble(std::string name_space, std::string policy, const std::string& instance, unsigned seed);

  // Eight troubles, in an order by the seed, each once: this does the one at `at` (0 to 7). Two belong to each of the
  // four moves triggers → notify → cdc → notify → triggers: on the way, and there.
  void Befall(size_t at);
  // What happened, in its order, and how often.
  [[nodiscard]] const std::string& story() const { return story_; }
  [[nodiscard]] const std::map<std::string, int>& counts() const { return counts_; }

 private:
  enum class Kind {
    kKillWorker,
    kDeleteWorker,
    kStopWorker,
    kStopSession,
    kEndSession,
    kCrash,
    kPostgres,
    kOperator,
  };
  static constexpr size_t kKinds = 8;

  void Shuffle();
  std::string Worker();
  int Session(Duration patience);
  int OfPostgres(const std::vector<std::string>& titles);
  void Kill(const std::string& what, const std::string& pod, const std::string& name_space);
  void Delete(const std::string& what, const std::string& pod, const std::string& grace);
  bool Pause(int pid);
  void Tell(const std::string& what);
  int Roll(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }
  void Rest(int least_ms, int most_ms);

  const std::string namespace_, policy_, pod_;  // pod_: Postgres'
  const unsigned seed_;
  std::mt19937 random_;
  std::array<Kind, kKinds> order_{};
  std::string story_;
  std::map<std::string, int> counts_;
};

}  // namespace pgtier::e2e

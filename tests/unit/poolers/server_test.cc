#include "lib/poolers/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace pgtier::poolers {
namespace {

using testing::ElementsAre;

Server Weighing(const std::string& host, int weight) { return {host, 5432, weight, ServerRole::kReplica}; }

TEST(SpreadByWeight, EqualWeightsGiveEachHostOnce) {
  EXPECT_THAT(*SpreadByWeight({Weighing("a", 1), Weighing("b", 1)}), ElementsAre("a", "b"));
  EXPECT_THAT(*SpreadByWeight({Weighing("a", 50), Weighing("b", 50)}), ElementsAre("a", "b"));
}

TEST(SpreadByWeight, RepeatsHostsAndKeepsTheRepeatsApart) {
  EXPECT_THAT(*SpreadByWeight({Weighing("a", 1), Weighing("b", 2)}), ElementsAre("b", "a", "b"));
  EXPECT_THAT(*SpreadByWeight({Weighing("a", 4), Weighing("b", 2), Weighing("c", 2)}), ElementsAre("a", "b", "c", "a"));
}

TEST(SpreadByWeight, AHostWithoutWeightTakesNothing) {
  EXPECT_THAT(*SpreadByWeight({Weighing("a", 0), Weighing("b", 3)}), ElementsAre("b"));
}

TEST(SpreadByWeight, ManyEntriesAreRoundedAndNobodyFallsOut) {
  std::vector<Server> servers;
  for (int i = 0; i < 16; ++i) servers.push_back(Weighing("h" + std::to_string(i), i == 0 ? 1 : 97 - i % 3));
  std::vector<std::string> hosts = *SpreadByWeight(servers);
  EXPECT_LE(hosts.size(), 160U);
  for (const Server& server : servers) {
    EXPECT_THAT(hosts, testing::Contains(server.host));
  }
  EXPECT_LT(std::count(hosts.begin(), hosts.end(), "h0"), std::count(hosts.begin(), hosts.end(), "h1"));
}

TEST(SpreadByWeight, RefusesWhatHasNoShares) {
  EXPECT_EQ(SpreadByWeight({}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(SpreadByWeight({Weighing("a", 0)}).error().code, Code::kInvalidArgument);
  EXPECT_EQ(SpreadByWeight({Weighing("a", 2), Weighing("b", -1)}).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace pgtier::poolers

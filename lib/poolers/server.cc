#include "lib/poolers/server.h"

#include <algorithm>
#include <numeric>

namespace pgtier::poolers {
namespace {

// A line of a configuration file should stay readable.
constexpr int64_t kMaxEntries = 128;

}  // namespace

Result<std::vector<std::string>> SpreadByWeight(const std::vector<Server>& servers) {
  std::vector<int64_t> weights;
  int64_t divisor = 0;
  int64_t total = 0;
  for (const Server& server : servers) {
    if (server.weight < 0) return MakeError(Code::kInvalidArgument, "the weight of " + server.host + " is negative");
    weights.push_back(server.weight);
    divisor = std::gcd(divisor, server.weight);
    total += server.weight;
  }
  if (total == 0) return MakeError(Code::kInvalidArgument, "no server has a weight above 0");
  bool too_many = total / divisor > kMaxEntries;
  for (int64_t& weight : weights) {
    weight = too_many && weight > 0 ? std::max<int64_t>(1, weight * kMaxEntries / total) : weight / divisor;
  }
  total = std::accumulate(weights.begin(), weights.end(), int64_t{0});

  // Smooth weighted round robin: whoever is furthest behind its share comes next.
  std::vector<int64_t> credit(servers.size(), 0);
  std::vector<std::string> hosts;
  for (int64_t i = 0; i < total; ++i) {
    for (size_t j = 0; j < servers.size(); ++j) credit[j] += weights[j];
    auto next = static_cast<size_t>(std::max_element(credit.begin(), credit.end()) - credit.begin());
    credit[next] -= total;
    hosts.push_back(servers[next].host);
  }
  return hosts;
}

}  // namespace pgtier::poolers

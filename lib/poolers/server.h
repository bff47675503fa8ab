// The Postgres servers behind an endpoint, as any pooler takes them: managed instances and servers elsewhere alike.
// Pure.
#pragma once

#include <string>
#include <vector>

#include "lib/base/result.h"

namespace pgtier::poolers {

enum class ServerRole { kPrimary, kReplica };

// Where server connections go.
struct Server {
  std::string host;
  int port = 5432;
  int weight = 1;  // Share of reads, where the routing is by weight: 0 and more; 0 takes none.
  ServerRole role = ServerRole::kPrimary;

  friend bool operator==(const Server&, const Server&) = default;
};

// Hosts for a pooler that takes them in turn: each as often as its weight says, as few entries as show the shares and
// those of one host apart from each other ("b,a,b" for a:1, b:2). Shares that would take more than 128 entries are
// rounded, and no host that has a weight falls out. Errors: kInvalidArgument: no server has a weight, or a weight is
// negative.
Result<std::vector<std::string>> SpreadByWeight(const std::vector<Server>& servers);

}  // namespace pgtier::poolers

// Command line of kubectl-pgtier. docs/cli.md is its reference.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>

#include "lib/base/clock.h"

namespace pgtier::cli {

// Exit codes: part of the program's contract (docs/cli.md).
inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;      // The cluster refused, the policy is not there, or a wait ran out.
inline constexpr int kBadCommand = 2;  // The command line itself.

enum class Command { kWhy, kPlan, kApprove, kDemand, kPause, kResume, kPromote };

// What NAME says of the policy's kind: "shadowtables/kyoyu-audit".
enum class Kind { kAny, kScaleTier, kShadowTable };

struct Options {
  Command command = Command::kWhy;
  std::string kubeconfig;  // Empty: as kubectl finds it.
  std::string context;     // Empty: the current one.
  std::string namespace_;  // Empty: the context's.
  bool json = false;       // -o json
  Kind kind = Kind::kAny;
  std::string name;                             // The policy's, without its kind.
  std::string trigger;                          // demand
  bool off = false;                             // demand
  std::string hash;                             // approve
  bool current = false;                         // approve
  std::string replica;                          // promote
  bool force = false;                           // promote
  bool wait = false;                            // promote
  Duration timeout = std::chrono::minutes(10);  // promote --wait
};

// Parses the command line. Prints help or what is wrong, and gives the exit code when the program should end now.
std::optional<int> ParseOptions(int argc, const char* const* argv, Options& options, std::ostream& out,
                                std::ostream& err);

}  // namespace pgtier::cli

// A real cluster with pgtier installed, as a user sees it: through kubectl. tests/run.sh brings it up.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/base/clock.h"

namespace pgtier::e2e {

using Json = nlohmann::json;

// Runs kubectl with these arguments and `input` on its standard input; gives what it printed. A failure of kubectl
// fails the test, with what it said, unless `may_fail`; then the answer is empty.
std::string Kubectl(const std::vector<std::string>& arguments, const std::string& input = "", bool may_fail = false);
Json KubectlJson(std::vector<std::string> arguments);

// Asks `holds` about twice a second until it does; fails the test at the timeout, saying `what` and the state of the
// test's namespace.
bool Eventually(const std::string& what, Duration timeout, const std::function<bool()>& holds);

// A test with a namespace of its own, removed at its end. Skips, with the reason, where no cluster is named.
class ClusterTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  [[nodiscard]] const std::string& ns() const { return namespace_; }

  // Applies an object in the test's namespace.
  void Apply(Json object);
  void Patch(const std::string& kind_and_name, const Json& merge_patch);
  // A policy of two tiers, low and high (one replica), small enough for many; `enter_when` is of the second.
  [[nodiscard]] Json SmallPolicy(const std::string& name, const Json& enter_when) const;

  Json Policy(const std::string& name);
  std::string Field(const std::string& name, const std::string& json_pointer);
  // "True (Reason): message" of a condition.
  std::string Condition(const std::string& name, const std::string& type);
  bool WaitForCondition(const std::string& name, const std::string& type, const std::string& starts_with,
                        Duration timeout);
  bool WaitForTier(const std::string& name, const std::string& tier, Duration timeout);

  // What psql prints for `sql` as the application, through a Service of this namespace.
  std::string Query(const std::string& policy, const std::string& service, const std::string& sql);
  // The same as superuser inside an instance's pod.
  std::string QueryInside(const std::string& instance, const std::string& sql);

  // Starts the application of manifests/demo/load.yaml on a policy's endpoint; more arguments come last.
  void StartLoad(const std::string& policy, const std::vector<std::string>& arguments);
  // Ends it and gives its summary.
  Json StopLoad();

 private:
  std::string namespace_;
};

}  // namespace pgtier::e2e

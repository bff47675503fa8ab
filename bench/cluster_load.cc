#include "bench/cluster_load.h"

#include <atomic>
#include <functional>
#include <stdexcept>

#include "lib/kube/json.h"

namespace pgtier::bench {
namespace {

using Json = nlohmann::json;

constexpr Duration kPatience = std::chrono::seconds(30);
// Enough to keep two cores of API server busy.
constexpr int kCreators = 8;

// Creates `count` objects, several at once.
void CreateAll(kube::Client& client, const kube::Resource& resource, int count,
               const std::function<Json(int number)>& object) {
  std::atomic<int> next = 0;
  std::mutex mutex;
  std::string failure;
  auto create = [&] {
    for (int number = next++; number < count; number = next++) {
      auto made = client.Create(resource, object(number), Deadline::After(kPatience));
      if (made.has_value()) continue;
      std::lock_guard lock(mutex);
      failure = made.error().message;
      return;
    }
  };
  {
    std::vector<std::jthread> creators;
    creators.reserve(kCreators);
    for (int i = 0; i < kCreators; ++i) creators.emplace_back(create);
  }
  if (!failure.empty()) throw std::runtime_error(failure);
}

Result<PolicySeen> Decode(const Json& object) {
  return PolicySeen{kube::IntAt(object, {"metadata", "generation"}),
                    kube::IntAt(object, {"status", "observedGeneration"}),
                    kube::StringAt(object, {"metadata", "resourceVersion"})};
}

}  // namespace

void CreateNamespace(kube::Client& client, const std::string& name) {
  auto made = client.Create(kube::kNamespaces, {{"metadata", {{"name", name}}}}, Deadline::After(kPatience));
  if (!made.has_value()) throw std::runtime_error(made.error().message);
}

void CreateUnrelated(kube::Client& client, int count) {
  constexpr char kElsewhere[] = "unrelated";
  CreateNamespace(client, kElsewhere);
  const std::string payload(50'000, 'x');
  auto object = [&](int number, const char* field) {
    return Json{{"metadata", {{"namespace", kElsewhere}, {"name", "unrelated-" + std::to_string(number)}}},
                {field, {{"payload", payload}}}};
  };
  CreateAll(client, kube::kSecrets, count, [&](int number) { return object(number, "stringData"); });
  CreateAll(client, kube::kConfigMaps, count, [&](int number) { return object(number, "data"); });
}

std::string PolicyName(int number) { return "policy-" + std::to_string(number); }

void CreatePolicies(kube::Client& client, int count, const std::string& interval) {
  Json spec = Json::parse(R"({
    "mode": "Observe",
    "postgres": {"managed": {"database": "app", "storage": {"size": "10Gi"}}},
    "tiers": [{"name": "single-node"},
              {"name": "read-replicas", "enterWhen": {"any": [{"name": "by-hand", "demand": {}}]},
               "readReplicas": {"min": 1}}]})");
  if (!interval.empty()) spec["metrics"] = {{"interval", interval}};
  CreateAll(client, kPolicies, count, [&](int number) {
    return Json{{"apiVersion", kPolicies.ApiVersion()},
                {"kind", kPolicies.kind},
                {"metadata", {{"namespace", kNamespace}, {"name", PolicyName(number)}}},
                {"spec", spec}};
  });
}

PolicyWatch::PolicyWatch(kube::Client* client)
    : reflector_(
          client, kube::WatchScope{kPolicies, kNamespace, "", "", false}, Decode,
          [this](const kube::ObjectKey& key, const auto&, const auto& now) { OnChange(key, now); },
          [](const kube::ObjectKey&, const Error&) {}),
      thread_([this](const std::stop_token& stop) { reflector_.Run(stop); }) {
  const Deadline deadline = Deadline::After(kPatience);
  while (!reflector_.synced()) {
    if (deadline.Expired()) throw std::runtime_error("the policies cannot be watched");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

PolicyWatch::~PolicyWatch() = default;

void PolicyWatch::OnChange(const kube::ObjectKey& key, const kube::Store<PolicySeen>::Ptr& now) {
  if (now == nullptr) return;
  std::lock_guard lock(mutex_);
  derived_[key.name].try_emplace(now->observed, std::chrono::steady_clock::now());
  bool& up_to_date = up_to_date_[key.name];
  if (up_to_date) --count_up_to_date_;
  up_to_date = now->observed == now->generation;
  if (up_to_date) ++count_up_to_date_;
  changed_.notify_all();
}

size_t PolicyWatch::WaitForStatuses(size_t count, Duration patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [&] { return count_up_to_date_ >= count; });
  return count_up_to_date_;
}

std::optional<PolicyWatch::Time> PolicyWatch::WaitForStatus(const std::string& name, long long generation,
                                                            Deadline deadline) {
  std::unique_lock lock(mutex_);
  const std::map<long long, Time>& derived = derived_[name];
  if (!changed_.wait_until(lock, deadline.at(), [&] { return derived.contains(generation); })) return std::nullopt;
  return derived.at(generation);
}

std::map<std::string, std::string> PolicyWatch::Versions() const {
  std::map<std::string, std::string> versions;
  for (const auto& [key, policy] : reflector_.store().List()) versions[key.name] = policy->version;
  return versions;
}

}  // namespace pgtier::bench

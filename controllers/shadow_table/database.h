// The Postgres that holds a policy's tables: how the operator and the workers reach it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "controllers/scale_tier/external.h"
#include "crds/scale_tier_policy.h"
#include "crds/shadow_table_policy.h"
#include "lib/kube/client.h"
#include "lib/kube/object_cache.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers::shadow_table {

// What a worker's configuration says of the server.
struct WorkerPeer {
  std::string host;
  int port = 5432;
  std::string ssl_mode;
  std::string ca_pem;    // With verify-ca and verify-full.
  std::string password;  // Of every worker's role on this server: drawn from the administrator's, see decision 0043.
};

struct Database {
  // Why it can't be reached or used: a word for conditions, and what to do. Empty: it can be tried.
  std::string reason;
  std::string error;
  bool needs_person = false;
  bool gone = false;  // Nothing of it is left: there are no tables any more.

  postgres::ConnectOptions admin;                   // As who acts.
  std::optional<postgres::ConnectOptions> monitor;  // As who asks for `sql` triggers; nothing: the reason is below.
  std::string no_monitor;                           // "MonitorSecretMissing: …"
  WorkerPeer worker;
};

// How status names it: "kyoyu-primary.data.svc:5432/kyoyu".
std::string PlaceOf(const Database& database);

class DatabaseFinder {
 public:
  using ScaleTierLookup = std::function<std::shared_ptr<const crds::ScaleTierPolicy>(const kube::ObjectKey&)>;

  // All outlive this; without `children` (what ScaleTierPolicies own) the API server is asked. `check` is asked before
  // a host that a Secret names is connected to.
  DatabaseFinder(kube::Client* client, kube::ObjectCache* children, ScaleTierLookup lookup, scale_tier::HostCheck check)
      : client_(client), children_(children), lookup_(std::move(lookup)), check_(std::move(check)) {}

  // Errors: the API server could not be asked.
  Result<Database> Find(const crds::ShadowTablePolicy& policy, Deadline deadline, const std::stop_token& stop);

 private:
  // `known`: status.database of the policy that asks.
  Result<Database> OfPolicy(const kube::ObjectKey& key, const std::string& known, Deadline deadline,
                            const std::stop_token& stop);
  Result<Database> OfExternal(const crds::ScaleTierPolicy& of, Deadline deadline, const std::stop_token& stop);
  Result<Database> OfSecret(const std::string& namespace_, const std::string& secret, Deadline deadline,
                            const std::stop_token& stop);

  kube::Client* client_;
  kube::ObjectCache* children_;
  ScaleTierLookup lookup_;
  scale_tier::HostCheck check_;
};

}  // namespace pgtier::controllers::shadow_table

// The Postgres that a resource names: how the operator, and what it runs in pods, reach it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "controllers/scale_tier/external.h"
#include "crds/scale_tier_policy.h"
#include "lib/kube/client.h"
#include "lib/kube/object_cache.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers {

// What the configuration of a program in a pod says of the server.
struct WorkerPeer {
  std::string host;
  int port = 5432;
  std::string ssl_mode;
  std::string ca_pem;    // With verify-ca and verify-full.
  std::string password;  // Of every worker's role on this server: drawn from the administrator's, see decision 0043.
  // Where the administrator's own password stands, for pods that act as they: a Secret of the namespace, and its key.
  std::string admin_secret = {}, admin_key = {};
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

// What a connection or statement that failed means for whoever named the database.
struct DatabaseTrouble {
  std::string reason;  // PascalCase, of a condition.
  bool needs_person = false;
};
DatabaseTrouble ExplainTrouble(const Error& error);

class DatabaseFinder {
 public:
  using ScaleTierLookup = std::function<std::shared_ptr<const crds::ScaleTierPolicy>(const kube::ObjectKey&)>;

  // All outlive this; without `children` (what ScaleTierPolicies own) the API server is asked. `check` is asked before
  // a host that a Secret names is connected to.
  DatabaseFinder(kube::Client* client, kube::ObjectCache* children, ScaleTierLookup lookup, scale_tier::HostCheck check)
      : client_(client), children_(children), lookup_(std::move(lookup)), check_(std::move(check)) {}

  // The database of ScaleTierPolicy `policy`, or where that is empty the one that Secret `secret` tells of. `known`:
  // the place where it was, as far as the resource that asks has noted one; else empty. Errors: the API server could
  // not be asked.
  Result<Database> Find(const std::string& namespace_, const std::string& policy, const std::string& secret,
                        const std::string& known, Deadline deadline, const std::stop_token& stop);

 private:
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

}  // namespace pgtier::controllers

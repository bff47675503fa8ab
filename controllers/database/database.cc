#include "controllers/database/database.h"

#include <charconv>

#include "controllers/ladder/objects.h"
#include "controllers/ladder/readings.h"
#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/observe.h"
#include "controllers/scale_tier/observe_external.h"
#include "controllers/scale_tier/observe_postgres.h"
#include "lib/base/sha256.h"
#include "lib/postgres/sqlstate.h"

namespace pgtier::controllers {
namespace {

// One role serves the workers of every policy of a server, so every policy must come to the same password. It tells
// nothing of the administrator's, and who may read it may read that one too: both stand in Secrets of one namespace.
std::string WorkerPassword(const std::string& admin_password) {
  return Sha256Hex(admin_password + "\n" + Sha256Hex(admin_password + "\npgtier shadow worker"));
}

Database Unusable(std::string reason, std::string error, bool needs_person) {
  Database database;
  database.reason = std::move(reason);
  database.error = std::move(error);
  database.needs_person = needs_person;
  return database;
}

// "SecretNotFound: there is no …" as a reason and an error.
Database Unusable(const Error& error) {
  size_t colon = error.message.find(": ");
  if (colon == std::string::npos) return Unusable("SecretUnreadable", error.message, false);
  return Unusable(error.message.substr(0, colon), error.message.substr(colon + 2),
                  error.code != Code::kUnavailable && error.code != Code::kDeadlineExceeded);
}

}  // namespace

DatabaseTrouble ExplainTrouble(const Error& error) {
  std::string_view state = postgres::SqlStateOf(error);
  if (state.starts_with("28") || error.code == Code::kUnauthenticated) return {"AccessRefused", true};
  if (error.code == Code::kPermissionDenied) return {"PrivilegeMissing", true};
  if (state == "3D000") return {"DatabaseNotFound", true};
  return {error.code == Code::kUnavailable ? "DatabaseUnreachable" : "DatabaseNotReady", false};
}

Result<Database> DatabaseFinder::Find(const std::string& namespace_, const std::string& policy,
                                      const std::string& secret, const std::string& known, Deadline deadline,
                                      const std::stop_token& stop) {
  if (policy.empty()) return OfSecret(namespace_, secret, deadline, stop);
  return OfPolicy({namespace_, policy}, known, deadline, stop);
}

Result<Database> DatabaseFinder::OfPolicy(const kube::ObjectKey& key, const std::string& known, Deadline deadline,
                                          const std::stop_token& stop) {
  std::shared_ptr<const crds::ScaleTierPolicy> of = lookup_(key);
  if (of != nullptr && of->spec.external.has_value()) return OfExternal(*of, deadline, stop);
  const std::string own = scale_tier::PrimaryService(key.name) + "." + key.namespace_ + ".svc";
  if (of == nullptr && !known.empty() && !known.starts_with(own)) {
    // It ran elsewhere, and goes on there, with triggers and perhaps a slot.
    return Unusable("DatabaseRefNotFound",
                    "ScaleTierPolicy " + key.name + " is gone, by which " + known +
                        " was reached: create it again with that external Postgres. To delete this policy without it, "
                        "drop its slot there by hand, if it has one, and then the policy's finalizer",
                    true);
  }
  // A policy that was deleted and retained leaves its Postgres, and all that is needed to reach it.
  PGTIER_ASSIGN_OR_RETURN(scale_tier::Seen seen,
                          scale_tier::ObserveObjects(*client_, children_, key, SystemClock().Now(), deadline, stop));
  if (!seen.credentials.has_value() || seen.instances.empty()) {
    if (of != nullptr)
      return Unusable("DatabaseNotReady", "ScaleTierPolicy " + key.name + " has no Postgres yet", false);
    Database database = Unusable(
        "DatabaseRefNotFound",
        "there is no ScaleTierPolicy " + key.name + " in this namespace: create it, or correct spec.databaseRef", true);
    database.gone = !seen.credentials.has_value() && seen.instances.empty();
    return database;
  }
  const scale_tier::InstanceSeen* primary = seen.PrimaryInstance();
  if (primary == nullptr || primary->pod_ip.empty()) {
    return Unusable("DatabaseNotReady", "the primary of ScaleTierPolicy " + key.name + " does not run", false);
  }
  std::string name = SecretText(seen.Object(kube::kSecrets, scale_tier::AppSecret(key.name)), "dbname");
  if (name.empty() && of != nullptr && of->spec.managed.has_value()) name = of->spec.managed->database;
  if (name.empty()) {
    return Unusable("DatabaseNotReady", "Secret " + scale_tier::AppSecret(key.name) + " has no key dbname", false);
  }
  const scale_tier::Credentials& credentials = *seen.credentials;
  scale_tier::Peer peer = scale_tier::PeerOf(*primary, credentials);
  Database database;
  database.admin = scale_tier::ConnectTo(peer, credentials.AsSuperuser(), name);
  database.monitor = scale_tier::ConnectTo(peer, credentials.AsMonitor(), name);
  database.worker = {own,
                     scale_tier::kPostgresPort,
                     primary->encrypted ? "verify-full" : "prefer",
                     credentials.tls.Trust(),
                     WorkerPassword(credentials.superuser),
                     scale_tier::InternalSecret(key.name),
                     scale_tier::kSuperuserKey};
  return database;
}

Result<Database> DatabaseFinder::OfExternal(const crds::ScaleTierPolicy& of, Deadline deadline,
                                            const std::stop_token& stop) {
  const crds::ExternalPostgres& external = *of.spec.external;
  const std::string whose = "ScaleTierPolicy " + of.meta.name + ": ";
  PGTIER_ASSIGN_OR_RETURN(scale_tier::ExternalSecrets secrets,
                          scale_tier::ReadExternalSecrets(*client_, of.meta.namespace_, external, deadline, stop));
  if (secrets.trouble.has_value()) {
    return Unusable(secrets.trouble->reason, whose + secrets.trouble->message, secrets.trouble->needs_person);
  }
  const scale_tier::ExternalAccess& access = secrets.access;
  Result<std::string> address = check_(external.host, deadline);
  if (!address.has_value()) {
    scale_tier::Trouble trouble =
        scale_tier::ExplainExternal(address.error(), external, external.host, access.admin, external.admin_secret);
    return Unusable(trouble.reason, whose + trouble.message, trouble.needs_person);
  }
  auto connect = [&](const scale_tier::Login& login) {
    return scale_tier::ConnectToExternal(external, access, login, external.host, *address, external.port);
  };
  Database database;
  database.admin = connect(access.admin);
  database.worker = {
      external.host,         external.port, external.ssl_mode, access.ca_pem, WorkerPassword(access.admin.password),
      external.admin_secret, "password"};
  if (access.own_monitor) {
    database.monitor = connect(access.monitor);
  } else {
    database.no_monitor =
        "MonitorSecretMissing: sql triggers run as the role of spec.postgres.external.monitorSecret of " + whose +
        "set it";
  }
  return database;
}

std::string PlaceOf(const Database& database) {
  if (database.worker.host.empty()) return "";
  return database.worker.host + ":" + std::to_string(database.worker.port) + "/" + database.admin.database;
}

Result<Database> DatabaseFinder::OfSecret(const std::string& namespace_, const std::string& secret, Deadline deadline,
                                          const std::stop_token& stop) {
  Result<nlohmann::json> found = GetUserSecret(*client_, namespace_, secret, "postgres", deadline, stop);
  if (!found.has_value()) return Unusable(found.error());
  auto text = [&](const char* key) { return SecretText(&*found, key); };
  Database database;
  postgres::ConnectOptions& admin = database.admin;
  for (auto [key, field] : {std::pair{"host", &admin.host},
                            {"dbname", &admin.database},
                            {"username", &admin.user},
                            {"password", &admin.password}}) {
    *field = text(key);
    if (field->empty()) return Unusable("SecretIncomplete", "Secret " + secret + " has no key " + key, true);
  }
  admin.port = scale_tier::kPostgresPort;
  if (std::string port = text("port"); !port.empty()) {
    auto [end, wrong] = std::from_chars(port.data(), port.data() + port.size(), admin.port);
    if (wrong != std::errc() || end != port.data() + port.size() || admin.port < 1 || admin.port > 65535) {
      return Unusable("SecretIncomplete", "key port of Secret " + secret + " is no port", true);
    }
  }
  admin.ssl_mode = text("sslmode").empty() ? "verify-full" : text("sslmode");
  admin.ssl_root_pem = text("ca.crt");
  if (admin.ssl_mode.starts_with("verify") && admin.ssl_root_pem.empty()) {
    return Unusable("SecretIncomplete",
                    "Secret " + secret + " has no key ca.crt, which sslmode " + admin.ssl_mode + " needs", true);
  }
  Result<std::string> address = check_(admin.host, deadline);
  if (!address.has_value()) {
    bool refused = address.error().code == Code::kPermissionDenied;
    return Unusable(refused ? "AddressNotAllowed" : "HostUnknown",
                    "key host of Secret " + secret + ": " + address.error().message, refused);
  }
  admin.address = *address;
  admin.application_name = "pgtier-operator";
  admin.options = postgres::kOwnSettings;
  database.worker = {admin.host, admin.port, admin.ssl_mode, admin.ssl_root_pem, WorkerPassword(admin.password),
                     secret,     "password"};
  if (text("monitor-username").empty()) {
    database.no_monitor = "MonitorSecretMissing: sql triggers run as monitor-username and monitor-password of Secret " +
                          secret + "; add these keys";
    return database;
  }
  database.monitor = admin;
  database.monitor->user = text("monitor-username");
  database.monitor->password = text("monitor-password");
  return database;
}

}  // namespace pgtier::controllers

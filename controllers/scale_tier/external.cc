#include "controllers/scale_tier/external.h"

#include <algorithm>
#include <set>

#include "controllers/scale_tier/bootstrap.h"
#include "lib/postgres/address.h"
#include "lib/postgres/catalogue.h"
#include "lib/postgres/quote.h"
#include "lib/postgres/sqlstate.h"
#include "sql/scale_tier.h"

namespace pgtier::controllers::scale_tier {
namespace {

bool Says(const Error& error, const char* words) { return error.message.find(words) != std::string::npos; }

std::string Role(const Login& login, const std::string& secret) {
  return "role " + login.user + " (Secret " + secret + ")";
}

// TLS failures have no SQLSTATE: libpq's words are all there is.
std::optional<Trouble> ExplainTls(const Error& error, const crds::ExternalPostgres& external, const std::string& host) {
  const std::string reason = "TLSFailed";
  if (Says(error, "does not support SSL")) {
    return Trouble{reason, host + " offers no TLS, and sslMode is " + external.ssl_mode +
                               ": turn TLS on there, or set spec.postgres.external.sslMode to disable"};
  }
  if (Says(error, "certificate verify failed")) {
    return Trouble{reason, "the certificate of " + host + " is not signed by the CA in Secret " + external.ca_secret +
                               ": put the CA's certificate into its key ca.crt"};
  }
  if (Says(error, "does not match host name")) {
    return Trouble{reason, "the certificate of " + host +
                               " is for another name: write that name into spec.postgres.external.host, or set sslMode "
                               "to verify-ca"};
  }
  if (Says(error, "root certificate file")) {
    return Trouble{reason, "the key ca.crt of Secret " + external.ca_secret + " holds no certificate in PEM"};
  }
  if (Says(error, "SSL error") || Says(error, "SSL connection")) return Trouble{reason, error.message};
  return std::nullopt;
}

std::optional<Trouble> ExplainRefusal(const Error& error, const crds::ExternalPostgres& external,
                                      const std::string& host, const Login& login, const std::string& secret) {
  std::string_view state = postgres::SqlStateOf(error);
  std::string role = Role(login, secret);
  if (state == "28P01") {
    return Trouble{"PasswordRefused", host + " refuses the password of " + role +
                                          ": correct the Secret's keys username and password, or the role's password"};
  }
  if (state.starts_with("28")) {
    std::string tls = external.ssl_mode == "disable" ? "; sslMode is disable, and it may insist on TLS" : "";
    return Trouble{"AccessRefused",
                   host + " lets " + role + " not in: " + error.message + "; see its pg_hba.conf" + tls};
  }
  if (state == "3D000") {
    return Trouble{"DatabaseNotFound", "there is no database " + external.database + " on " + host +
                                           ": create it, or correct spec.postgres.external.database"};
  }
  if (state == "42501") {
    return Trouble{"PrivilegeMissing", role + " lacks a privilege: " + error.message +
                                           ". adminSecret's role needs CREATE on database " + external.database +
                                           ", or a schema pgtier that it owns; monitorSecret's role CONNECT"};
  }
  return std::nullopt;
}

// A connection that acts: as the admin, and nobody else's.
Result<postgres::Connection> OpenToActExternal(const crds::ExternalPostgres& external, const ExternalAccess& access,
                                               const HostCheck& check, Deadline deadline, const std::stop_token& stop) {
  PGTIER_ASSIGN_OR_RETURN(std::string address, check(external.host, deadline));
  PGTIER_ASSIGN_OR_RETURN(
      postgres::Connection connection,
      postgres::Connection::Open(
          ConnectToExternal(external, access, access.admin, external.host, address, external.port), deadline, stop));
  PGTIER_ASSIGN_OR_RETURN(bool locked, postgres::TryAdvisoryLock(connection, kActLock, deadline));
  if (!locked) return MakeError(Code::kAborted, "another pgtier acts on this server now");
  return connection;
}

Status Install(postgres::Connection& database, const ExternalAccess& access, Deadline deadline) {
  PGTIER_ASSIGN_OR_RETURN(std::vector<postgres::Rows> made, database.Execute(sql::kScaleTierExternal, deadline));
  if (access.monitor.user == access.admin.user) return {};
  PGTIER_ASSIGN_OR_RETURN(std::string monitor, postgres::QuoteIdentifier(database, access.monitor.user));
  std::string grants = "GRANT USAGE ON SCHEMA pgtier TO " + monitor + "; GRANT SELECT ON pgtier.state TO " + monitor;
  PGTIER_ASSIGN_OR_RETURN(made, database.Execute(grants, deadline));
  return {};
}

}  // namespace

HostCheck RefuseSpecialHosts(std::vector<std::string> forbidden) {
  return [forbidden = std::move(forbidden)](const std::string& host, Deadline deadline) -> Result<std::string> {
    std::set<std::string> closed;
    for (const std::string& name : forbidden) {
      Result<std::vector<std::string>> known = postgres::ResolveHost(name, deadline);
      if (known.has_value()) closed.insert(known->begin(), known->end());
    }
    PGTIER_ASSIGN_OR_RETURN(std::vector<std::string> addresses, postgres::ResolveHost(host, deadline));
    for (const std::string& address : addresses) {
      PGTIER_ASSIGN_OR_RETURN(bool special, postgres::IsSpecialAddress(address));
      if (!special && !closed.contains(address)) continue;
      return MakeError(
          Code::kPermissionDenied,
          host + " leads to " + address + (special ? ", a loopback or link-local address" : ", the apiserver"));
    }
    if (addresses.empty()) return MakeError(Code::kNotFound, host + " has no address");
    return addresses.front();
  };
}

Trouble ExplainExternal(const Error& error, const crds::ExternalPostgres& external, const std::string& host,
                        const Login& login, const std::string& secret) {
  if (std::optional<Trouble> tls = ExplainTls(error, external, host)) return *tls;
  if (std::optional<Trouble> refusal = ExplainRefusal(error, external, host, login, secret)) return *refusal;
  bool answered = !postgres::SqlStateOf(error).empty();
  if (!answered && error.code == Code::kPermissionDenied) {
    return {"AddressNotAllowed", error.message + ": pgtier connects to no such address; write the database's own host"};
  }
  if (!answered && (error.code == Code::kNotFound || error.code == Code::kInvalidArgument)) {
    return {"HostUnknown",
            "the host \"" + host + "\" leads nowhere (" + error.message + "): correct spec.postgres.external"};
  }
  if (answered) return {"ServerRefused", host + ": " + error.message, false};
  return {"HostUnreachable",
          host + " does not answer (" + error.message +
              "): see its host and port, security groups and NetworkPolicies, and whether it runs",
          false};
}

Error ExternalError(const Error& error, const crds::ExternalPostgres& external, const Login& login,
                    const std::string& secret) {
  if (error.code == Code::kAborted || error.code == Code::kCancelled) return error;
  Trouble trouble = ExplainExternal(error, external, external.host, login, secret);
  return MakeError(trouble.needs_person ? Code::kPermissionDenied : Code::kUnavailable,
                   trouble.reason + ": " + trouble.message);
}

postgres::ConnectOptions ConnectToExternal(const crds::ExternalPostgres& external, const ExternalAccess& access,
                                           const Login& login, const std::string& host, const std::string& address,
                                           int port) {
  postgres::ConnectOptions options;
  options.host = host;
  options.address = address;
  options.port = port;
  options.user = login.user;
  options.password = login.password;
  options.database = external.database;
  options.application_name = "pgtier-operator";
  options.ssl_mode = external.ssl_mode;
  options.ssl_root_pem = access.ca_pem;
  options.options = postgres::kOwnSettings;
  return options;
}

Status InstallOnExternal(const crds::ExternalPostgres& external, const ExternalAccess& access, const HostCheck& check,
                         const std::string& hash, Deadline deadline, const std::stop_token& stop) {
  auto explain = [&](const Error& error) {
    return ExternalError(error, external, access.admin, external.admin_secret);
  };
  Result<postgres::Connection> database = OpenToActExternal(external, access, check, deadline, stop);
  if (!database.has_value()) return explain(database.error());
  Status installed = Install(*database, access, deadline);
  if (!installed.has_value()) return explain(installed.error());
  // The poolers would only say so to the application.
  if (!external.app_secret.empty()) {
    Result<std::string> address = check(external.host, deadline);
    if (!address.has_value()) return explain(address.error());
    Result<postgres::Connection> app = postgres::Connection::Open(
        ConnectToExternal(external, access, access.app, external.host, *address, external.port), deadline, stop);
    if (!app.has_value()) return ExternalError(app.error(), external, access.app, external.app_secret);
  }
  Result<postgres::Rows> recorded = database->Query("UPDATE pgtier.state SET installed = $1", {hash}, deadline);
  return recorded.has_value() ? Status() : Status(explain(recorded.error()));
}

Status RecordTierOnExternal(const crds::ExternalPostgres& external, const ExternalAccess& access,
                            const HostCheck& check, const std::string& tier, int64_t epoch, Deadline deadline,
                            const std::stop_token& stop) {
  Result<postgres::Connection> database = OpenToActExternal(external, access, check, deadline, stop);
  Status recorded = database.has_value() ? RecordTierIn(*database, tier, epoch, deadline) : Status(database.error());
  if (recorded.has_value()) return {};
  return ExternalError(recorded.error(), external, access.admin, external.admin_secret);
}

}  // namespace pgtier::controllers::scale_tier

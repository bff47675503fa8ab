#include "operator/wiring.h"

#include <malloc.h>

#include <memory>
#include <mutex>
#include <thread>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/resources.h"
#include "controllers/scale_tier/scale_tier_reconciler.h"
#include "controllers/shadow_table/names.h"
#include "controllers/shadow_table/resources.h"
#include "controllers/shadow_table/shadow_table_reconciler.h"
#include "controllers/sql_migration/names.h"
#include "controllers/sql_migration/resources.h"
#include "controllers/sql_migration/sql_migration_reconciler.h"
#include "crds/scale_tier_policy_codec.h"
#include "crds/shadow_table_policy_codec.h"
#include "crds/sql_migration_codec.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/http/server.h"
#include "lib/kube/leader_elector.h"
#include "operator/kind.h"

namespace pgtier {
namespace {

namespace scale_tier = controllers::scale_tier;
namespace shadow_table = controllers::shadow_table;
namespace sql_migration = controllers::sql_migration;

constexpr Duration kDrain = std::chrono::seconds(30);
// How often memory that was freed goes back to the kernel; it takes milliseconds.
constexpr Duration kTrim = std::chrono::seconds(15);

http::Response Page(int status, std::string body) {
  http::Response response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

// Where the API server is: policies must not have it asked, whatever name they give it.
std::vector<std::string> AddressesOf(const kube::Config& config) {
  Result<std::string> host = observe::HostOf(config.server);
  if (!host.has_value()) return {};
  constexpr Duration kPatience = std::chrono::seconds(5);
  return observe::AddressesOf(*host, Deadline::After(kPatience)).value_or(std::vector<std::string>{});
}

Result<std::string> Identity() {
  const char* pod = std::getenv("POD_NAME");
  PGTIER_ASSIGN_OR_RETURN(std::string token, RandomToken(8));
  return std::string(pod == nullptr ? "pgtier-operator" : pod) + "_" + token;
}

// Everything that runs, in the order in which it must be destroyed backwards.
class Operator {
 public:
  explicit Operator(const Flags& flags) : flags_(flags) {}

  Status Run(const std::stop_token& stop) {
    PGTIER_ASSIGN_OR_RETURN(kube::Config config, kube::LoadConfig(flags_.kubeconfig));
    operator_namespace_ = config.namespace_;
    PGTIER_ASSIGN_OR_RETURN(client_, kube::Client::Connect(config));
    PGTIER_ASSIGN_OR_RETURN(apiserver_, observe::HostOf(config.server));
    PGTIER_ASSIGN_OR_RETURN(identity_, Identity());
    kube::EventRecorderOptions event_options;
    event_options.instance = identity_;
    events_ = std::make_unique<kube::EventRecorder>(client_.get(), &clock_, &metrics_, event_options);
    prometheus_ = std::make_unique<observe::Prometheus>(observe::AllowedHosts(flags_.allow_hosts, AddressesOf(config)));
    MakeScaleTiers();
    if (Has(shadow_table::kShadowTablePolicies, stop)) MakeShadowTables();
    if (Has(sql_migration::kSqlMigrations, stop)) MakeSqlMigrations();
    PGTIER_RETURN_IF_ERROR(Serve());

    scale_tiers_->Watch();
    if (shadow_tables_ != nullptr) shadow_tables_->Watch();
    if (sql_migrations_ != nullptr) sql_migrations_->Watch();
    if (!WaitForCaches(stop)) return {};
    log::Info("caches are synced");
    malloc_trim(0);  // What the first lists were parsed in.
    return flags_.leader_elect ? Lead(config, stop) : WorkUntil(stop);
  }

 private:
  void MakeScaleTiers() {
    scale_tiers_ = std::make_unique<Kind<crds::ScaleTierPolicy>>(
        client_.get(), &clock_, &metrics_,
        Kind<crds::ScaleTierPolicy>::Watches{scale_tier::kScaleTierPolicies, crds::DecodeScaleTierPolicy,
                                             flags_.watch_namespace, scale_tier::kPolicyLabel, scale_tier::kOwned});
    scale_tiers_->SetReconciler(
        std::make_unique<scale_tier::ScaleTierReconciler>(scale_tier::ScaleTierReconciler::Parts{
            client_.get(), events_.get(), prometheus_.get(), &clock_, &metrics_,
            scale_tier::Images{flags_.postgres_image, flags_.pgbouncer_image, flags_.pgcat_image},
            [this](const kube::ObjectKey& key) { return scale_tiers_->Get(key); }, scale_tiers_->children(),
            ExternalHosts(), scale_tier::NetworkGuard{flags_.network_policies, operator_namespace_}}),
        "scaletierpolicy", flags_.workers);
  }

  // An upgrade by Helm leaves the resources as they are: a cluster may not know the kind yet, and must not be kept from
  // serving the others.
  bool Has(const kube::Resource& resource, const std::stop_token& stop) {
    constexpr Duration kPatience = std::chrono::seconds(10);
    kube::ListOptions options;
    options.limit = 1;
    while (!stop.stop_requested()) {
      Result<nlohmann::json> listed =
          client_->List(resource, flags_.watch_namespace, options, Deadline::After(kPatience), stop);
      if (listed.has_value()) return true;
      Code code = listed.error().code;
      if (code == Code::kNotFound || code == Code::kPermissionDenied) {
        log::Warn("a kind is not looked after: apply crds/ and the chart of this release, then restart",
                  {{"kind", resource.kind}, {"error", listed.error().message}});
        return false;
      }
      SleepFor(std::chrono::seconds(1), stop);
    }
    return false;
  }

  void MakeShadowTables() {
    shadow_tables_ = std::make_unique<Kind<crds::ShadowTablePolicy>>(
        client_.get(), &clock_, &metrics_,
        Kind<crds::ShadowTablePolicy>::Watches{shadow_table::kShadowTablePolicies, crds::DecodeShadowTablePolicy,
                                               flags_.watch_namespace, shadow_table::kShadowPolicyLabel,
                                               shadow_table::kOwned});
    shadow_table::ShadowTableReconciler::Parts parts{
        client_.get(),
        events_.get(),
        prometheus_.get(),
        &clock_,
        &metrics_,
        flags_.worker_image,
        [this](const kube::ObjectKey& key) { return shadow_tables_->Get(key); },
        [this](const kube::ObjectKey& key) { return scale_tiers_->Get(key); },
        shadow_tables_->children(),
        scale_tiers_->children(),
        ExternalHosts()};
    shadow_tables_->SetReconciler(std::make_unique<shadow_table::ShadowTableReconciler>(std::move(parts)),
                                  "shadowtablepolicy", flags_.workers);
  }

  void MakeSqlMigrations() {
    sql_migrations_ = std::make_unique<Kind<crds::SqlMigration>>(
        client_.get(), &clock_, &metrics_,
        Kind<crds::SqlMigration>::Watches{sql_migration::kSqlMigrations, crds::DecodeSqlMigration,
                                          flags_.watch_namespace, sql_migration::kMigrationLabel,
                                          sql_migration::kOwned});
    sql_migration::SqlMigrationReconciler::Parts parts{
        client_.get(),
        events_.get(),
        &clock_,
        &metrics_,
        flags_.worker_image,
        [this](const kube::ObjectKey& key) { return sql_migrations_->Get(key); },
        [this](const kube::ObjectKey& key) { return scale_tiers_->Get(key); },
        sql_migrations_->children(),
        scale_tiers_->children(),
        ExternalHosts()};
    sql_migrations_->SetReconciler(std::make_unique<sql_migration::SqlMigrationReconciler>(std::move(parts)),
                                   "sqlmigration", flags_.workers);
  }

  scale_tier::HostCheck ExternalHosts() const {
    return scale_tier::RefuseSpecialHosts({"kubernetes.default.svc", apiserver_});
  }

  [[nodiscard]] bool Synced() const {
    return scale_tiers_->synced() && (shadow_tables_ == nullptr || shadow_tables_->synced()) &&
           (sql_migrations_ == nullptr || sql_migrations_->synced());
  }

  void Start() {
    scale_tiers_->Start();
    if (shadow_tables_ != nullptr) shadow_tables_->Start();
    if (sql_migrations_ != nullptr) sql_migrations_->Start();
  }

  void Drain() {
    Deadline deadline = Deadline::After(kDrain);
    if (sql_migrations_ != nullptr) sql_migrations_->Stop(deadline);
    if (shadow_tables_ != nullptr) shadow_tables_->Stop(deadline);
    scale_tiers_->Stop(deadline);
  }

  Status Serve() {
    PGTIER_ASSIGN_OR_RETURN(
        server_,
        http::Server::Start(
            flags_.listen_address, flags_.port,
            {{"/metrics", [this] { return Page(200, metrics_.Serialize()); }},
             {"/healthz", [] { return Page(200, "ok\n"); }},
             {"/readyz", [this] { return Synced() ? Page(200, "ok\n") : Page(503, "caches are not synced\n"); }}}));
    log::Info("serving /metrics, /healthz and /readyz", {{"port", static_cast<long long>(server_->port())}});
    return {};
  }

  bool WaitForCaches(const std::stop_token& stop) {
    while (!Synced()) {
      if (!SleepFor(std::chrono::milliseconds(20), stop)) return false;
    }
    return true;
  }

  Status WorkUntil(const std::stop_token& stop) {
    Start();
    while (SleepFor(kTrim, stop)) malloc_trim(0);
    Drain();
    return {};
  }

  // Workers run only while we lead; the lease is given back after they are drained.
  Status Lead(const kube::Config& config, const std::stop_token& stop) {
    kube::LeaderElectionOptions options;
    options.lease = {flags_.lease_namespace.empty() ? config.namespace_ : flags_.lease_namespace, flags_.lease_name};
    options.identity = identity_;
    std::mutex mutex;  // Of the two flags: workers must not start while the process is told to stop.
    bool started = false;
    bool stopping = false;
    options.on_started = [&] {
      std::lock_guard lock(mutex);
      if (stopping) return;
      metrics_.Set("pgtier_leader", "1 while this process leads.", {}, 1);
      started = true;
      Start();
    };
    options.on_stopped = [&] { metrics_.Set("pgtier_leader", "1 while this process leads.", {}, 0); };
    kube::LeaderElector elector(client_.get(), &clock_, options);
    std::stop_source election;
    std::jthread drainer([&] {
      while (SleepFor(kTrim, stop) && !election.stop_requested()) malloc_trim(0);
      {
        std::lock_guard lock(mutex);
        stopping = true;
      }
      if (started) Drain();
      election.request_stop();
    });
    Status outcome = elector.Run(election.get_token());
    if (!outcome.has_value()) {
      // Whoever leads now may already act. Nothing is drained: the process ends.
      log::Error("leadership lost", {{"error", outcome.error().message}});
      std::quick_exit(1);
    }
    return {};
  }

  const Flags& flags_;
  SystemClock clock_;
  Metrics metrics_;
  std::string identity_;
  std::string apiserver_;  // Its host.
  std::string operator_namespace_;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<kube::EventRecorder> events_;
  std::unique_ptr<observe::Prometheus> prometheus_;
  std::unique_ptr<Kind<crds::ScaleTierPolicy>> scale_tiers_;
  std::unique_ptr<Kind<crds::ShadowTablePolicy>> shadow_tables_;  // Null: the cluster does not know the kind.
  std::unique_ptr<Kind<crds::SqlMigration>> sql_migrations_;      // Null as well.
  std::unique_ptr<http::Server> server_;
};

}  // namespace

Status RunOperator(const Flags& flags, const std::stop_token& stop) { return Operator(flags).Run(stop); }

}  // namespace pgtier

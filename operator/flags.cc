#include "operator/flags.h"

#include <CLI/CLI.hpp>

namespace pgtier {

std::optional<int> ParseFlags(int argc, char** argv, Flags& flags) {
  CLI::App app{"pgtier-operator grows Postgres through scale tiers when measured numbers say so."};
  app.set_version_flag("--version", PGTIER_VERSION);
  app.add_option("--kubeconfig", flags.kubeconfig,
                 "How to reach Kubernetes. Without it: $KUBECONFIG, the pod's service account, ~/.kube/config");
  app.add_option("--watch-namespace", flags.watch_namespace, "Only policies of this namespace; all when absent");
  app.add_flag("--leader-elect,!--no-leader-elect", flags.leader_elect, "One of several replicas acts")
      ->capture_default_str();
  app.add_option("--lease-name", flags.lease_name, "Name of the Lease that the leader holds")->capture_default_str();
  app.add_option("--lease-namespace", flags.lease_namespace, "Its namespace; the pod's own when absent");
  app.add_option("--listen-address", flags.listen_address,
                 "Where /metrics, /healthz and /readyz are served; :: is every address, of IPv4 too")
      ->capture_default_str();
  app.add_option("--port", flags.port, "Port of these; 0 takes any free one")->capture_default_str();
  app.add_option("--workers", flags.workers, "Policies worked on at once")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--allow-hosts", flags.allow_hosts,
                 "Hosts that policies may have asked for metrics, as patterns: *.monitoring,*.monitoring.svc")
      ->delimiter(',');
  app.add_flag("--network-policies", flags.network_policies,
               "Put NetworkPolicies around instances and poolers; without it, remove those that were made");
  app.add_option("--postgres-image", flags.postgres_image, "Image of managed Postgres where a policy names none")
      ->required();
  app.add_option("--pgbouncer-image", flags.pgbouncer_image, "Image of PgBouncer where a policy names none")
      ->required();
  app.add_option("--pgcat-image", flags.pgcat_image,
                 "Image of PgCat where a policy names none. pgtier ships none; without it engine PgCat is refused");
  app.add_option("--worker-image", flags.worker_image,
                 "Image of the workers of ShadowTablePolicies: the operator's own. Without it tier notify is refused");
  app.add_option("--log-level", flags.log_level, "debug, info, warn or error")
      ->capture_default_str()
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace pgtier

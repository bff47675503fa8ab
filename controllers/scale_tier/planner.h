// Makes one plan. An object of this class lives for one call of MakePlan; its parts stand in planner_instances.cc and
// planner_routing.cc.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "controllers/scale_tier/names.h"
#include "controllers/scale_tier/plan.h"

namespace pgtier::controllers::scale_tier {

class Planner {
 public:
  // All of it outlives this.
  Planner(const RenderContext& context, const Seen& seen, const core::Decision& decision,
          const Credentials& credentials, const TierSettings& tier, const Waited& waited)
      : context_(context), seen_(seen), decision_(decision), credentials_(credentials), tier_(tier), waited_(waited) {}

  Result<Plan> Make();
  // Only what a server needs to start.
  Plan MakeForRecovery();

 private:
  [[nodiscard]] const std::string& policy() const { return context_.policy.meta.name; }
  [[nodiscard]] std::string PrimaryName() const { return InstanceName(policy(), seen_.primary_ordinal); }
  [[nodiscard]] std::vector<int> Replicas() const { return ReplicaOrdinals(seen_.primary_ordinal, tier_.replicas); }
  // The instance as seen, or nullptr.
  [[nodiscard]] const InstanceSeen* Instance(int ordinal) const;

  // Nothing may be planned then: a Service made on a guess would give the database two primaries.
  bool PrimaryIsUnknown();
  // Every instance that exists speaks TLS, so whoever connects may demand it.
  [[nodiscard]] bool Encrypted() const;
  [[nodiscard]] PostgresTerms Terms() const;

  void Wait(const std::string& what);
  void Refuse(const std::string& why);
  // Applies `object` unless the live one says the same.
  void Apply(const kube::Resource& resource, nlohmann::json object);
  void RemoveIfThere(const kube::Resource& resource, const std::string& name);

  // --- planner_instances.cc
  void AddSecretsAndConfig();
  void AddPrimary();
  // Why the primary must not be touched: it is not the server that it was. Empty: it is.
  [[nodiscard]] std::string Stranger() const;
  void AddReplicas();
  void AddPasswords();
  void AddReplica(int ordinal);
  // Whether a standby can never go on, because the primary has thrown away WAL that it needs.
  bool IsCutOff(const InstanceSeen& instance);
  // What a standby is waited for that answers and does not stream.
  std::string WhyItDoesNotStream(const InstanceSeen& instance);
  // Refuses to touch an instance that takes writes and is not the primary.
  bool IsSecondWriter(const InstanceSeen& instance);
  void CloneAnew(const std::string& name, const std::string& why);
  void AddInstance(int ordinal);
  void AddReloads();
  void RemoveSurplusReplicas();
  void RemoveInstance(const std::string& name);
  [[nodiscard]] std::string PinnedImage() const;

  // --- planner_external.cc
  Result<Plan> MakeExternal();
  void AddExternalServer();
  [[nodiscard]] poolers::Server ExternalPrimary() const;
  [[nodiscard]] poolers::Server ExternalReplica(const std::string& host) const;
  void AddExternalReplicas();
  [[nodiscard]] std::string ExternalHash() const;

  // --- planner_promotion.cc
  // Whether a promotion is all that this pass is about.
  bool AddPromotion();
  [[nodiscard]] Promotion BeginPromotion(const std::string& annotation) const;
  bool FencePrimary();
  void PromoteHeir();
  [[nodiscard]] bool IsGone(const std::string& instance) const;
  // --- planner_return.cc
  // Of a promotion's heir, or of the primary itself: whether it answers, and says that it takes writes.
  [[nodiscard]] bool TakesWrites(const std::string& instance) const;
  // Refuses where the heir takes writes beside the primary: who of them goes on, a person must say.
  bool BothTakeWrites();
  // A standby cannot run there any more, and nobody but a person will start it.
  [[nodiscard]] bool IsStopped(const std::string& instance) const;
  void ReturnPrimary();
  // Empty, or who takes writes that is neither of the promotion's two, and what to do. Where nobody knows of whom to be
  // afraid, also who does not answer and so may take them.
  enum class Silent { kMayBe, kIsSuspect };
  [[nodiscard]] std::string OtherWriter(const Promotion& promotion, Silent silent) const;
  // A primary that came up as a standby is asked to take writes again.
  [[nodiscard]] Promotion BeginReturn(Promotion begun) const;
  // What a person asks for while a promotion runs: to accept the loss, to go back, or to take another heir. Whether
  // this pass is about that and nothing else.
  bool HeedRequest(const std::string& annotation);
  bool TakeAnotherHeir(const std::string& annotation, const std::string& heir);
  // Its StatefulSet is to run nothing; the volume stays.
  void StopInstance(int ordinal);
  // The same of an heir, because a person has said that it must not be waited for. Whether it is stopped.
  bool StopHeir(const std::string& before_what);
  // --- planner_promotion.cc
  void HoldClientsOfPrimary();
  // Of poolers that were held, whoever held them.
  void LetHeldClientsGoOn();
  [[nodiscard]] const postgres::WalPosition* Position(const std::string& instance) const;
  [[nodiscard]] std::string Newer(const std::string& from, const std::string& to) const;
  [[nodiscard]] nlohmann::json PrimaryServiceAs(int ordinal, int64_t term, const Promotion& promotion) const;
  void MovePrimaryService(int ordinal, int64_t term, const Promotion& promotion);
  [[nodiscard]] nlohmann::json PostgresConfigAs(const std::string& primary, int64_t term) const;
  // Who the primary is, as instances are told now; nobody where there is no such ConfigMap.
  [[nodiscard]] PrimaryWord ToldPrimary() const;
  // The term of the primary that is: one more than known where it is another than instances were told (somebody moved
  // the selector, or it was found without the Service), so that no instance believes the word of before.
  [[nodiscard]] int64_t Term() const;
  void KeepBoot(nlohmann::json& set, int ordinal) const;
  // --- planner_upkeep.cc
  void AddNetworkPolicies();
  void GrowVolumes();
  void KeepVolume(nlohmann::json& set);
  bool FitVolume(nlohmann::json& set, const std::string& name);
  void ChooseRestart();
  void AddRestart();

  // --- planner_routing.cc
  Status AddPoolers();
  // A pooler of the tier; of a `former` engine only what keeps its pods serving as they should.
  Status AddPooler(const TierSettings& tier, const std::string& endpoint, const std::vector<poolers::Server>& servers,
                   bool former);
  void ApplyPooler(const TierSettings& tier, const std::string& endpoint);
  // Brings each ready pod of a pooler to what its engine compares: `differences` gives what a pod that answered runs
  // otherwise, `reload` the action that mends it. Then notes whether they serve, unless they are `former`.
  Status AddReloadsOf(const TierSettings& tier, const std::string& endpoint, bool former,
                      const std::function<Result<std::vector<poolers::Difference>>(const PoolerPodSeen&)>& differences,
                      const std::function<Action(const PoolerPodSeen&)>& reload);
  // Notes whether the pods of a pooler serve, or what they are waited for.
  void NoteServing(const TierSettings& tier, const std::string& endpoint, int ready, bool as_wanted);
  [[nodiscard]] bool RoutedBefore(const std::string& replica) const;
  [[nodiscard]] bool IsExternal() const { return context_.policy.spec.external.has_value(); }
  [[nodiscard]] poolers::Server Primary() const;
  [[nodiscard]] poolers::Server Replica(const std::string& name) const;
  // Who takes reads: replicas, or the primary while there is none that may.
  std::vector<poolers::Server> ReadServers();
  // Reads stay where they are.
  void KeepRouting();
  void AddMaterializedViews();
  void AddRecord();

  // --- planner_pgcat.cc
  Status AddPgCat(const TierSettings& tier, const std::string& endpoint, const std::vector<poolers::Server>& servers,
                  bool former);
  void AddBans(const PoolerPodSeen& pod, const std::vector<poolers::Server>& servers);

  // --- planner_engine.cc
  [[nodiscard]] bool IsThere(const std::string& engine) const;
  // What the poolers of the other engine than the tier's run with.
  [[nodiscard]] TierSettings FormerTier() const;
  // All poolers of the tier's engine. `reads`: who takes reads; nullptr: not known now, they stay where they are.
  Status AddEngine(const TierSettings& tier, bool former, const std::vector<poolers::Server>* reads);
  // The pooler that a Service leads to, as seen; empty: none.
  [[nodiscard]] std::string SelectedBy(const std::string& service) const;
  void AddEndpoints();
  void AddFormerEngine();
  void RetirePooler(const std::string& pooler);

  const RenderContext& context_;
  const Seen& seen_;
  const core::Decision& decision_;
  const Credentials& credentials_;
  const TierSettings& tier_;
  const Waited& waited_;
  std::string restarting_;  // The instance that is to be restarted; reads leave it first.
  Plan plan_;
  std::set<std::string> serving_;  // Poolers of which enough pods serve as wanted.
};

// Why a standby that streams takes no reads: "lags 12s, over maxLag 1s; it takes no reads".
std::string LagInWords(const InstanceSeen& instance, Duration max_lag);

// Whether status says that the replica takes reads.
bool IsRouted(const crds::ScaleTierPolicyStatus& status, const std::string& replica);

}  // namespace pgtier::controllers::scale_tier

// The API's resources that this controller deals with.
#pragma once

#include "crds/scale_tier_policy.h"
#include "lib/kube/resource.h"

namespace pgtier::controllers::scale_tier {

inline constexpr kube::Resource kScaleTierPolicies{crds::kGroup, crds::kVersion, "scaletierpolicies",
                                                   "ScaleTierPolicy"};

// What a policy may own. Each is watched by the label pgtier.dev/policy, so each needs the verbs list and watch in
// helm/pgtier/templates/_helpers.tpl; what is not listed here is not in Seen.
inline constexpr kube::Resource kOwned[] = {kube::kPods,
                                            kube::kServices,
                                            kube::kSecrets,
                                            kube::kConfigMaps,
                                            kube::kStatefulSets,
                                            kube::kDeployments,
                                            kube::kPodDisruptionBudgets,
                                            kube::kPersistentVolumeClaims,
                                            kube::kNetworkPolicies};

}  // namespace pgtier::controllers::scale_tier

// Events and metrics that every ladder has.
#pragma once

#include <string>
#include <vector>

#include "controllers/ladder/status.h"
#include "lib/base/metrics.h"
#include "lib/kube/client.h"
#include "lib/kube/event_recorder.h"

namespace pgtier::controllers {

// What a person would want to be told of, between two statuses.
struct Note {
  bool warning = false;
  std::string reason;
  std::string message;
};

// Changes of tier that began or ended, and plans that were approved or wait.
void NoteTiers(const crds::LadderStatus& before, const crds::LadderStatus& after, std::vector<Note>& notes);
// Ready, Stalled, MetricsAvailable and Degraded, and what an observing policy would have done.
void NoteConditions(const crds::LadderStatus& before, const crds::LadderStatus& after, std::vector<Note>& notes);

// Writes the status, and an event for each note. The policy's version makes it a compare-and-swap: a status derived
// from an old object is refused (kAborted), and derived again.
Status Publish(const kube::Resource& resource, const crds::Meta& policy, const nlohmann::json& status,
               const std::vector<Note>& notes, kube::Client& client, kube::EventRecorder& events, Deadline deadline,
               const std::stop_token& stop);

// The tier that runs and every trigger, in series with the labels of `policy`.
void ExportLadder(const LadderPass& pass, const crds::LadderStatus& status, const Labels& policy, Metrics& metrics);

}  // namespace pgtier::controllers

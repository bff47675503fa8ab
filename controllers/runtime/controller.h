// Takes keys from a queue and gives each a pass, on a few threads of its own.
#pragma once

#include <string>
#include <thread>
#include <vector>

#include "controllers/runtime/reconciler.h"
#include "lib/base/metrics.h"
#include "lib/kube/work_queue.h"

namespace pgtier::controllers {

struct ControllerOptions {
  std::string name;  // In logs and metrics: "scaletierpolicy".
  int workers = 4;
  Duration pass_timeout = std::chrono::seconds(60);
};

class Controller {
 public:
  // All outlive this.
  Controller(ControllerOptions options, kube::WorkQueue* queue, Reconciler* reconciler, Metrics* metrics);

  // Starts the workers; call once, after the caches are synced and leadership is won.
  void Start();
  // Takes no more keys and waits for the passes under way; those that outlast `deadline` are told to stop.
  void Stop(Deadline deadline);

 private:
  void Work(const std::stop_token& stop);
  void Pass(const kube::ObjectKey& key, const std::stop_token& stop);

  const ControllerOptions options_;
  kube::WorkQueue* const queue_;
  Reconciler* const reconciler_;
  Metrics* const metrics_;
  std::vector<std::jthread> workers_;
};

}  // namespace pgtier::controllers

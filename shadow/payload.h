// Rows that come in notifications (delivery Payload of tier notify), as the worker hears them. All of it may be called
// by kNotifyRole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/connection.h"

namespace pgtier::shadow {

// Listens on the policy's channel from now on. What was sent before and heard by nobody is gone; gives whether a gap
// was written down for that.
Result<bool> BeginListening(postgres::Connection& connection, const std::string& policy, Deadline deadline);

struct Accepted {
  int64_t taken = 0;    // rows that are in the outboxes now, for good
  int64_t buried = 0;   // rows that went into pgtier.shadow_dead_letters
  int64_t strange = 0;  // notifications that are not pgtier's
  std::string beat;     // of the newest beat among them; empty: there was none
};

// What came on the channel, in its order. In one transaction: after an error none of it was taken, unless the
// connection was lost (then nobody knows).
Result<Accepted> Accept(postgres::Connection& connection, const std::string& policy,
                        const std::vector<std::string>& payloads, Deadline deadline);

// Sends a notification to who listens. When it is heard, all that was committed before it has been. Gives what
// Accepted::beat will be.
Result<std::string> SendBeat(postgres::Connection& connection, const std::string& policy, Deadline deadline);

// Transactions that may have found that somebody listens: each has a lock on a source. As the text of an array.
Result<std::string> PossibleSenders(postgres::Connection& connection, const std::string& policy, Deadline deadline);
// Whether all of these have ended.
Result<bool> HaveEnded(postgres::Connection& connection, const std::string& transactions, Deadline deadline);

// Nobody sends any more, and all that was sent has been heard: the next who listens finds no gap.
Status EndListening(postgres::Connection& connection, const std::string& policy, Deadline deadline);

}  // namespace pgtier::shadow

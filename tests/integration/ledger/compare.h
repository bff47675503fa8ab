// Histories held against the ledger of who changed their sources.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/integration/ledger/application.h"

namespace pgtier::testing {

struct Comparison {
  size_t rows = 0;       // of the histories
  std::string of_cdc;    // how many of them tier cdc wrote: those of epoch 2
  std::string failures;  // what is missing, too many or out of order, a line each; empty: exact
};

// The application must have ended, with nothing of it left prepared. `rows` asks the database in which it worked: a
// line for each row, values between bars, NULL as "-". Adds to the ledger the transactions that committed unknown to
// it.
Comparison Compared(Ledger& ledger, const std::function<std::vector<std::string>(const std::string& sql)>& rows);

}  // namespace pgtier::testing

#include "tests/integration/ledger/compare.h"

#include <algorithm>
#include <iterator>
#include <set>

namespace pgtier::testing {
namespace {

// Lines of one that the other lacks, as a multiset; the first few. Empty: none.
std::string Difference(const std::vector<std::string>& one, const std::vector<std::string>& other) {
  std::vector<std::string> lacks;
  std::set_difference(one.begin(), one.end(), other.begin(), other.end(), std::back_inserter(lacks));
  if (lacks.empty()) return "";
  std::string text = std::to_string(lacks.size());
  for (size_t i = 0; i < std::min<size_t>(8, lacks.size()); ++i) text += "\n  " + lacks[i];
  return text;
}

}  // namespace

Comparison Compared(Ledger& ledger, const std::function<std::vector<std::string>(const std::string& sql)>& rows) {
  Comparison found;
  auto fail = [&](const std::string& what) { found.failures += what + "\n"; };
  auto expect_none = [&](const std::string& what, const std::string& sql) {
    if (std::string count = rows(sql).at(0); count != "0") fail(count + " " + what);
  };
  // What the server acknowledged is committed; of what it did not, the database knows.
  std::set<std::string> committed;
  if (!ledger.unknown.empty()) {
    for (std::string& id : rows("SELECT id FROM commits")) committed.insert(std::move(id));
  }
  for (auto& [number, events] : ledger.unknown) {
    if (!committed.contains(std::to_string(number))) continue;
    ledger.events.insert(ledger.events.end(), events.begin(), events.end());
  }
  std::vector<std::string> history;
  std::string of_cdc;
  for (const char* table : kLedgerTables) {
    const std::string name = std::string(table) + "_history";
    auto lines =
        rows(std::string("SELECT '") + table + "', operation, id, uid, ver, old_id, old_ver, actor FROM " + name);
    history.insert(history.end(), lines.begin(), lines.end());
    // In the order of (epoch, position) each change of a row follows the one before.
    expect_none("changes of " + name + " that are out of order",
                "SELECT count(*) FROM (SELECT ver, operation, lag(ver) OVER w AS before FROM " + name +
                    " WINDOW w AS (PARTITION BY uid ORDER BY epoch, position)) AS h"
                    " WHERE before IS NOT NULL AND ver <> before + (operation <> 'DELETE')::int");
    expect_none("positions of " + name + " that are there twice",
                "SELECT count(*) - count(DISTINCT position) FROM " + name);
    of_cdc += (of_cdc.empty() ? "SELECT (" : " + (") + ("SELECT count(*) FROM " + name) + " WHERE epoch = 2)";
  }
  std::sort(history.begin(), history.end());
  std::sort(ledger.events.begin(), ledger.events.end());
  found.rows = history.size();
  const std::string lost = Difference(ledger.events, history), more = Difference(history, ledger.events);
  if (!lost.empty()) fail("the application did, and no history has, " + lost);
  if (!more.empty()) fail("a history has, and the application never did, " + more);
  // Each tier has had its part of it.
  found.of_cdc = rows(of_cdc).at(0);
  if (found.of_cdc == "0") fail("nothing was written in cdc");
  return found;
}

}  // namespace pgtier::testing

#include "cli/table.h"

#include <algorithm>

namespace pgtier::cli {

bool WantsColours(bool is_terminal, const char* no_color, const char* term) {
  if (!is_terminal || (no_color != nullptr && *no_color != '\0')) return false;
  return term == nullptr || std::string(term) != "dumb";
}

std::string Style::Paint(const std::string& text, Tone tone) const {
  if (!colours || tone == Tone::kPlain) return text;
  const char* code = "";
  switch (tone) {
    case Tone::kStrong:
      code = "1";
      break;
    case Tone::kDim:
      code = "2";
      break;
    case Tone::kGood:
      code = "32";
      break;
    case Tone::kWarning:
      code = "33";
      break;
    case Tone::kBad:
      code = "31";
      break;
    case Tone::kPlain:
      break;
  }
  return std::string("\x1b[") + code + "m" + text + "\x1b[0m";
}

Table::Table(const std::vector<std::string>& header) {
  std::vector<Cell> row;
  row.reserve(header.size());
  for (const std::string& title : header) row.push_back({title, Tone::kDim});
  rows_.push_back(std::move(row));
}

std::string Table::Render(const Style& style) const {
  std::vector<size_t> widths;
  for (const std::vector<Cell>& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  std::string text;
  for (const std::vector<Cell>& row : rows_) {
    size_t last = row.size();
    while (last > 0 && row[last - 1].text.empty()) --last;
    for (size_t i = 0; i < last; ++i) {
      text += style.Paint(row[i].text, row[i].tone);
      if (i + 1 < last) text += std::string(widths[i] - row[i].text.size() + 3, ' ');
    }
    text += '\n';
  }
  return text;
}

}  // namespace pgtier::cli

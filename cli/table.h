// Text for terminals: columns and colours.
#pragma once

#include <string>
#include <vector>

namespace pgtier::cli {

enum class Tone { kPlain, kStrong, kDim, kGood, kWarning, kBad };

// Whether colours are wanted: on a terminal, unless NO_COLOR is set to anything (no-color.org) or TERM is "dumb".
bool WantsColours(bool is_terminal, const char* no_color, const char* term);

struct Style {
  bool colours = false;
  [[nodiscard]] std::string Paint(const std::string& text, Tone tone) const;
};

struct Cell {
  std::string text;
  Tone tone = Tone::kPlain;
};

// Columns as wide as their widest cell, three spaces between them, nothing after the last: as kubectl prints.
class Table {
 public:
  explicit Table(const std::vector<std::string>& header);
  void Add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  [[nodiscard]] std::string Render(const Style& style) const;

 private:
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace pgtier::cli

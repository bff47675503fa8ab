#include "lib/observe/json_path.h"

#include <cctype>
#include <charconv>

namespace pgtier::observe {
namespace {

// Reads a path from its beginning; every method leaves the position behind what it read.
class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  [[nodiscard]] bool AtEnd() const { return at_ >= text_.size(); }

  bool Take(char c) {
    if (AtEnd() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void SkipBlanks() {
    while (!AtEnd() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  [[nodiscard]] Error Wrong(const std::string& what) const {
    return MakeError(Code::kInvalidArgument, what + " at character " + std::to_string(at_ + 1) + " of " + text_);
  }

  // What follows a dot: letters, digits, _ and what is not ASCII, not beginning with a digit (RFC 9535, 2.5.1.1).
  Result<std::string> Name() {
    size_t begin = at_;
    while (!AtEnd() && IsNameChar(text_[at_])) ++at_;
    if (at_ == begin || std::isdigit(static_cast<unsigned char>(text_[begin])) != 0) {
      at_ = begin;
      return Wrong("a name, or ['a name'] in brackets, is needed");
    }
    return text_.substr(begin, at_ - begin);
  }

  // A quoted name; the opening quote has been taken.
  Result<std::string> Quoted(char quote) {
    std::string name;
    while (!AtEnd()) {
      char c = text_[at_++];
      if (c == quote) return name;
      if (c == '\\') {
        if (AtEnd() || (text_[at_] != '\\' && text_[at_] != '\'' && text_[at_] != '"' && text_[at_] != '/')) {
          return Wrong("only \\\\, \\', \\\" and \\/ may be escaped");
        }
        c = text_[at_++];
      }
      name += c;
    }
    return Wrong("a quote is not closed");
  }

  Result<int64_t> Index() {
    size_t begin = at_;
    std::ignore = Take('-');  // Counts from the end.
    size_t digits = at_;
    while (!AtEnd() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) ++at_;
    int64_t index = 0;
    auto [end, error] = std::from_chars(text_.data() + begin, text_.data() + at_, index);
    bool leading_zero = at_ - digits > 1 && text_[digits] == '0';
    bool minus_zero = digits > begin && index == 0;
    if (error != std::errc() || end != text_.data() + at_ || leading_zero || minus_zero) {
      at_ = begin;
      return Wrong("an index or a quoted name is needed (no wildcard, slice or filter)");
    }
    return index;
  }

 private:
  static bool IsNameChar(char c) {
    auto byte = static_cast<unsigned char>(c);
    constexpr unsigned char kFirstBeyondAscii = 0x80;
    return std::isalnum(byte) != 0 || c == '_' || byte >= kFirstBeyondAscii;
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

Result<JsonPath> JsonPath::Parse(const std::string& text) {
  JsonPath path;
  Parser parser(text);
  if (!parser.Take('$')) return parser.Wrong("a path begins with $:");
  while (!parser.AtEnd()) {
    if (parser.Take('.')) {
      PGTIER_ASSIGN_OR_RETURN(std::string name, parser.Name());
      path.steps_.emplace_back(std::move(name));
      continue;
    }
    if (!parser.Take('[')) return parser.Wrong("a dot or a bracket is needed");
    parser.SkipBlanks();
    bool single = parser.Take('\'');
    if (single || parser.Take('"')) {
      PGTIER_ASSIGN_OR_RETURN(std::string name, parser.Quoted(single ? '\'' : '"'));
      path.steps_.emplace_back(std::move(name));
    } else {
      PGTIER_ASSIGN_OR_RETURN(int64_t index, parser.Index());
      path.steps_.emplace_back(index);
    }
    parser.SkipBlanks();
    if (!parser.Take(']')) return parser.Wrong("a bracket is not closed");
  }
  return path;
}

const nlohmann::json* JsonPath::Find(const nlohmann::json& document) const {
  const nlohmann::json* at = &document;
  for (const auto& step : steps_) {
    if (const auto* name = std::get_if<std::string>(&step)) {
      if (!at->is_object()) return nullptr;
      auto found = at->find(*name);
      if (found == at->end()) return nullptr;
      at = &*found;
      continue;
    }
    if (!at->is_array()) return nullptr;
    auto size = static_cast<int64_t>(at->size());
    int64_t index = std::get<int64_t>(step);
    if (index < 0) index += size;
    if (index < 0 || index >= size) return nullptr;
    at = &(*at)[static_cast<size_t>(index)];
  }
  return at;
}

}  // namespace pgtier::observe

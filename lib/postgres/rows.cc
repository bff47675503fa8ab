#include "lib/postgres/rows.h"

#include <charconv>

#include "lib/postgres/connection_impl.h"

namespace pgtier::postgres {
namespace {

template <typename T>
std::optional<T> ParseValue(std::string_view text) {
  if constexpr (std::is_same_v<T, std::string>) {
    return std::string(text);
  } else if constexpr (std::is_same_v<T, bool>) {
    if (text == "t" || text == "true" || text == "1") return true;
    if (text == "f" || text == "false" || text == "0") return false;
    return std::nullopt;
  } else {
    T value{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
  }
}

template <typename T>
constexpr const char* kTypeName = "an integer";
template <>
constexpr const char* kTypeName<std::string> = "a text";
template <>
constexpr const char* kTypeName<bool> = "a boolean";
template <>
constexpr const char* kTypeName<double> = "a number";

}  // namespace

Rows::Rows() = default;
Rows::Rows(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

size_t Rows::size() const { return impl_ == nullptr ? 0 : static_cast<size_t>(PQntuples(impl_->result)); }

size_t Rows::columns() const { return impl_ == nullptr ? 0 : static_cast<size_t>(PQnfields(impl_->result)); }

std::string_view Rows::ColumnName(size_t column) const {
  return column < columns() ? PQfname(impl_->result, static_cast<int>(column)) : "";
}

std::optional<size_t> Rows::Column(std::string_view name) const {
  // Not PQfnumber: that folds case as SQL does, and a name is a name here.
  for (size_t i = 0; i < columns(); ++i) {
    if (ColumnName(i) == name) return i;
  }
  return std::nullopt;
}

int64_t Rows::affected() const {
  if (impl_ == nullptr) return 0;
  std::string_view tag = PQcmdStatus(impl_->result);
  if (tag.starts_with("SELECT") || tag.starts_with("FETCH") || tag.starts_with("SHOW")) return 0;
  // libpq's signature is not const; it only reads.
  return ParseValue<int64_t>(PQcmdTuples(impl_->result)).value_or(0);
}

std::string_view Rows::command() const { return impl_ == nullptr ? "" : PQcmdStatus(impl_->result); }

Row Rows::operator[](size_t index) const { return {*this, index}; }

Result<Row> Rows::Single() const {
  if (size() == 1) return (*this)[0];
  if (empty()) return MakeError(Code::kNotFound, "no row where one was expected");
  return MakeError(Code::kInternal, std::to_string(size()) + " rows where one was expected");
}

Rows::Iterator Rows::begin() const { return {this, 0}; }
Rows::Iterator Rows::end() const { return {this, size()}; }

bool Row::Has(std::string_view column) const { return rows_.Column(column).has_value(); }

std::optional<std::string_view> Row::Text(size_t column) const {
  if (column >= rows_.columns() || index_ >= rows_.size()) return std::nullopt;
  PGresult* result = rows_.impl_->result;
  int row = static_cast<int>(index_);
  int field = static_cast<int>(column);
  if (PQgetisnull(result, row, field) == 1) return std::nullopt;
  return std::string_view(PQgetvalue(result, row, field), static_cast<size_t>(PQgetlength(result, row, field)));
}

std::optional<std::string_view> Row::Text(std::string_view column) const {
  auto index = rows_.Column(column);
  return index.has_value() ? Text(*index) : std::nullopt;
}

template <typename T>
Result<std::optional<T>> Row::Find(size_t column) const {
  if (column >= rows_.columns()) {
    return MakeError(Code::kNotFound, "the answer has no column " + std::to_string(column));
  }
  auto text = Text(column);
  if (!text.has_value()) return std::optional<T>();
  auto value = ParseValue<T>(*text);
  if (!value.has_value()) {
    return MakeError(Code::kInvalidArgument,
                     "column " + std::string(rows_.ColumnName(column)) + " is not " + kTypeName<T>);
  }
  return value;
}

template <typename T>
Result<std::optional<T>> Row::Find(std::string_view column) const {
  auto index = rows_.Column(column);
  if (!index.has_value()) return MakeError(Code::kNotFound, "the answer has no column " + std::string(column));
  return Find<T>(*index);
}

template <typename T>
Result<T> Row::Get(size_t column) const {
  PGTIER_ASSIGN_OR_RETURN(auto value, Find<T>(column));
  if (!value.has_value()) {
    return MakeError(Code::kFailedPrecondition, "column " + std::string(rows_.ColumnName(column)) + " is NULL");
  }
  return *std::move(value);
}

template <typename T>
Result<T> Row::Get(std::string_view column) const {
  auto index = rows_.Column(column);
  if (!index.has_value()) return MakeError(Code::kNotFound, "the answer has no column " + std::string(column));
  return Get<T>(*index);
}

template Result<std::string> Row::Get(size_t) const;
template Result<std::string> Row::Get(std::string_view) const;
template Result<std::optional<std::string>> Row::Find(size_t) const;
template Result<std::optional<std::string>> Row::Find(std::string_view) const;
template Result<int64_t> Row::Get(size_t) const;
template Result<int64_t> Row::Get(std::string_view) const;
template Result<std::optional<int64_t>> Row::Find(size_t) const;
template Result<std::optional<int64_t>> Row::Find(std::string_view) const;
template Result<double> Row::Get(size_t) const;
template Result<double> Row::Get(std::string_view) const;
template Result<std::optional<double>> Row::Find(size_t) const;
template Result<std::optional<double>> Row::Find(std::string_view) const;
template Result<bool> Row::Get(size_t) const;
template Result<bool> Row::Get(std::string_view) const;
template Result<std::optional<bool>> Row::Find(size_t) const;
template Result<std::optional<bool>> Row::Find(std::string_view) const;

}  // namespace pgtier::postgres

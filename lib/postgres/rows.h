// The answer to a statement, read by column name or index. Values are text, as the server sends them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lib/base/result.h"

namespace pgtier::postgres {

class Row;

// An immutable set of rows; copies share the memory.
class Rows {
 public:
  Rows();  // no rows, no columns

  [[nodiscard]] size_t size() const;
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] size_t columns() const;
  [[nodiscard]] std::string_view ColumnName(size_t column) const;
  // The index of the first column of that name; nothing when there is none.
  [[nodiscard]] std::optional<size_t> Column(std::string_view name) const;
  // How many rows INSERT, UPDATE, DELETE, MERGE or COPY touched; 0 for other commands.
  [[nodiscard]] int64_t affected() const;
  // The command's tag: "SELECT 3", "COMMIT", "ROLLBACK".
  [[nodiscard]] std::string_view command() const;
  // `index` must be below size().
  [[nodiscard]] Row operator[](size_t index) const;
  // The only row; kNotFound for none, kInternal for several.
  [[nodiscard]] Result<Row> Single() const;

  class Iterator;
  [[nodiscard]] Iterator begin() const;
  [[nodiscard]] Iterator end() const;

  // libpq's result, owned; only lib/postgres knows its shape.
  struct Impl;
  explicit Rows(std::shared_ptr<const Impl> impl);

 private:
  friend class Row;
  std::shared_ptr<const Impl> impl_;
};

// One row; keeps the memory of its Rows alive. T is std::string, int64_t, double or bool.
class Row {
 public:
  // Whether the answer has that column (the admin console's columns grow by version).
  [[nodiscard]] bool Has(std::string_view column) const;
  // The text; nothing for NULL and for a column that isn't there.
  [[nodiscard]] std::optional<std::string_view> Text(std::string_view column) const;
  [[nodiscard]] std::optional<std::string_view> Text(size_t column) const;

  // The value. Errors: kNotFound: no such column; kFailedPrecondition: NULL; kInvalidArgument: not a T.
  template <typename T>
  [[nodiscard]] Result<T> Get(std::string_view column) const;
  template <typename T>
  [[nodiscard]] Result<T> Get(size_t column) const;
  // The value, nothing for NULL. Errors: kNotFound: no such column; kInvalidArgument: not a T.
  template <typename T>
  [[nodiscard]] Result<std::optional<T>> Find(std::string_view column) const;
  template <typename T>
  [[nodiscard]] Result<std::optional<T>> Find(size_t column) const;

 private:
  friend class Rows;
  Row(Rows rows, size_t index) : rows_(std::move(rows)), index_(index) {}
  Rows rows_;
  size_t index_;
};

class Rows::Iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = Row;
  using difference_type = std::ptrdiff_t;
  using pointer = const Row*;
  using reference = Row;

  Iterator(const Rows* rows, size_t index) : rows_(rows), index_(index) {}
  Row operator*() const { return (*rows_)[index_]; }
  Iterator& operator++() {
    ++index_;
    return *this;
  }
  bool operator==(const Iterator& other) const { return index_ == other.index_; }

 private:
  const Rows* rows_;
  size_t index_;
};

}  // namespace pgtier::postgres

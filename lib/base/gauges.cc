#include "lib/base/gauges.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

namespace pgtier {
namespace {

// Labels that say which object a series is of.
bool NamesObject(const std::string& label) { return label == "namespace" || label == "policy"; }

void AppendEscaped(std::string_view value, std::string& text) {
  for (char c : value) {
    if (c == '\\') {
      text += "\\\\";
    } else if (c == '"') {
      text += "\\\"";
    } else if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
}

void AppendLabel(const std::string& name, const std::string& value, std::string& text) {
  if (!text.empty()) text += ',';
  text.append(name).append("=\"");
  AppendEscaped(value, text);
  text += '"';
}

struct LabelText {
  std::string object;
  std::string rest;
};

LabelText Split(const Labels& labels) {
  LabelText text;
  for (const auto& [name, value] : labels) AppendLabel(name, value, NamesObject(name) ? text.object : text.rest);
  return text;
}

void AppendValue(double value, std::string& text) {
  if (std::isnan(value)) {
    text += "NaN";
  } else if (std::isinf(value)) {
    text += value > 0 ? "+Inf" : "-Inf";
  } else {
    char digits[32];
    text.append(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
  }
}

// Whether `all`, labels as text, has every label of `some`. Quotes within
// values are escaped, so that `name="value"` after a comma can be nothing else.
bool Has(const std::string& all, const Labels& some) {
  return std::all_of(some.begin(), some.end(), [&](const auto& label) {
    std::string wanted;
    AppendLabel(label.first, label.second, wanted);
    return ("," + all + ",").find("," + wanted + ",") != std::string::npos;
  });
}

}  // namespace

void Gauges::Set(const std::string& name, const std::string& help, const Labels& labels, double value) {
  LabelText text = Split(labels);
  std::lock_guard lock(mutex_);
  auto family = std::find_if(families_.begin(), families_.end(), [&](const Family& each) { return each.name == name; });
  if (family == families_.end()) family = families_.insert(family, {name, help});
  const auto index = static_cast<uint32_t>(family - families_.begin());
  auto rest = rests_.try_emplace(std::move(text.rest), 0).first;
  std::vector<Sample>& samples = objects_[std::move(text.object)];
  for (Sample& sample : samples) {
    if (sample.family != index || sample.rest != rest) continue;
    sample.value = value;
    return;
  }
  samples.reserve(samples.size() + 1);
  samples.push_back({index, rest, value});
  ++rest->second;
}

void Gauges::Forget(const Labels& labels) {
  Labels of_object;
  Labels others;
  for (const auto& label : labels) (NamesObject(label.first) ? of_object : others).insert(label);
  std::lock_guard lock(mutex_);
  auto forget = [&](const Sample& sample) {
    if (!Has(sample.rest->first, others)) return false;
    if (--sample.rest->second == 0) rests_.erase(sample.rest);
    return true;
  };
  auto forget_in = [&](auto object) {
    std::erase_if(object->second, forget);
    return object->second.empty() ? objects_.erase(object) : std::next(object);
  };
  if (of_object.size() == 2) {
    auto object = objects_.find(Split(of_object).object);
    if (object != objects_.end()) forget_in(object);
    return;
  }
  for (auto object = objects_.begin(); object != objects_.end();) {
    object = Has(object->first, of_object) ? forget_in(object) : std::next(object);
  }
}

void Gauges::Serialize(std::string& text) const {
  std::lock_guard lock(mutex_);
  for (uint32_t index = 0; index < families_.size(); ++index) {
    const Family& family = families_[index];
    bool begun = false;
    for (const auto& [object, samples] : objects_) {
      for (const Sample& sample : samples) {
        if (sample.family != index) continue;
        if (!begun) {
          text.append("# HELP ").append(family.name).append(" ").append(family.help).append("\n");
          text.append("# TYPE ").append(family.name).append(" gauge\n");
          begun = true;
        }
        text += family.name;
        if (!object.empty() || !sample.rest->first.empty()) {
          text.append("{").append(object);
          if (!object.empty() && !sample.rest->first.empty()) text += ',';
          text.append(sample.rest->first).append("}");
        }
        text += ' ';
        AppendValue(sample.value, text);
        text += '\n';
      }
    }
  }
}

}  // namespace pgtier

//! Typed reading of single settings: one function per kind of value, each with its range and its error.

use super::error::ConfigError;
use super::settings::{Setting, Settings};
use std::ops::RangeInclusive;

const INT_MIN: i64 = i32::MIN as i64;
const INT_MAX: i64 = i32::MAX as i64;

/// `true` or `false`, in any case.
pub fn boolean(settings: &Settings, key: &str, default: bool) -> Result<bool, ConfigError> {
    choice(settings, key, default, &[("true", true), ("false", false)])
}

/// `yes` or `no`, in any case.
pub fn yes_no(settings: &Settings, key: &str, default: bool) -> Result<bool, ConfigError> {
    choice(settings, key, default, &[("yes", true), ("no", false)])
}

/// One of several words, in any case.
pub fn choice<T: Copy>(settings: &Settings, key: &str, default: T, words: &[(&str, T)]) -> Result<T, ConfigError> {
    let Some(setting) = settings.get(key) else { return Ok(default) };
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&setting.value));
    found.map(|(_, value)| *value).ok_or_else(|| ConfigError::value(setting, one_of(words)))
}

/// A whole number in a range; hexadecimal with `0x`, as Java's system properties allow.
pub fn number(settings: &Settings, key: &str, default: i64, range: RangeInclusive<i64>) -> Result<i64, ConfigError> {
    settings.get(key).map_or(Ok(default), |setting| number_of(setting, range))
}

/// A whole number of which ZooKeeper takes a smaller one for the least there may be.
pub fn raised(settings: &Settings, key: &str, default: i64, least: i64, warnings: &mut Vec<String>) -> Result<i64, ConfigError> {
    let asked = number(settings, key, default, INT_MIN..=INT_MAX)?;
    if let Some(setting) = settings.get(key).filter(|_| asked < least) {
        warnings.push(format!("{}: {key} is raised to {least}", setting.origin));
    }
    Ok(asked.max(least))
}

/// A limit that is off when it is not positive.
pub fn limit(settings: &Settings, key: &str, default: i64) -> Result<Option<u64>, ConfigError> {
    let number = number(settings, key, default, INT_MIN..=INT_MAX)?;
    Ok(u64::try_from(number).ok().filter(|n| *n > 0))
}

/// A decimal number.
pub fn decimal(settings: &Settings, key: &str, default: f64) -> Result<f64, ConfigError> {
    let Some(setting) = settings.get(key) else { return Ok(default) };
    let number = setting.value.parse::<f64>().ok().filter(|n| n.is_finite());
    number.ok_or_else(|| ConfigError::value(setting, "a number"))
}

/// Like `number`, or the word `auto` for `None`.
pub fn auto_or_number(settings: &Settings, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ConfigError> {
    let Some(setting) = settings.get(key).filter(|s| s.value != "auto") else { return Ok(None) };
    let (low, high) = (*range.start(), *range.end());
    match number_of(setting, range) {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(ConfigError::value(setting, format!("auto or a whole number from {low} to {high}"))),
    }
}

/// Bytes, with an optional k, m or g (of 1024).
pub fn bytes(settings: &Settings, key: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize, ConfigError> {
    let Some(setting) = settings.get(key) else { return Ok(default) };
    let text = setting.value.to_ascii_lowercase();
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 10),
        Some(b'm') => (&text[..text.len() - 1], 20),
        Some(b'g') => (&text[..text.len() - 1], 30),
        _ => (&text[..], 0),
    };
    let value = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|n| range.contains(n));
    value.ok_or_else(|| {
        let (low, high) = (range.start(), range.end());
        ConfigError::value(setting, format!("a number of bytes from {low} to {high} (a trailing k, m or g is allowed)"))
    })
}

/// A whole number in a range.
pub fn number_of(setting: &Setting, range: RangeInclusive<i64>) -> Result<i64, ConfigError> {
    let text = &setting.value;
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with(['+', '-']) => i64::from_str_radix(hex, 16),
        Some(_) | None => text.parse(),
    };
    parsed
        .ok()
        .filter(|n| range.contains(n))
        .ok_or_else(|| ConfigError::value(setting, format!("a whole number from {} to {}", range.start(), range.end())))
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let names: Vec<&str> = words.iter().map(|(word, _)| if word.is_empty() { "(empty)" } else { *word }).collect();
    match &names[..] {
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    }
}

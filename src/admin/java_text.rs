//! Numbers and dates as Java prints them, because tools read them back.

use crate::base::WallTime;

/// A mean rounded to four decimals, printed like Java's `Double.toString`: `0.0`, `1.25`, `5.0E-4`, `1.0E7`.
#[must_use]
pub fn mean(value: f64) -> String {
    let rounded = (value * 10_000.0).round() / 10_000.0;
    double(rounded)
}

/// Java's `Double.toString` for finite values: plain from 1e-3 up to 1e7, else with an exponent; always a decimal.
#[must_use]
pub fn double(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if digits.contains('.') => format!("{digits}E{exponent}"),
        Some((digits, exponent)) => format!("{digits}.0E{exponent}"),
        None => text,
    }
}

/// A UTC minute as in ZooKeeper's version line: `2026-11-22 17:54 UTC`.
#[must_use]
pub fn minute(at: WallTime) -> String {
    let minutes = at.0.div_euclid(60_000);
    let (year, month, day) = civil_from_days(minutes.div_euclid(1_440));
    let of_day = minutes.rem_euclid(1_440);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", of_day / 60, of_day % 60)
}

/// The text of a `java.util.Date` in UTC: `Sun Nov 22 17:54:45 UTC 2026`.
#[must_use]
pub fn date(at: WallTime) -> String {
    let seconds = at.0.div_euclid(1_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let weekday = WEEKDAYS[(days + 4).rem_euclid(7) as usize]; // 1970-01-01 was a Thursday
    let month = MONTHS[month - 1];
    format!("{weekday} {month} {day:02} {:02}:{:02}:{:02} UTC {year}", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Year, month (1 to 12) and day of a day number counted from 1970-01-01, in the Gregorian calendar.
fn civil_from_days(days: i64) -> (i64, usize, i64) {
    // Years are counted from 1 March of year 0, so that a leap day is the last of its year; an era is 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_four_decimals_at_most_and_look_like_javas() {
        for (value, text) in [
            (0.0, "0.0"),
            (2.0, "2.0"),
            (1.0 / 3.0, "0.3333"),
            (0.0312, "0.0312"),
            (0.001, "0.001"),
            (0.0005, "5.0E-4"),
            (0.00012, "1.0E-4"),
            (0.00001, "0.0"),
            (123_456.789_01, "123456.789"),
            (1e7, "1.0E7"),
            (12_345_678.5, "1.23456785E7"),
        ] {
            assert_eq!(mean(value), text, "{value}");
        }
    }

    #[test]
    fn dates_read_like_java_util_date() {
        for (ms, text) in [
            (0, "Thu Jan 01 00:00:00 UTC 1970"),
            (-1, "Wed Dec 31 23:59:59 UTC 1969"),
            (951_782_400_000, "Tue Feb 29 00:00:00 UTC 2000"),
            (1_735_689_599_999, "Tue Dec 31 23:59:59 UTC 2024"),
            (1_772_323_200_000, "Sun Mar 01 00:00:00 UTC 2026"),
            (4_107_542_399_000, "Sun Feb 28 23:59:59 UTC 2100"),
        ] {
            assert_eq!(date(WallTime(ms)), text);
        }
        assert_eq!(minute(WallTime(1_735_689_599_999)), "2024-12-31 23:59 UTC");
    }
}

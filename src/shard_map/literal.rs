//! A key's value as the map writes it → the value as the server holds it.

use crate::shard_map::file::Literal;
use crate::shard_map::function::Key;
use crate::shard_map::function::KeyType;

/// Why a literal is no key: code, message, hint.
pub(super) type Refused = (&'static str, String, String);

/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;

/// Reads `literal` as a value of `key_type`; `wrong_type` is the code when it is not one.
pub(super) fn parse(literal: &Literal, key_type: KeyType, wrong_type: &'static str) -> Result<Key, Refused> {
    let text = literal.text.as_str();
    let wrong = |hint: &str| (wrong_type, format!("`{text}` is not a {key_type}"), hint.to_owned());
    match key_type {
        KeyType::BigInt | KeyType::Int | KeyType::SmallInt => {
            let value: i64 = text.parse().map_err(|_| wrong("Write a whole number in digits."))?;
            let holds = key_type.integers().is_some_and(|range| range.contains(&value));
            // Another reader of YAML takes 010 for 8 and +1 for a text.
            let canonical = value.to_string() == text;
            (holds && canonical).then_some(Key::Int(value)).ok_or_else(|| {
                wrong(if canonical {
                    "The number is beyond what the type holds."
                } else {
                    "Write it without leading zeros or sign."
                })
            })
        }
        KeyType::Text => {
            refuse_untyped(literal)?;
            Ok(Key::Text(text.as_bytes().to_vec()))
        }
        KeyType::Uuid => uuid(text)
            .map(Key::Uuid)
            .ok_or_else(|| wrong("Write its 32 hexadecimal digits, such as a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11.")),
        KeyType::Date => {
            refuse_date(literal)?;
            match text {
                "infinity" => Ok(Key::Date(i32::MAX)),
                "-infinity" => Ok(Key::Date(i32::MIN)),
                _ => date(text).map(Key::Date).ok_or_else(|| wrong("Write a day of the calendar as \"2026-01-31\".")),
            }
        }
        KeyType::TimestampTz => {
            refuse_date(literal)?;
            match text {
                "infinity" => Ok(Key::TimestampTz(i64::MAX)),
                "-infinity" => Ok(Key::TimestampTz(i64::MIN)),
                _ => moment(text).map(Key::TimestampTz).ok_or_else(|| {
                    wrong("Write date, time and time zone, such as \"2026-01-31T00:00:00Z\" or \"2026-01-31T00:00:00+01:00\".")
                }),
            }
        }
        KeyType::Bytea => text
            .strip_prefix("\\x")
            .and_then(bytes)
            .map(Key::Bytea)
            .ok_or_else(|| wrong("Write its bytes in hexadecimal, such as '\\x00ff'.")),
    }
}

/// A plain scalar that YAML takes for a boolean or a number is not a text yet.
fn refuse_untyped(literal: &Literal) -> Result<(), Refused> {
    let text = literal.text.as_str();
    if !literal.plain {
        return Ok(());
    }
    refuse_date(literal)?;
    let quote = format!("Quote it: \"{text}\".");
    if let Some(meaning) = super::read::yaml_bool(text) {
        return Err(("map-yaml-bool", format!("without quotes, YAML reads `{text}` as {meaning}"), quote));
    }
    let number = text.trim_start_matches(['+', '-']).trim_start_matches('.');
    let numeric = number.starts_with(|c: char| c.is_ascii_digit())
        && (text.parse::<f64>().is_ok()
            || number.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | ':' | '.'))
            || number.starts_with("0x")
            || number.starts_with("0o"));
    if numeric {
        return Err(("map-yaml-number", format!("without quotes, YAML reads `{text}` as a number"), quote));
    }
    Ok(())
}

/// Readers of YAML disagree on whether a plain date is a text, a date or a moment.
fn refuse_date(literal: &Literal) -> Result<(), Refused> {
    let text = literal.text.as_str();
    let digits =
        |from: usize, to: usize| text.get(from..to).is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let dash = |at: usize| text.as_bytes().get(at) == Some(&b'-');
    if literal.plain && digits(0, 4) && dash(4) && digits(5, 7) && dash(7) && digits(8, 10) {
        return Err((
            "map-yaml-date",
            format!("without quotes, YAML reads `{text}` as a date of its own"),
            format!("Quote it: \"{text}\"."),
        ));
    }
    Ok(())
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let dashes = text.match_indices('-').map(|(at, _)| at).collect::<Vec<_>>();
    if !dashes.is_empty() && dashes != [8, 13, 18, 23] {
        return None;
    }
    bytes(&text.replace('-', ""))?.try_into().ok()
}

fn bytes(hexadecimal: &str) -> Option<Vec<u8>> {
    let digits = hexadecimal.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let pairs = pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).ok()).collect::<Option<Vec<_>>>()?;
    rest.is_empty().then_some(pairs)
}

/// Days since 2000-01-01.
fn date(text: &str) -> Option<i32> {
    let [year, month, day] = text.split('-').collect::<Vec<_>>().try_into().ok()?;
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if year == 0 || day == 0 || day > length {
        return None;
    }
    // Days of whole years, with March as the first month so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    i32::try_from(days - 730_425).ok()
}

/// Microseconds since 2000-01-01 00:00 UTC.
fn moment(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let days = i64::from(date(day)?);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone);
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (second, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (number(seconds, 2)?, 0),
            Some((seconds, fraction)) if (1..=6).contains(&fraction.len()) => {
                (number(seconds, 2)?, number(&format!("{fraction:0<6}"), 6)?)
            }
            Some(_) => return None,
        },
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (sign, hours) = zone.split_at_checked(1)?;
            let (hours, minutes) = hours.split_once(':').unwrap_or((hours, "00"));
            let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
            if hours > 15 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if sign == "-" { -1 } else { 1 }
        }
    };
    let seconds = (hour * 60 + minute - offset) * 60 + second;
    Some(days * DAY + seconds * 1_000_000 + fraction)
}

/// A number of exactly `digits` digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(text: &str, key_type: KeyType) -> Option<Key> {
        parse(&Literal { text: text.to_owned(), plain: false }, key_type, "map-bound-type").ok()
    }

    fn plain(text: &str, key_type: KeyType) -> Result<Key, &'static str> {
        parse(&Literal { text: text.to_owned(), plain: true }, key_type, "wrong").map_err(|(code, ..)| code)
    }

    #[test]
    fn dates_count_from_2000() {
        // Each as `date '…' - date '2000-01-01'` answers.
        for (text, days) in [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("2000-03-01", 60),
            ("2026-11-21", 9821),
            ("0001-01-01", -730_119),
            ("9999-12-31", 2_921_939),
            ("infinity", i32::MAX),
        ] {
            assert_eq!(quoted(text, KeyType::Date), Some(Key::Date(days)), "{text}");
        }
        for text in ["2026-02-29", "2026-13-01", "2026-1-1", "1900-02-29", "2026-01-00", "2026-01-01 "] {
            assert_eq!(quoted(text, KeyType::Date), None, "{text}");
        }
    }

    #[test]
    fn moments_need_a_time_zone() {
        for (text, microseconds) in [
            ("2000-01-01T00:00:00Z", 0),
            ("1999-12-31T23:59:59.999999Z", -1),
            ("2026-11-21T12:34:56.789+00", 848_579_696_789_000),
            ("2026-11-21 13:34:56.789+01:00", 848_579_696_789_000),
            ("2026-11-21T07:04:56.789-05:30", 848_579_696_789_000),
            ("2000-01-01 00:01Z", 60_000_000),
        ] {
            assert_eq!(quoted(text, KeyType::TimestampTz), Some(Key::TimestampTz(microseconds)), "{text}");
        }
        for text in ["2026-01-01T00:00:00", "2026-01-01", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00.1234567Z", "Z"] {
            assert_eq!(quoted(text, KeyType::TimestampTz), None, "{text}");
        }
    }

    #[test]
    fn integers_keep_to_their_type() {
        assert_eq!(plain("32767", KeyType::SmallInt), Ok(Key::Int(32767)));
        assert_eq!(plain("32768", KeyType::SmallInt), Err("wrong"));
        assert_eq!(plain("-2147483648", KeyType::Int), Ok(Key::Int(-2_147_483_648)));
        assert_eq!(plain("010", KeyType::BigInt), Err("wrong"));
        assert_eq!(plain("1.0", KeyType::BigInt), Err("wrong"));
    }

    #[test]
    fn what_yaml_reads_otherwise_needs_quotes() {
        assert_eq!(plain("NO", KeyType::Text), Err("map-yaml-bool"));
        assert_eq!(quoted("NO", KeyType::Text), Some(Key::Text(b"NO".to_vec())));
        for number in ["1e3", "049", "12:30", "1_000", "0x1F", "-1.5", "007"] {
            assert_eq!(plain(number, KeyType::Text), Err("map-yaml-number"), "{number}");
        }
        for text in ["DE", "4b", "-a", "v1.2", "e5"] {
            assert_eq!(plain(text, KeyType::Text), Ok(Key::Text(text.into())), "{text}");
        }
        assert_eq!(plain("2026-01-01", KeyType::Date), Err("map-yaml-date"));
        assert_eq!(plain("2026-01-01T00:00:00Z", KeyType::TimestampTz), Err("map-yaml-date"));
    }

    #[test]
    fn uuids_and_bytes_are_hexadecimal() {
        let uuid = quoted("A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11", KeyType::Uuid);
        assert!(matches!(uuid, Some(Key::Uuid([0xa0, 0xee, .., 0x11]))));
        assert_eq!(quoted("a0eebc99-9c0b4ef8-bb6d-6bb9bd380a11", KeyType::Uuid), None);
        assert_eq!(quoted("\\x00fF", KeyType::Bytea), Some(Key::Bytea(vec![0, 255])));
        assert_eq!(quoted("\\x0", KeyType::Bytea), None);
    }
}

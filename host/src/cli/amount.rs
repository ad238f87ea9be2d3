//! Sizes and durations as people write them: `64MiB`, `1.5` is refused, `30s`.

use std::time::Duration;

/// Reads a size in bytes: digits, then nothing, `B`, `KiB`, `MiB`, `GiB`, or `KB`, `MB`, `GB` (powers of 1000).
///
/// # Errors
/// A sentence for the user.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or_else(|| expected_size(text))?;
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(expected_size(text)),
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is more than 64 bits can count"))
}

/// Reads a duration: digits and `ms`, `s`, `m`, `h` or `d`; a bare number is refused, since nobody knows its unit.
///
/// # Errors
/// A sentence for the user.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a duration: write a whole number and ms, s, m, h or d, such as 30s");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(wrong()),
    };
    let millis = number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too long to count"))?;
    Ok(Duration::from_millis(millis))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

fn expected_size(text: &str) -> String {
    format!("{text:?} is not a size: write a whole number and B, KiB, MiB or GiB, such as 64MiB")
}

/// `67108864` as `64.0 MiB`.
pub(super) fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog2() / 10).min(4);
    // One digit behind the point, by whole numbers: a float would round 1023.99 KiB up to 1024.
    let tenths = (u128::from(bytes) * 10) >> (10 * exponent);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[exponent as usize - 1])
}

/// Microseconds in the unit that reads best.
pub(super) fn show_micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("10B"), Ok(10));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        for wrong in ["", "MiB", "-1", "1.5MiB", "1 MiB", "1mib", "1TiB", "0x10"] {
            assert!(size(wrong).unwrap_err().contains("is not a size"), "{wrong}");
        }
        assert!(size("18446744073709551615GiB").unwrap_err().contains("64 bits"));
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(2 * 24 * 3600)));
        for wrong in ["", "30", "s", "1.5s", "-1s", "1w", "1 s"] {
            assert!(duration(wrong).unwrap_err().contains("is not a duration"), "{wrong}");
        }
        assert!(duration("18446744073709551615h").is_err());
    }

    #[test]
    fn amounts_are_shown_in_the_unit_that_reads_best() {
        let sizes = [0, 1023, 1024, 1536, (1 << 20) - 1, 64 << 20, u64::MAX].map(show_size);
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "64.0 MiB", "16777215.9 TiB"];
        assert_eq!(sizes, expected);
        let times = [0, 999, 1_000, 1_550, 999_999, 1_000_000, 61_230_000].map(show_micros);
        assert_eq!(times, ["0 µs", "999 µs", "1.0 ms", "1.5 ms", "999.9 ms", "1.00 s", "61.23 s"]);
    }
}

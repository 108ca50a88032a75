//! Decimals: numbers as a document writes them, exactly, with any number of digits. Money is never rounded here. Multiplies and
//! compares; the caller refuses an operation that would need rounding.

use std::cmp::Ordering;
use std::fmt;

/// Beyond this many digits a number is refused: no amount has them, and multiplying would cost more than the attempt.
const MOST_DIGITS: usize = 400;

/// An exact decimal number: `digits` times ten to the power of `-scale`.
#[derive(Debug, Clone)]
pub struct Decimal {
    is_negative: bool,
    /// Most significant first, without leading zeros; empty: zero.
    digits: Vec<u8>,
    /// Digits behind the point; `12.50` has 2. Never negative: `1e2` is 100.
    scale: usize,
}

impl Decimal {
    /// Reads a JSON number: `-12.50`, `1e3`. `None`: it is none, or has more than 400 digits when written out.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let has_leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || has_leading_zero || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
        let scale = i64::try_from(fraction.len()).ok()? - exponent;
        Self::new(is_negative, digits, scale)
    }

    fn new(is_negative: bool, mut digits: Vec<u8>, scale: i64) -> Option<Self> {
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..leading);
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, scale: usize::try_from(scale.max(0)).ok()?.min(MOST_DIGITS) });
        }
        if scale < 0 {
            let zeros = usize::try_from(-scale).ok().filter(|zeros| *zeros <= MOST_DIGITS)?;
            digits.resize(digits.len() + zeros, 0);
        }
        let scale = usize::try_from(scale.max(0)).ok()?;
        (digits.len() <= MOST_DIGITS && scale <= MOST_DIGITS).then_some(Self { is_negative, digits, scale })
    }

    /// The exact product; it has as many digits behind the point as both together. `None`: more than 400 digits.
    pub fn times(&self, other: &Self) -> Option<Self> {
        let mut sums = vec![0_u32; self.digits.len() + other.digits.len()];
        for (i, a) in self.digits.iter().enumerate() {
            for (j, b) in other.digits.iter().enumerate() {
                sums[i + j + 1] += u32::from(*a) * u32::from(*b);
            }
        }
        for at in (1..sums.len()).rev() {
            sums[at - 1] += sums[at] / 10;
            sums[at] %= 10;
        }
        let digits = sums.into_iter().map(|digit| u8::try_from(digit).expect("carried over")).collect();
        let scale = i64::try_from(self.scale + other.scale).ok()?;
        Self::new(self.is_negative != other.is_negative, digits, scale)
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// As a whole number, if it is one: `12.00` is `12`. `None`: there is something behind the point.
    pub fn to_integer(&self) -> Option<Self> {
        let keep = self.digits.len().saturating_sub(self.scale);
        let is_whole = self.digits[keep..].iter().all(|digit| *digit == 0);
        is_whole.then(|| Self { is_negative: self.is_negative, digits: self.digits[..keep].to_vec(), scale: 0 })
    }

    /// Whether `self` is a whole multiple of `other`. `None`: too long to tell, or `other` is zero.
    pub fn is_multiple_of(&self, other: &Self) -> Option<bool> {
        let scale = self.scale.max(other.scale);
        let (value, divisor) = (self.at_scale(scale)?, other.at_scale(scale)?);
        let divisor: u128 = divisor.parse().ok().filter(|divisor| *divisor > 0 && *divisor < u128::MAX / 16)?;
        let rest = value.bytes().fold(0_u128, |rest, digit| (rest * 10 + u128::from(digit - b'0')) % divisor);
        Some(rest == 0)
    }

    /// The digits without a sign, as if there were `scale` behind the point.
    fn at_scale(&self, scale: usize) -> Option<String> {
        let zeros = scale.checked_sub(self.scale)?;
        let digits = self.digits.iter().copied().chain(std::iter::repeat_n(0, zeros));
        let text: String = digits.map(|digit| char::from(b'0' + digit)).collect();
        Some(if text.is_empty() { "0".to_owned() } else { text })
    }

    fn compare_sizes(&self, other: &Self) -> Ordering {
        let scale = self.scale.max(other.scale);
        let text = |decimal: &Self| decimal.at_scale(scale).expect("the larger scale");
        let (a, b) = (text(self), text(other));
        let strip = |text: &str| text.trim_start_matches('0').to_owned();
        let (a, b) = (strip(&a), strip(&b));
        a.len().cmp(&b.len()).then_with(|| a.cmp(&b))
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let most = i64::try_from(MOST_DIGITS).ok()?;
    text.strip_prefix('+').unwrap_or(text).parse::<i64>().ok().filter(|exponent| exponent.abs() <= most)
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    /// By value: `1.50` is `1.5`.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.compare_sizes(other),
            (true, true) => other.compare_sizes(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl fmt::Display for Decimal {
    /// Written out, without an exponent, with all digits behind the point that it has: a JSON number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text: String = self.digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        if text.len() <= self.scale {
            text.insert_str(0, &"0".repeat(self.scale + 1 - text.len()));
        }
        if self.scale > 0 {
            text.insert(text.len() - self.scale, '.');
        }
        write!(f, "{}{text}", if self.is_negative { "-" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn a_number_keeps_its_digits() {
        for (text, want) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.00", "0.00"),
            ("12.50", "12.50"),
            ("1e2", "100"),
            ("-1.5E-3", "-0.0015"),
            ("9007199254740993", "9007199254740993"),
            ("0.1", "0.1"),
        ] {
            assert_eq!(decimal(text).to_string(), want, "{text}");
        }
        for text in ["", "-", "+1", "01", ".5", "1.", "1e", "1e9999999999", "NaN", "1 ", "0x1", "1_0", "٣", "1e401"] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_product_is_exact() {
        for (a, b, want) in [
            ("1250", "0.01", "12.50"),
            ("12.50", "100", "1250.00"),
            ("-0.1", "0.2", "-0.02"),
            ("9007199254740993", "0.01", "90071992547409.93"),
            ("99999999999999999999", "99999999999999999999", "9999999999999999999800000000000000000001"),
            ("0", "-5", "0"),
        ] {
            assert_eq!(decimal(a).times(&decimal(b)).map(|product| product.to_string()).as_deref(), Some(want));
        }
        assert!(decimal(&"9".repeat(400)).times(&decimal("10")).is_none());
    }

    #[test]
    fn only_a_whole_number_is_an_integer() {
        for (text, want) in [("1250.00", Some("1250")), ("0.00", Some("0")), ("12.5", None), ("0.001", None), ("-3", Some("-3"))] {
            assert_eq!(decimal(text).to_integer().map(|whole| whole.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_multiple_is_found_without_rounding() {
        for (a, b, want) in
            [("10", "5", true), ("10.0", "5", true), ("0.3", "0.1", true), ("7", "13", false), ("0.35", "0.1", false)]
        {
            assert_eq!(decimal(a).is_multiple_of(&decimal(b)), Some(want), "{a} {b}");
        }
        assert_eq!(decimal("1").is_multiple_of(&decimal("0")), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_whole_numbers(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
            let (x, y) = (decimal(&a.to_string()), decimal(&b.to_string()));
            prop_assert_eq!(x.times(&y).map(|product| product.to_string()), Some((i128::from(a) * i128::from(b)).to_string()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }

        #[test]
        fn what_is_read_is_written_with_the_same_value(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?") {
            let number = decimal(&text);
            prop_assert_eq!(&decimal(&number.to_string()), &number);
            let (written, want): (f64, f64) = (number.to_string().parse().expect("a number"), text.parse().expect("a number"));
            prop_assert_eq!(written, want, "{} {}", text, number);
        }
    }
}

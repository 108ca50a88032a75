//! Card numbers. They are private from the request to the end of the transaction; the last four digits are all that anybody may keep.

use outboxd::uow::Private;

use super::Refused;

/// Whether this is a card number at all: 12 to 19 digits that pass the check of Luhn, blanks between them as people like.
pub fn check_card(card: &Private<String>) -> Result<(), Refused> {
    let digits = digits(card).ok_or(Refused::Card)?;
    let doubled = |(place, digit): (usize, &u32)| match place % 2 {
        0 => *digit,
        _ => digit * 2 / 10 + digit * 2 % 10,
    };
    let sum: u32 = digits.iter().rev().enumerate().map(doubled).sum();
    if (12..=19).contains(&digits.len()) && sum.is_multiple_of(10) { Ok(()) } else { Err(Refused::Card) }
}

/// What may be printed on a receipt.
pub fn last_four(card: &Private<String>) -> String {
    let digits = digits(card).unwrap_or_default();
    digits[digits.len().saturating_sub(4)..].iter().map(u32::to_string).collect()
}

fn digits(card: &Private<String>) -> Option<Vec<u32>> {
    card.expose().chars().filter(|c| *c != ' ').map(|c| c.to_digit(10)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_has_digits_that_pass_the_check() {
        for (number, is_one) in [("4111 1111 1111 1111", true), ("4111111111111112", false), ("0", false), ("4111-1111", false)] {
            assert_eq!(check_card(&Private::new(number.to_owned())).is_ok(), is_one, "{number}");
        }
        assert_eq!(last_four(&Private::new("4111 1111 1111 1234".to_owned())), "1234");
    }
}

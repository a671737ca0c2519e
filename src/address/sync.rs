//! Sync addresses: `<prefix>-<secret>` (CONTRACT, "Addresses").

/// The local part of a new sync address: up to 20 of `[a-z0-9]` from the user's name, a hyphen, and 60 random
/// bits in lower-case Crockford base32. Only the low 60 bits of `random` count.
#[must_use]
pub fn local_part(name: &str, random: u64) -> String {
    let mut prefix: String =
        name.chars().flat_map(ascii_letters).filter(char::is_ascii_alphanumeric).take(20).collect();
    if prefix.is_empty() {
        prefix.push_str("user");
    }
    let secret = (0..12).rev().map(|digit| super::token::digit(random >> (digit * 5)));
    prefix.push('-');
    prefix.extend(secret);
    prefix
}

/// What stays of a local part, by its keyed hash, when its user is erased. None that was handed out begins like it.
#[must_use]
pub fn erased(hash: &[u8; 16]) -> String {
    format!("{ERASED}{:032x}", u128::from_be_bytes(*hash))
}

/// Whether it is what stays of an erased one.
#[must_use]
pub fn is_erased(local_part: &str) -> bool {
    local_part.starts_with(ERASED)
}

const ERASED: &str = "-";

/// The plain letters of a character: `Ü` → `ue`, `é` → `e`; nothing for what has none.
fn ascii_letters(c: char) -> std::vec::IntoIter<char> {
    let plain: Vec<char> = match c.to_lowercase().next().unwrap_or(c) {
        'ä' | 'æ' => vec!['a', 'e'],
        'ö' | 'œ' | 'ø' => vec!['o', 'e'],
        'ü' => vec!['u', 'e'],
        'ß' => vec!['s', 's'],
        'á' | 'à' | 'â' | 'ã' | 'å' | 'ą' | 'ă' => vec!['a'],
        'é' | 'è' | 'ê' | 'ë' | 'ę' | 'ě' => vec!['e'],
        'í' | 'ì' | 'î' | 'ï' | 'ı' => vec!['i'],
        'ó' | 'ò' | 'ô' | 'õ' | 'ő' => vec!['o'],
        'ú' | 'ù' | 'û' | 'ů' | 'ű' => vec!['u'],
        'ñ' | 'ń' | 'ň' => vec!['n'],
        'ç' | 'ć' | 'č' => vec!['c'],
        'ś' | 'š' | 'ş' | 'ș' => vec!['s'],
        'ź' | 'ż' | 'ž' => vec!['z'],
        'ł' => vec!['l'],
        'ý' | 'ÿ' => vec!['y'],
        'ř' => vec!['r'],
        'đ' | 'ď' => vec!['d'],
        'ť' | 'ț' => vec!['t'],
        'ğ' => vec!['g'],
        plain => vec![plain],
    };
    plain.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_comes_from_the_name_and_the_secret_from_60_bits() {
        assert_eq!(local_part("Dr. Jürgen Weiß", 0), "drjuergenweiss-000000000000");
        assert_eq!(local_part("Ana María Peña", u64::MAX), "anamariapena-zzzzzzzzzzzz");
        assert_eq!(local_part("李", 1), "user-000000000001");
        assert_eq!(local_part(&"x".repeat(99), 31).len(), 33);
    }

    #[test]
    fn what_stays_of_an_erased_address_is_no_address_of_anybody() {
        assert_eq!(erased(&[1; 16]), "-01010101010101010101010101010101");
        assert!(is_erased(&erased(&[0xff; 16])));
        for name in ["", "-", "Ana", "---Ana"] {
            assert!(!is_erased(&local_part(name, 7)), "{name}");
        }
    }
}

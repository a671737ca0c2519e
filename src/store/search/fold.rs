//! Letters as search compares them: lower case, without diacritics, ligatures and old forms written out.
//!
//! One letter at a time and the same for ever: what has been indexed is found by what is folded later.

use std::collections::HashMap;
use std::sync::OnceLock;

/// How a character takes part in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Stands between words.
    Between,
    /// Of a script that puts no space between words: each character is a word, and neighbours are indexed in pairs.
    Unspaced,
    /// Of a word.
    Letter,
    /// Says nothing, and parts nothing: a diacritic, a soft hyphen, a joiner.
    Silent,
}

impl Class {
    pub(super) fn of(c: char) -> Self {
        if c.is_ascii() {
            return if c.is_ascii_alphanumeric() { Self::Letter } else { Self::Between };
        }
        if is_in(c, SILENT) {
            Self::Silent
        } else if is_in(c, UNSPACED) {
            Self::Unspaced
        } else if c.is_alphanumeric() || is_in(c, INDIC_SIGNS) {
            Self::Letter
        } else {
            Self::Between
        }
    }
}

/// Adds the folded form.
pub(super) fn push_folded(to: &mut String, c: char) {
    if c.is_ascii() {
        to.push(c.to_ascii_lowercase());
        return;
    }
    // Full-width Latin, as Japanese keyboards write it.
    let narrow = u32::from(c).checked_sub(WIDE_OFFSET).and_then(char::from_u32);
    let c = narrow.filter(char::is_ascii_graphic).unwrap_or(c);
    for lower in c.to_lowercase() {
        match bases().get(&lower) {
            Some(base) => to.push_str(base),
            None if is_in(lower, SILENT) => {}
            None => to.push(lower),
        }
    }
}

fn bases() -> &'static HashMap<char, &'static str> {
    static BASES: OnceLock<HashMap<char, &'static str>> = OnceLock::new();
    BASES.get_or_init(|| {
        let forms =
            |&(base, forms): &(&'static str, &'static str)| forms.chars().map(move |form| (form, base));
        VARIANTS.iter().flat_map(forms).collect()
    })
}

fn is_in(c: char, ranges: &[(char, char)]) -> bool {
    let behind = ranges.partition_point(|(_, last)| *last < c);
    ranges.get(behind).is_some_and(|(first, _)| *first <= c)
}

/// From ASCII to the full-width forms (Unicode block "Halfwidth and Fullwidth Forms").
const WIDE_OFFSET: u32 = 0xfee0;

/// Combining diacritics, Hebrew points, Arabic vowel signs and tatweel, variation selectors, joiners, soft hyphen.
const SILENT: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{300}', '\u{36f}'),
    ('\u{483}', '\u{487}'),
    ('\u{591}', '\u{5bd}'),
    ('\u{5bf}', '\u{5bf}'),
    ('\u{5c1}', '\u{5c2}'),
    ('\u{5c4}', '\u{5c5}'),
    ('\u{5c7}', '\u{5c7}'),
    ('\u{610}', '\u{61a}'),
    ('\u{640}', '\u{640}'),
    ('\u{64b}', '\u{65f}'),
    ('\u{670}', '\u{670}'),
    ('\u{6d6}', '\u{6dc}'),
    ('\u{6df}', '\u{6e8}'),
    ('\u{6ea}', '\u{6ed}'),
    ('\u{1ab0}', '\u{1aff}'),
    ('\u{1dc0}', '\u{1dff}'),
    ('\u{200c}', '\u{200d}'),
    ('\u{2060}', '\u{2060}'),
    ('\u{20d0}', '\u{20ff}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{fe20}', '\u{fe2f}'),
    ('\u{feff}', '\u{feff}'),
];

/// Thai, Lao, Burmese, Khmer, Chinese, Japanese; Korean too, whose particles are written onto the words.
const UNSPACED: &[(char, char)] = &[
    ('\u{e01}', '\u{e3a}'),
    ('\u{e40}', '\u{e4e}'),
    ('\u{e50}', '\u{e59}'),
    ('\u{e81}', '\u{ecf}'),
    ('\u{ed0}', '\u{ed9}'),
    ('\u{edc}', '\u{edf}'),
    ('\u{1000}', '\u{1049}'),
    ('\u{1050}', '\u{109d}'),
    ('\u{1780}', '\u{17d3}'),
    ('\u{17dc}', '\u{17dd}'),
    ('\u{17e0}', '\u{17e9}'),
    ('\u{3005}', '\u{3007}'),
    ('\u{3041}', '\u{3096}'),
    ('\u{309d}', '\u{309f}'),
    ('\u{30a1}', '\u{30fa}'),
    ('\u{30fc}', '\u{30ff}'),
    ('\u{3105}', '\u{312f}'),
    ('\u{31f0}', '\u{31ff}'),
    ('\u{3400}', '\u{4dbf}'),
    ('\u{4e00}', '\u{9fff}'),
    ('\u{ac00}', '\u{d7a3}'),
    ('\u{f900}', '\u{faff}'),
    ('\u{ff66}', '\u{ff9f}'),
    ('\u{20000}', '\u{3ffff}'),
];

/// Signs inside the words of Indic scripts that Unicode counts neither as letters nor as digits: nukta, virama,
/// accents.
const INDIC_SIGNS: &[(char, char)] = &[
    ('\u{93c}', '\u{93c}'),
    ('\u{94d}', '\u{94d}'),
    ('\u{951}', '\u{954}'),
    ('\u{9bc}', '\u{9bc}'),
    ('\u{9cd}', '\u{9cd}'),
    ('\u{9fe}', '\u{9fe}'),
    ('\u{a3c}', '\u{a3c}'),
    ('\u{a4d}', '\u{a4d}'),
    ('\u{abc}', '\u{abc}'),
    ('\u{acd}', '\u{acd}'),
    ('\u{b3c}', '\u{b3c}'),
    ('\u{b4d}', '\u{b4d}'),
    ('\u{bcd}', '\u{bcd}'),
    ('\u{c3c}', '\u{c3c}'),
    ('\u{c4d}', '\u{c4d}'),
    ('\u{cbc}', '\u{cbc}'),
    ('\u{ccd}', '\u{ccd}'),
    ('\u{d3b}', '\u{d3c}'),
    ('\u{d4d}', '\u{d4d}'),
    ('\u{dca}', '\u{dca}'),
];

/// What a letter is compared as, and the letters that are: Unicode's decompositions without their marks, and what
/// people write for one another.
const VARIANTS: &[(&str, &str)] = &[
    ("a", "àáâãäåāăąǎǟǡǻȁȃȧḁẚạảấầẩẫậắằẳẵặ"),
    ("ae", "æǽǣ"),
    ("b", "ḃḅḇ"),
    ("c", "çćĉċčḉ"),
    ("d", "ďḋḍḏḑḓđð"),
    ("dz", "ǆǳ"),
    ("e", "èéêëēĕėęěȅȇȩḕḗḙḛḝẹẻẽếềểễệǝ"),
    ("f", "ḟ"),
    ("ff", "ﬀ"),
    ("ffi", "ﬃ"),
    ("ffl", "ﬄ"),
    ("fi", "ﬁ"),
    ("fl", "ﬂ"),
    ("g", "ĝğġģǧǵḡ"),
    ("h", "ĥȟḣḥḧḩḫẖħ"),
    ("i", "ìíîïĩīĭįǐȉȋḭḯỉịı"),
    ("ij", "ĳ"),
    ("j", "ĵǰ"),
    ("k", "ķǩḱḳḵ"),
    ("l", "ĺļľŀḷḹḻḽł"),
    ("lj", "ǉ"),
    ("m", "ḿṁṃ"),
    ("n", "ñńņňŉǹṅṇṉṋŋ"),
    ("nj", "ǌ"),
    ("o", "òóôõöōŏőơǒǫǭȍȏȫȭȯȱṍṏṑṓọỏốồổỗộớờởỡợøǿ"),
    ("oe", "œ"),
    ("p", "ṕṗ"),
    ("r", "ŕŗřȑȓṙṛṝṟ"),
    ("s", "śŝşšſșṡṣṥṧṩẛ"),
    ("ss", "ß"),
    ("st", "ﬅﬆ"),
    ("t", "ţťțṫṭṯṱẗŧ"),
    ("th", "þ"),
    ("u", "ùúûüũūŭůűųưǔǖǘǚǜȕȗṳṵṷṹṻụủứừửữự"),
    ("v", "ṽṿ"),
    ("w", "ŵẁẃẅẇẉẘ"),
    ("x", "ẋẍ"),
    ("y", "ýÿŷȳẏẙỳỵỷỹ"),
    ("z", "źżžẑẓẕ"),
    ("ʒ", "ǯ"),
    ("α", "άἀἁἂἃἄἅἆἇὰάᾀᾁᾂᾃᾄᾅᾆᾇᾰᾱᾲᾳᾴᾶᾷ"),
    ("β", "ϐ"),
    ("ε", "έϵἐἑἒἓἔἕὲέ"),
    ("η", "ήἠἡἢἣἤἥἦἧὴήᾐᾑᾒᾓᾔᾕᾖᾗῂῃῄῆῇ"),
    ("θ", "ϑ"),
    ("ι", "ΐίϊἰἱἲἳἴἵἶἷὶίιῐῑῒΐῖῗ"),
    ("κ", "ϰ"),
    ("ο", "όὀὁὂὃὄὅὸό"),
    ("π", "ϖ"),
    ("ρ", "ϱῤῥ"),
    ("σ", "ςϲ"),
    ("υ", "ΰϋύϒϓϔὐὑὒὓὔὕὖὗὺύῠῡῢΰῦῧ"),
    ("φ", "ϕ"),
    ("ω", "ώὠὡὢὣὤὥὦὧὼώᾠᾡᾢᾣᾤᾥᾦᾧῲῳῴῶῷ"),
    ("а", "ӑӓ"),
    ("г", "ѓ"),
    ("е", "ѐёӗ"),
    ("ж", "ӂӝ"),
    ("з", "ӟ"),
    ("и", "йѝӣӥ"),
    ("к", "ќ"),
    ("о", "ӧ"),
    ("у", "ўӯӱӳ"),
    ("ч", "ӵ"),
    ("ы", "ӹ"),
    ("э", "ӭ"),
    ("і", "ї"),
    ("ѵ", "ѷ"),
    ("ә", "ӛ"),
    ("ө", "ӫ"),
    ("ا", "أإآٱ"),
    ("ه", "ة"),
    ("ي", "ى"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let mut folded = String::new();
        text.chars().for_each(|c| push_folded(&mut folded, c));
        folded
    }

    #[test]
    fn case_and_diacritics_say_nothing() {
        for (written, compared) in [
            ("Änderung", "anderung"),
            ("STRASSE", "strasse"),
            ("Straße", "strasse"),
            ("Nguyễn", "nguyen"),
            ("e\u{301}te\u{301}", "ete"),
            ("İstanbul", "istanbul"),
            ("Łódź", "lodz"),
            ("Ὀδυσσεύς", "οδυσσευσ"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
            ("Ёлка", "елка"),
            ("ＡＢＣ１２３", "abc123"),
            ("œuvre ﬁn", "oeuvre fin"),
            ("مُحَمَّد", "محمد"),
        ] {
            assert_eq!(folded(written), compared, "{written}");
        }
    }

    #[test]
    fn folding_twice_changes_nothing() {
        let all = (0..=0x2_ffff).filter_map(char::from_u32);
        for c in all.filter(|c| matches!(Class::of(*c), Class::Letter | Class::Unspaced)) {
            let once = folded(&c.to_string());
            assert_eq!(folded(&once), once, "{c} U+{:04x}", u32::from(c));
            assert!(!once.is_empty(), "{c}");
        }
    }

    #[test]
    fn ranges_are_in_order() {
        for ranges in [SILENT, UNSPACED, INDIC_SIGNS] {
            assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
            assert!(ranges.iter().all(|(first, last)| first <= last));
        }
        assert_eq!(Class::of('\u{94d}'), Class::Letter);
        assert_eq!(Class::of('\u{3002}'), Class::Between);
        assert_eq!(Class::of('本'), Class::Unspaced);
    }
}

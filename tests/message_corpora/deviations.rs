//! Where we read a mail of `../shared/corpora/mime` otherwise than the parsers which agree about it, by id and field.
//! A deviation that is not here fails the test, and so does one that is here and has gone.

use Reason::{CharactersGivenUp, FieldTwice, HeaderWithoutEnd, HtmlAlone, NoAuthor, NoBoundary};

/// Why we read otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    CharactersGivenUp,
    FieldTwice,
    HeaderWithoutEnd,
    HtmlAlone,
    NoAuthor,
    NoBoundary,
}

impl Reason {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            CharactersGivenUp => "the others give up on the charset, we read it",
            FieldTwice => {
                "a field that may stand once stands again: the last counts, which a DKIM signature covers"
            }
            HeaderWithoutEnd => "no blank line ends the header: what is no field in it is passed over",
            HtmlAlone => "HTML alone: its words are text to us, the others have none",
            NoAuthor => "words behind the author: no author (R10), where the others take what they can",
            NoBoundary => {
                "a multipart whose boundary is missing or never met: shown as text, the others drop it"
            }
        }
    }

    /// Whether the others have said nothing to agree with: such a field does not count in the score.
    pub(crate) const fn has_no_consensus(self) -> bool {
        matches!(self, CharactersGivenUp | HtmlAlone)
    }
}

/// Id, field, reason.
#[rustfmt::skip]
pub(crate) const DEVIATIONS: &[(&str, &str, Reason)] = &[
    ("cpython-email/msg_17.txt", "text", NoBoundary),
    ("cpython-email/msg_20.txt", "cc_addr", FieldTwice),
    ("cpython-email/msg_25.txt", "text", NoBoundary),
    ("cpython-email/msg_25.txt", "to", FieldTwice),
    ("cpython-email/msg_25.txt", "to_addr", FieldTwice),
    ("cpython-email/msg_31.txt", "text", NoBoundary),
    ("cpython-email/msg_40.txt", "text", HtmlAlone),
    ("cpython-email/msg_41.txt", "text", NoBoundary),
    ("enmime/attachment-only-inline-quoted-printable.raw", "text", HtmlAlone),
    ("enmime/html-only-inline.raw", "text", HtmlAlone),
    ("enmime/low-quality_html-only-inline.raw", "text", HtmlAlone),
    ("enmime/malformed-multiple-address-header-values.raw", "from_addr", NoAuthor),
    ("enmime/mime-mixed-related.raw", "text", HtmlAlone),
    ("enmime/multipart-wo-boundary.raw", "text", NoBoundary),
    ("enmime/non-mime-html-charset-header-only.raw", "text", HtmlAlone),
    ("enmime/non-mime-html.raw", "text", HtmlAlone),
    ("enmime/non-mime-missing-charset.raw", "text", HtmlAlone),
    ("enmime/qp-utf8-header-no-break.raw", "has_html", HeaderWithoutEnd),
    ("enmime/unk-charset-html-only.raw", "text", HtmlAlone),
    ("letters/test_finnish_multipart_signed_iso-8859-15_over_base64.txt", "text", CharactersGivenUp),
    ("letters/test_icelandic_multipart_signed_iso-8859-1_over_quoted-printable.txt", "text", CharactersGivenUp),
    ("letters/test_japanese_multipart_signed_iso-2022-jp_over_7bit.txt", "text", CharactersGivenUp),
    ("letters/test_japanese_multipart_signed_iso-2022-jp_over_base64.txt", "text", CharactersGivenUp),
    ("letters/test_japanese_multipart_signed_iso-2022-jp_over_quoted-printable.txt", "text", CharactersGivenUp),
    ("mime4j/ending-boundaries.msg", "text", NoBoundary),
    ("mime4j/missing-boundary.msg", "text", NoBoundary),
    ("mime4j/missing-inner-boundary.msg", "text", NoBoundary),
    ("mime4j/missing-inner-start-boundary.msg", "text", NoBoundary),
    ("mime4j/multipartnopart.msg", "text", NoBoundary),
    ("mimetools/badbound.msg", "text", NoBoundary),
    ("mimetools/multi-bad.msg", "text", FieldTwice),
    ("nodemailer/spam.eml", "text", HtmlAlone),
    ("zbateson/github-102-01.txt", "subject", CharactersGivenUp),
    ("zbateson/github-102-02.txt", "subject", CharactersGivenUp),
    ("zbateson/github-102-02.txt", "text", CharactersGivenUp),
    ("zbateson/m0001.txt", "subject", CharactersGivenUp),
    ("zbateson/m0002.txt", "subject", CharactersGivenUp),
    ("zbateson/m0003.txt", "subject", CharactersGivenUp),
    ("zbateson/m0009.txt", "subject", CharactersGivenUp),
    ("zbateson/m0009.txt", "text", CharactersGivenUp),
    ("zbateson/m0023.txt", "subject", CharactersGivenUp),
    ("zbateson/m1006.txt", "text", HtmlAlone),
    ("zbateson/m1010.txt", "text", CharactersGivenUp),
    ("zbateson/m2003.txt", "text", HtmlAlone),
    ("zbateson/m2006.txt", "text", HtmlAlone),
    ("zbateson/m2007.txt", "text", HtmlAlone),
    ("zbateson/m2009.txt", "text", HtmlAlone),
    ("zbateson/m2015.txt", "subject", CharactersGivenUp),
    ("zbateson/m4001.txt", "subject", CharactersGivenUp),
];
